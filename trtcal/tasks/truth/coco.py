"""COCO JSON: boxes, masks and points of objects, by image."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError, listed
from trtcal.tasks.found import Floats, Found, Segmentation
from trtcal.tasks.truth import coco_file
from trtcal.tasks.truth.boxes import within
from trtcal.tasks.truth.coco_file import CocoFile, Entry, called
from trtcal.tasks.truth.found import MEASURES, split
from trtcal.tasks.truth.numbering import numbered
from trtcal.tasks.truth.pairing import paired
from trtcal.tasks.truth.segmentations import MOST, are_numbers, area, checked, extent, shown
from trtcal.tasks.truth.truth import Asked, Truth, known


def coco_truth(path: Path, asked: Asked) -> Truth:
    """Read COCO JSON of instances or of persons' keypoints.

    Images are found by their `file_name` (`trtcal.tasks.truth.pairing`), categories numbered as
    `trtcal.tasks.truth.numbering` says. Images of the file that were not asked for are left aside.

    Raises:
        DataError: It cannot be read, is of other images, or has not what was asked for.
    """
    file = coco_file.read(path)
    entries = _of_images(file, asked)
    positions = {entry["id"]: index for index, entry in enumerate(entries.values())}
    objects = [each for each in file.annotations if each["image_id"] in positions]
    if not objects:
        raise DataError(f"it has no annotation of these {len(entries)} images: there is nothing to find")
    names, sizes = list(asked.sizes), np.array(list(asked.sizes.values()), np.int64)
    of = np.array([positions[each["image_id"]] for each in objects], np.int64)
    numbering = numbered(
        file.categories,
        {each["category_id"] for each in objects},
        classes=asked.classes,
        class_names=asked.class_names,
    )
    masks = _masks(objects, of, list(asked.sizes.values())) if asked.kind == "segment" else None
    points = _points(objects) if asked.kind == "keypoints" else None
    boxes, notes = within(
        _boxes(objects), sizes[of], lambda index: f"{called(objects[index])} ({listed([names[of[index]]])})"
    )
    crowds = np.array([bool(each.get("iscrowd", 0)) for each in objects])
    every = Found(
        boxes,
        np.ones(len(boxes)),
        np.array([numbering.number[each["category_id"]] for each in objects], np.int64),
        masks,
        points,
        crowds,
        _areas(objects, boxes, masks),
    )
    by_image = split(every, of, len(names))
    return Truth(
        MEASURES[asked.kind],
        numbering.names,
        (numbering.note, *notes),
        known(dict(zip(names, by_image, strict=True))),
    )


def _of_images(file: CocoFile, asked: Asked) -> dict[str, Entry]:
    """The file's entry of each image that is asked for."""
    entries = {str(each["file_name"]): each for each in file.images.values()}
    names = list(asked.sizes)
    found = paired(names, list(entries)).found
    if not found:
        raise DataError(
            f"it is of other images: it knows none of these {len(names)}, such as {listed(names[:1])}, but "
            f"{len(entries)} others, such as {listed([next(iter(entries))])}; a file_name is a path relative to the "
            "folder of images"
        )
    without = [name for name in names if name not in found]
    if without:
        raise DataError(
            f"{len(without)} of {len(names)} images are not among its images, such as {listed(without[:1])}: list "
            "them, with no annotation where there is nothing to find, or give the folder that it is of"
        )
    counts = Counter(str(each["file_name"]) for each in file.images.values())
    twice = next((each for each in found.values() if counts[each] > 1), None)
    if twice is not None:
        raise DataError(f"two of its images are called {listed([twice])}: list each once")
    for name, size in asked.sizes.items():
        stated = coco_file.stated_size(entries[found[name]])
        if stated is not None and stated != size:
            turned = ", which EXIF turns" if stated == size[::-1] else ""
            raise DataError(
                f"it says that {listed([name])} is {stated[0]}x{stated[1]} (height x width), and the image is "
                f"{size[0]}x{size[1]}{turned}: give the images that were annotated"
            )
    return {name: entries[found[name]] for name in names}


def _boxes(objects: Sequence[Entry]) -> Floats:
    """Left, top, right, bottom, of shape (n, 4)."""
    boxes = np.array([_box(each) for each in objects], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _box(annotation: Entry) -> list[float]:
    box = annotation.get("bbox")
    if box is None and annotation.get("segmentation"):
        left, top, right, bottom = extent(_segmentation(annotation, None))
        return [left, top, right - left, bottom - top]
    if not isinstance(box, list) or len(box) != 4 or not are_numbers(box):
        raise DataError(f"{called(annotation)}: bbox is x, y, width and height, four finite numbers, not {shown(box)}")
    if box[2] < 0 or box[3] < 0:
        raise DataError(f"{called(annotation)}: bbox is x, y, width and height, and none is below 0 as in {shown(box)}")
    return box


def _masks(
    objects: Sequence[Entry], of: npt.NDArray[np.int64], sizes: Sequence[tuple[int, int]]
) -> tuple[Segmentation, ...]:
    if not any(each.get("segmentation") for each in objects):
        raise DataError("its annotations have boxes and no masks: give annotations with a segmentation each")
    return tuple(_segmentation(each, sizes[index]) for each, index in zip(objects, of, strict=True))


def _segmentation(annotation: Entry, size: tuple[int, int] | None) -> Segmentation:
    try:
        return checked(annotation.get("segmentation"), size)
    except DataError as error:
        raise DataError(f"{called(annotation)}: {error}") from error


def _points(objects: Sequence[Entry]) -> Floats:
    """Of shape (n, k, 3); objects without have points that are not labelled."""
    first = next((each for each in objects if each.get("keypoints")), None)
    if first is None:
        raise DataError("its annotations have no keypoints: give those of persons' keypoints or the like")
    count = len(_three_each(first))
    rows = [_three_each(each) or [0] * count for each in objects]
    strange = next((each for each, row in zip(objects, rows, strict=True) if len(row) != count), None)
    if strange is not None:
        raise DataError(
            f"{called(strange)} has another number of keypoints than {called(first)}, which has {count // 3}: objects "
            "of one kind have the same"
        )
    return np.array(rows, np.float64).reshape(len(objects), count // 3, 3)


def _three_each(annotation: Entry) -> list[float]:
    """x, y and visibility of each point; nothing where the annotation has none."""
    points = annotation.get("keypoints") or []
    if not isinstance(points, list) or len(points) % 3 or not are_numbers(points):
        raise DataError(
            f"{called(annotation)}: keypoints are x, y and visibility of each, finite numbers, not {shown(points)}"
        )
    if not {0, 1, 2}.issuperset(points[2::3]):
        raise DataError(f"{called(annotation)}: visibility is 0, 1 or 2, not {shown(points[2::3])}")
    return points


def _areas(objects: Sequence[Entry], boxes: Floats, masks: Sequence[Segmentation] | None) -> Floats:
    sides = boxes[:, 2:] - boxes[:, :2]
    areas: Floats = sides.prod(axis=1)
    for index, each in enumerate(objects):
        stated = each.get("area")
        if stated is None:
            areas[index] = areas[index] if masks is None else area(masks[index])
        elif type(stated) not in (int, float) or not 0 <= stated < MOST**2:
            raise DataError(f"{called(each)}: area is a number of square pixels, not {shown(stated)}")
        else:
            areas[index] = stated
    return areas
