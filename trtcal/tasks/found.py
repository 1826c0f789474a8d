"""What is in an image: boxes with classes, masks and points, or a class for each pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]
Segmentation = Mapping[str, Any] | Sequence[Sequence[float]]
"""A mask as COCO has it: a run-length encoding ({"size": [height, width], "counts": ...}), or polygons of x and y."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Objects in one image: what a model found, the highest score first, or what is known to be there.

    Attributes:
        boxes: float64 of shape (n, 4): left, top, right, bottom in pixels; 0 is the left or top edge of the first one.
        scores: float64 of shape (n,), 0 to 1; 1 for what is known.
        classes: int64 of shape (n,), from 0.
        masks: One an object; None where there are none.
        points: float64 of shape (n, k, 3): x and y in pixels, and confidence; for what is known COCO's visibility: 0
            not labelled, 1 hidden, 2 seen. None where there are none.
        crowds: bool of shape (n,), of what is known: COCO's `iscrowd`. None where there are none.
        areas: float64 of shape (n,), in square pixels, of what is known; None takes those of the boxes.
    """

    boxes: Floats
    scores: Floats
    classes: Classes
    masks: tuple[Segmentation, ...] | None = None
    points: Floats | None = None
    crowds: npt.NDArray[np.bool_] | None = None
    areas: Floats | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def chosen(found: Found, numbers: Classes) -> Found:
    """The objects of these numbers, in this order."""
    return Found(
        boxes=found.boxes[numbers],
        scores=found.scores[numbers],
        classes=found.classes[numbers],
        masks=None if found.masks is None else tuple(found.masks[number] for number in numbers),
        points=None if found.points is None else found.points[numbers],
        crowds=None if found.crowds is None else found.crowds[numbers],
        areas=None if found.areas is None else found.areas[numbers],
    )


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """A class for each pixel of one image.

    Attributes:
        classes: int64 of shape (height, width), from 0; -1 where the class is not known, which counts nowhere.
    """

    classes: Classes


Finding = Found | ClassMap
