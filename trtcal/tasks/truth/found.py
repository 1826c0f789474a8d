"""Objects of many images, told apart by image."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trtcal.tasks.adapter import Kind
from trtcal.tasks.found import Found, chosen
from trtcal.tasks.measuring.evidence import Measure

MEASURES: Mapping[Kind, Measure] = {"detect": "boxes", "segment": "masks", "keypoints": "points"}
"""What can be compared by objects."""


def split(every: Found, of: npt.NDArray[np.int64], count: int) -> list[Found]:
    """What is in each of `count` images, where object i is in image ``of[i]``; objects keep their order."""
    order = np.argsort(of, kind="stable")
    ends = np.searchsorted(of[order], np.arange(1, count + 1))
    return [chosen(every, part) for part in np.split(order, ends[:-1])]
