"""Masks of objects as sums of prototypes, as YOLACT introduced them and the segmentation models of YOLO have them.

A model gives prototypes (N, m, height / 4, width / 4), and m coefficients a box. A mask is where the sum of prototypes,
times its coefficients, is above 0 (a sigmoid above 0.5) after it was brought to the input's size, and within the box.
Source: Ultralytics, `ultralytics/utils/ops.py` (`process_mask` with `upsample=True`, `crop_mask`).
"""

from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from trtcal.tasks.adapter import Shapes
from trtcal.tasks.decoding.masks import encoded
from trtcal.tasks.found import Floats
from trtcal.tasks.placement import Size


def prototypes_in(shapes: Shapes, size: Size) -> str:
    """The name of the one output that may be prototypes, for an input of that size; empty where there is none."""
    places = (size[0] // 4, size[1] // 4)
    names = [
        name
        for name, shape in shapes.items()
        if len(shape) == 4 and all(one in {None, place} for one, place in zip(shape[2:], places, strict=True))
    ]
    return names[0] if len(names) == 1 else ""


def masks_of(
    coefficients: npt.NDArray[Any], prototypes: npt.NDArray[Any], boxes: Floats, size: Size
) -> tuple[Any, ...]:
    """The masks of boxes, of the input's size, as COCO's run-length encodings.

    Args:
        coefficients: Shape (n, m).
        prototypes: Shape (m, rows, columns).
        boxes: Left, top, right, bottom in the input's pixels; shape (n, 4).
        size: Of the input.
    """
    return tuple(
        _mask(coefficient.astype(np.float64), prototypes, box, size)
        for coefficient, box in zip(coefficients, boxes, strict=True)
    )


def _mask(coefficients: Floats, prototypes: npt.NDArray[Any], box: Floats, size: Size) -> Any:
    """Only the part within the box is summed up and brought to size; a pixel is in where its number is."""
    columns, rows = (_pixels(box[axis], box[axis + 2], size[1 - axis]) for axis in (0, 1))
    above, below, lower = _neighbours(rows, size[0], prototypes.shape[1])
    before, behind, further = _neighbours(columns, size[1], prototypes.shape[2])
    if not len(rows) or not len(columns):
        return encoded(np.zeros((0, 0), np.bool_), size=size)
    top, left = above[0], before[0]
    window = prototypes[:, top : below[-1] + 1, left : behind[-1] + 1]
    sums = np.tensordot(coefficients, window, axes=1)
    sums = sums[above - top] * (1 - lower)[:, None] + sums[below - top] * lower[:, None]
    sums = sums[:, before - left] * (1 - further) + sums[:, behind - left] * further
    return encoded(sums > 0, size=size, corner=(rows[0], columns[0]))


def _pixels(first: float, last: float, size: int) -> npt.NDArray[np.int64]:
    """The numbers of pixels from one edge, and before the other."""
    return np.arange(ceil(min(max(first, 0), size)), ceil(min(max(last, 0), size)))


def _neighbours(pixels: npt.NDArray[np.int64], size: int, count: int) -> tuple[Any, Any, Floats]:
    """The cells of a grid of `count` between whose centres those of pixels lie, and how far behind the first."""
    places = np.maximum((pixels + 0.5) * count / size - 0.5, 0)
    first = np.minimum(places.astype(np.int64), count - 1)
    return first, np.minimum(first + 1, count - 1), places - first
