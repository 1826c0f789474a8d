"""What of the float model's detections another model has not, and what it has beside them."""

from typing import NamedTuple

import numpy as np

from trtcal.tasks.found import Floats, Found, chosen
from trtcal.tasks.measuring.objects import sides

SAME = 0.5
"""The least intersection over union of two boxes that are one detection."""

STILL = 0.9
"""The least intersection over union of a detection that has not moved."""


class Change(NamedTuple):
    """How an image's detections differ from the float model's.

    Attributes:
        image: Its name.
        lost: Detections of the float model that the other model has not.
        extra: Detections of the other model that the float model has not.
        moved: Those that both have, whose boxes' intersection over union is under 0.9.
    """

    image: str
    lost: int
    extra: int
    moved: int


class PixelChange(NamedTuple):
    """How an image's classes of pixels differ from the float model's.

    Attributes:
        image: Its name.
        share: Of the pixels whose class is another, in percent.
    """

    image: str
    share: float


def changed(image: str, reference: Found, found: Found, confidence: float) -> Change:
    """Compares the detections of an image that have at least a score of `confidence`.

    A detection belongs to at most one of the other model's, of its class and with at least `SAME` of overlap. Of all
    ways to pair them that one is taken with the greatest sum of overlaps, so that their order does not matter.
    """
    from hotcoco.primitives import lsap

    ours, theirs = _confident(found, confidence), _confident(reference, confidence)
    overlaps = _overlaps(theirs, ours)
    rows, columns = (np.asarray(each, np.int64) for each in lsap(overlaps, maximize=True))
    pairs = overlaps[rows, columns]
    pairs = pairs[pairs > 0]
    return Change(image, len(theirs) - len(pairs), len(ours) - len(pairs), int(np.count_nonzero(pairs < STILL)))


def _confident(found: Found, confidence: float) -> Found:
    return chosen(found, np.flatnonzero(found.scores >= confidence))


def _overlaps(one: Found, other: Found) -> Floats:
    """The intersection over union of each pair of boxes; 0 of different classes, or where it is under `SAME`."""
    from hotcoco.primitives import bbox_iou

    overlaps = bbox_iou(sides(one), sides(other), [False] * len(other))
    return np.where((one.classes[:, None] == other.classes) & (overlaps >= SAME), overlaps, 0.0)
