"""What a function of one's own says it found in a sample, as a value of ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError
from trtcal.config.toml_file import check_keys
from trtcal.tasks.adapter import Kind
from trtcal.tasks.decoding.boxes import beyond_scores
from trtcal.tasks.decoding.masks import encoded
from trtcal.tasks.decoding.nms import LEAST
from trtcal.tasks.found import ClassMap, Finding, Floats, Found, chosen

KEYS = ("boxes", "scores", "classes", "masks", "points")


def finding_of(value: Any, kind: Kind, *, finite: bool, source: str) -> Finding:
    """Detections, the highest score first, or a class map.

    Args:
        value: A `Found`, a `ClassMap`, a mapping with `KEYS`, or a 2-D array of integers.
        kind: What is to be found.
        finite: Whether the model's outputs were. Where they were not, detections that are not finite are not found;
            where they were, it is the function that failed.
        source: What messages begin with.

    Raises:
        DataError: It is something else, or its parts do not fit each other or the kind.
    """
    if isinstance(value, ClassMap) or (isinstance(value, (np.ndarray, list)) and _axes(value) == 2):
        return _map_of(value, kind, source)
    if not isinstance(value, (Found, Mapping)):
        raise DataError(f"{source}: a {type(value).__name__} tells no boxes: give a dict with {', '.join(KEYS[:3])}")
    parts = {key: getattr(value, key) for key in KEYS} if isinstance(value, Found) else value
    try:
        check_keys(parts, KEYS)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    return _found_of({key: part for key, part in parts.items() if part is not None}, kind, finite, source)


def _axes(value: Any) -> int:
    try:
        return np.ndim(value)
    except ValueError:  # lists of several lengths
        return 0


def _map_of(value: Any, kind: Kind, source: str) -> ClassMap:
    classes = np.asarray(value.classes if isinstance(value, ClassMap) else value)
    if kind != "segment":
        raise DataError(f'{source}: a class for each pixel is no {kind}: set the function\'s kind = "segment"')
    if classes.ndim != 2 or classes.dtype.kind not in "iub":
        raise DataError(
            f"{source}: a class map of {classes.dtype} and shape {classes.shape}: give integers, of rows and columns"
        )
    if classes.size and int(classes.min()) < -1:
        raise DataError(f"{source}: class {int(classes.min())} in a class map: classes are from 0, -1 is not known")
    return ClassMap(classes.astype(np.int64))


def _found_of(parts: Mapping[str, Any], kind: Kind, finite: bool, source: str) -> Found:
    missing = next((key for key in KEYS[:3] if key not in parts), None)
    wanted = {"segment": "masks", "keypoints": "points"}.get(kind)
    if wanted and wanted not in parts:
        missing = missing or wanted
    if missing:
        raise DataError(f"{source}: there are no {missing}, which {kind} needs")
    scores = _numbers(parts, "scores", source)
    if scores.ndim != 1:
        raise DataError(f"{source}: scores of shape {scores.shape}: give one for each detection")
    count = len(scores)
    if strange := beyond_scores(scores):
        raise DataError(f"{source}: scores reach {strange}: give numbers from 0 to 1")
    boxes = _shaped(_numbers(parts, "boxes", source), "boxes", (count, 4), source)
    classes = _shaped(_numbers(parts, "classes", source), "classes", (count,), source)
    points = _points(parts, count, source) if "points" in parts else None
    good = np.isfinite(scores) & np.isfinite(boxes).all(axis=1) & np.isfinite(classes)
    if points is not None:
        good &= np.isfinite(points).all(axis=(1, 2))
    if finite and not good.all():
        raise DataError(f"{source}: detection {int(np.flatnonzero(~good)[0])} is not finite, and the outputs are")
    if (classes[good] < 0).any() or (classes[good] % 1).any():
        raise DataError(f"{source}: classes that are not whole numbers from 0")
    masks = _masks(parts["masks"], count, source) if "masks" in parts else None
    whole = np.where(good, classes, 0).astype(np.int64)
    found = Found(boxes=boxes, scores=scores, classes=whole, masks=masks, points=points)
    kept = np.flatnonzero(good & (scores > LEAST))
    return chosen(found, kept[np.argsort(-scores[kept], kind="stable")])


def _numbers(parts: Mapping[str, Any], key: str, source: str) -> Floats:
    try:
        return np.asarray(parts[key], np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: {key} are not numbers in rows of one length") from error


def _shaped(values: Floats, key: str, shape: tuple[int, ...], source: str) -> Floats:
    """Values of this shape; where there is no detection, an empty list will do."""
    if values.size == 0 and shape[0] == 0:
        return values.reshape(shape)
    if values.shape != shape:
        raise DataError(f"{source}: {key} of shape {values.shape}, not {shape}, as there are {shape[0]} scores")
    return values


def _points(parts: Mapping[str, Any], count: int, source: str) -> Floats:
    points = _numbers(parts, "points", source)
    if points.size == 0 and count == 0:
        return np.zeros((0, points.shape[1] if points.ndim == 3 else 0, 3))
    if points.ndim != 3 or points.shape[0] != count or points.shape[2] != 3:
        raise DataError(f"{source}: points of shape {points.shape}, not ({count}, points, 3) with x, y and confidence")
    return points


def _masks(masks: Any, count: int, source: str) -> tuple[Any, ...]:
    if not hasattr(masks, "__len__") or len(masks) != count:
        raise DataError(f"{source}: masks are not as many as the {count} scores")
    return tuple(_mask(mask, source) for mask in masks)


def _mask(mask: Any, source: str) -> Any:
    if isinstance(mask, Mapping):
        size = mask.get("size")
        sized = isinstance(size, (list, tuple)) and [type(side) for side in size] == [int, int]
        if "counts" not in mask or not sized:
            raise DataError(f'{source}: a mask with {", ".join(map(str, mask))}: COCO\'s has "size" and "counts"')
        return dict(mask)
    if not isinstance(mask, np.ndarray):
        return _polygons(mask, source)
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise DataError(
            f"{source}: a mask of {mask.dtype} and shape {mask.shape}: give booleans or integers, of rows and columns"
        )
    pixels: npt.NDArray[np.bool_] = mask != 0
    return encoded(pixels)


def _polygons(mask: Any, source: str) -> list[list[float]]:
    """Lists of x and y in turn, three corners at least."""
    try:
        polygons = [[float(number) for number in polygon] for polygon in mask]
    except (TypeError, ValueError):
        polygons = [[]]
    if not all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons):
        raise DataError(f"{source}: a mask that is no array, no run-length encoding, and no list of polygons x, y, ...")
    return polygons
