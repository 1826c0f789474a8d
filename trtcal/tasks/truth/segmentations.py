"""Masks of annotations: polygons and run-length encodings as COCO has them, their boxes and areas."""

from typing import Any

import numpy as np

from calibrators.errors import DataError, one_line
from trtcal.tasks.found import Segmentation
from trtcal.tasks.placement import Size

MOST = 1e9
"""No coordinate is as large, nor are those of one object together."""


def checked(value: Any, size: Size | None) -> Segmentation:
    """A segmentation that libraries can work with.

    Args:
        value: Polygons, each a list of x and y in turn, of three points or more; or a run-length encoding of `size` and
            `counts`, compressed or not.
        size: Height and width of the image; None where a run-length encoding may have any.

    Raises:
        DataError: It is neither, or of another size.
    """
    if isinstance(value, dict):
        return _checked_runs(value, size)
    if not isinstance(value, list) or not value:
        raise DataError(f"segmentation must be polygons or a run-length encoding, not {shown(value)}")
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError(f"a polygon is x and y of three points or more, not {shown(polygon)}")
        if not are_numbers(polygon):
            raise DataError(f"a polygon is of finite numbers, not {shown(polygon)}")
    return value


def extent(segmentation: Segmentation) -> tuple[float, float, float, float]:
    """Its box: left, top, right, bottom in pixels."""
    if isinstance(segmentation, dict):
        from hotcoco import mask

        left, top, width, height = (float(each) for each in mask.to_bbox(segmentation))
        return left, top, left + width, top + height
    points = np.concatenate([np.reshape(np.asarray(polygon, np.float64), (-1, 2)) for polygon in segmentation])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def area(segmentation: Segmentation) -> float:
    """Its area in square pixels: of polygons by the shoelace formula, |sum of x_i y_i+1 - x_i+1 y_i| / 2, added up."""
    if isinstance(segmentation, dict):
        from hotcoco import mask

        return float(mask.area(segmentation))
    total = 0.0
    for polygon in segmentation:
        x, y = np.reshape(np.asarray(polygon, np.float64), (-1, 2)).T
        total += abs(float(x @ np.roll(y, -1) - np.roll(x, -1) @ y)) / 2
    return total


def are_numbers(values: list[Any]) -> bool:
    """Whether JSON's values are numbers that coordinates may be; NaN is none."""
    try:
        return {int, float}.issuperset(map(type, values)) and sum(map(abs, values)) < MOST
    except OverflowError:  # an integer beyond a float, beside a float
        return False


def shown(value: object) -> str:
    """A value in a message, not all of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _checked_runs(value: dict[str, Any], size: Size | None) -> Segmentation:
    from hotcoco import mask

    stated = value.get("size")
    if (
        not isinstance(stated, list)
        or len(stated) != 2
        or not all(type(each) is int and 0 < each < 2**31 for each in stated)
    ):
        raise DataError(f"a run-length encoding has a size of [height, width], not {shown(stated)}")
    if size is not None and tuple(stated) != size:
        raise DataError(f"its mask is {stated[0]}x{stated[1]} (height x width), and the image {size[0]}x{size[1]}")
    runs = {"size": stated, "counts": value.get("counts")}
    try:
        mask.area(runs)
    except Exception as error:  # of any kind: TypeError, ValueError, OverflowError
        raise DataError(f"its run-length encoding cannot be read: {one_line(error, 80)}") from error
    return runs
