"""YOLO labels: a text file for each image, a row for each object (`trtcal.tasks.truth.yolo_rows`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError, listed
from trtcal.tasks.found import Floats, Found
from trtcal.tasks.truth import dataset_file
from trtcal.tasks.truth.boxes import within
from trtcal.tasks.truth.dataset_file import DatasetFile
from trtcal.tasks.truth.found import MEASURES, split
from trtcal.tasks.truth.numbering import Numbering, by_name
from trtcal.tasks.truth.segmentations import area
from trtcal.tasks.truth.truth import Asked, Truth, known
from trtcal.tasks.truth.yolo_rows import BOX, Row, check_parts, point_shape, read_rows


def yolo_truth(folder: Path, files: Mapping[str, str], asked: Asked) -> Truth:
    """Read YOLO labels: boxes, polygons, or boxes and points.

    Images without a file have no object. Classes are the model's by name, where its names and those of the labels
    (`trtcal.tasks.truth.dataset_file`) are known; else they are its class numbers.

    Args:
        folder: Of the files and of all folders in it.
        files: By the image's name, relative to `folder`; at least one.
        asked: What for.

    Raises:
        DataError: A file cannot be read, a row is not as its kind must be, or there is none.
    """
    dataset = dataset_file.beside(folder)
    names = list(asked.sizes)
    of, rows, notes = _rows(folder, files, names)
    numbering = _numbered(rows, dataset, asked)
    shape = point_shape(rows, dataset.points if dataset else None, sure=asked.kind == "keypoints")
    sizes = np.array(list(asked.sizes.values()), np.int64)[of]
    if asked.kind == "keypoints":
        boxes, points = _with_points(rows, shape), _points(rows, shape, sizes)
        polygons = None
    else:
        points = None
        polygons = _polygons(rows, sizes) if asked.kind == "segment" else None
        boxes = _with_points(rows, shape) if shape else np.array([_box(row) for row in rows], np.float64)
    cut, outside = within(boxes * np.tile(sizes[:, ::-1], 2), sizes, lambda index: rows[index].where)
    every = Found(
        cut,
        np.ones(len(rows)),
        np.array([numbering.number[row.number] for row in rows], np.int64),
        None if polygons is None else tuple([polygon] for polygon in polygons),
        points,
        None,
        None if polygons is None else np.array([area([polygon]) for polygon in polygons]),
    )
    by_image = split(every, of, len(names))
    return Truth(
        MEASURES[asked.kind],
        numbering.names,
        (numbering.note, *notes, *outside),
        known(dict(zip(names, by_image, strict=True))),
    )


def _rows(
    folder: Path, files: Mapping[str, str], names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], list[Row], list[str]]:
    """The image of each row, by position; the rows; and what should be known."""
    of, rows, repeated = list[int](), list[Row](), 0
    for position, name in enumerate(names):
        if name in files:
            own, more = read_rows(folder / files[name], files[name])
            rows += own
            of += [position] * len(own)
            repeated += more
    if not rows:
        raise DataError(f"the {len(files)} files of these {len(names)} images are empty: there is nothing to find")
    notes = []
    without = [name for name in names if name not in files]
    if without:
        notes.append(f"{len(without)} of {len(names)} images have no label file, and so no object: {listed(without)}")
    if repeated:
        notes.append(f"{repeated} rows stand twice in their file, and count once")
    return np.array(of, np.int64), rows, notes


def _numbered(rows: Sequence[Row], dataset: DatasetFile | None, asked: Asked) -> Numbering:
    used = {row.number: row.where for row in reversed(rows)}  # where each is first
    if dataset is not None:
        strange = next((number for number in used if number not in dataset.names), None)
        if strange is not None:
            raise DataError(f"{used[strange]}: {dataset.path} names {len(dataset.names)} classes, and not {strange}")
        if asked.class_names:
            return by_name(dataset.names, used, asked.class_names)
    beyond = next((number for number in used if asked.classes is not None and number >= asked.classes), None)
    if beyond is not None:
        raise DataError(
            f"{used[beyond]}: class {beyond} is beyond the {asked.classes} classes that the model tells apart, from 0"
        )
    names: Sequence[str] = asked.class_names
    if dataset is not None:
        names = tuple(dataset.names.get(number, str(number)) for number in range(max(dataset.names) + 1))
    told = f", named in {dataset.path}" if dataset else ""
    return Numbering({number: number for number in used}, tuple(names), f"classes are the labels' own numbers{told}")


def _box(row: Row) -> tuple[float, ...]:
    """Left, top, right, bottom as parts of the image."""
    if len(row.values) == BOX - 1:
        return _of_centre(row)
    xs, ys = _polygon(row)
    return min(xs), min(ys), max(xs), max(ys)


def _of_centre(row: Row) -> tuple[float, ...]:
    x, y, width, height = row.values[: BOX - 1]
    check_parts(row, (x, y, width, height))
    if width < 0 or height < 0:
        raise DataError(f"{row.where}: a width or height is below 0")
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _polygon(row: Row) -> tuple[list[float], list[float]]:
    if len(row.values) == BOX - 1:
        raise DataError(f"{row.where}: it is a box and no mask: give rows of class and polygon")
    if len(row.values) < 6 or len(row.values) % 2:
        raise DataError(
            f"{row.where}: it has {len(row.values) + 1} columns, and a row is class, x, y, width, height, or class and "
            "x and y of three points or more; predictions with a score are no labels"
        )
    check_parts(row, row.values)
    return row.values[::2], row.values[1::2]


def _polygons(rows: Sequence[Row], sizes: npt.NDArray[np.int64]) -> list[list[float]]:
    """X and y in turn, in pixels."""
    polygons = []
    for row, (height, width) in zip(rows, sizes.tolist(), strict=True):
        xs, ys = _polygon(row)
        polygons.append([each for x, y in zip(xs, ys, strict=True) for each in (x * width, y * height)])
    return polygons


def _with_points(rows: Sequence[Row], shape: tuple[int, int] | None) -> Floats:
    if shape is None:
        raise DataError(
            f"{rows[0].where}: it has {len(rows[0].values) + 1} columns: rows with points are class, x, y, width, "
            "height and then x, y and perhaps visibility of each point, as many in all rows"
        )
    columns = BOX + shape[0] * shape[1]
    strange = next((row for row in rows if len(row.values) + 1 != columns), None)
    if strange is not None:
        raise DataError(
            f"{strange.where}: it has {len(strange.values) + 1} columns, and {shape[0]} points of {shape[1]} numbers "
            f"make {columns}"
        )
    return np.array([_of_centre(row) for row in rows], np.float64)


def _points(rows: Sequence[Row], shape: tuple[int, int] | None, sizes: npt.NDArray[np.int64]) -> Floats:
    """X and y in pixels and visibility, of shape (n, k, 3); points of two numbers are seen, unless both are 0."""
    count, numbers = shape or (0, 3)
    given = np.array([row.values[BOX - 1 :] for row in rows], np.float64).reshape(len(rows), count, numbers)
    within_one = np.all(np.abs(given[..., :2] - 0.5) <= 0.5, axis=(1, 2))
    for index in np.flatnonzero(~within_one).tolist():
        check_parts(rows[index], given[index, :, :2].ravel().tolist())
    strange = numbers == 3 and ~np.isin(given[..., 2:], (0, 1, 2)).all(axis=(1, 2))
    if np.any(strange):
        raise DataError(f"{rows[int(np.argmax(strange))].where}: visibility is 0, 1 or 2")
    seen = given[..., 2] if numbers == 3 else np.where(given.any(axis=2), 2.0, 0.0)
    return np.concatenate([given[..., :2] * sizes[:, None, ::-1], seen[..., None]], axis=2)
