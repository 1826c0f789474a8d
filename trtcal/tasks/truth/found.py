"""Objects of many images, told apart by image."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trtcal.tasks.adapter import Kind
from trtcal.tasks.found import Found
from trtcal.tasks.measuring.evidence import Measure

MEASURES: Mapping[Kind, Measure] = {"detect": "boxes", "segment": "masks", "keypoints": "points"}
"""What can be compared by objects."""


def split(every: Found, of: npt.NDArray[np.int64], count: int) -> list[Found]:
    """What is in each of `count` images, where object i is in image ``of[i]``; objects keep their order."""
    order = np.argsort(of, kind="stable")
    ends = np.searchsorted(of[order], np.arange(1, count + 1))
    return [_taken(every, part) for part in np.split(order, ends[:-1])]


def _taken(every: Found, part: npt.NDArray[np.int64]) -> Found:
    return Found(
        every.boxes[part],
        every.scores[part],
        every.classes[part],
        None if every.masks is None else tuple(every.masks[index] for index in part),
        None if every.points is None else every.points[part],
        None if every.crowds is None else every.crowds[part],
        None if every.areas is None else every.areas[part],
    )
