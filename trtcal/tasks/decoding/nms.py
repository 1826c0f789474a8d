"""Non-maximum suppression: of boxes that overlap and have one class, the one of the highest score stays."""

import numpy as np
import numpy.typing as npt

from trtcal.tasks.found import Classes, Floats, Found, chosen

LEAST = 0.001
"""Scores above it count: Ultralytics' validation keeps them (`conf=0.001`), and a curve over all scores needs them."""

CANDIDATES = 30_000
"""The most boxes before overlaps are removed, as in Ultralytics (`max_nms`)."""

MOST = 300
"""The most detections in an image afterwards: Ultralytics' `max_det`. COCO's measures look at the first 100 a class."""

_BLOCK = 128
"""Boxes that are looked at together: of all steps for one, those that NumPy does for many at once cost least."""


def suppressed(
    boxes: npt.ArrayLike, scores: npt.ArrayLike, classes: npt.ArrayLike, overlap: float, *, most: int = MOST
) -> Classes:
    """Which boxes stay, by their numbers (int64): the highest score first, equal ones in the order of the boxes.

    Greedy, within each class: a box is removed where its intersection with one that stays, divided by their union, is
    above `overlap`. It is what torchvision's `batched_nms` and OpenCV's `NMSBoxesBatched` leave. Boxes and scores that
    are not finite are removed.

    Args:
        boxes: Left, top, right, bottom; shape (n, 4).
        scores: Shape (n,).
        classes: Shape (n,).
        overlap: 0 to 1.
        most: How many stay at most, of all classes together.
    """
    boxes, scores, classes = np.asarray(boxes, np.float64), np.asarray(scores, np.float64), np.asarray(classes)
    usable = np.flatnonzero(np.isfinite(scores) & np.isfinite(boxes).all(axis=1))
    order = usable[np.argsort(-scores[usable], kind="stable")]
    kept = order[:0]
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        free = block[~_overlapping(boxes, classes, block, kept, overlap).any(axis=1)]
        kept = np.concatenate([kept, free[_greedy(_overlapping(boxes, classes, free, free, overlap))]])
        if len(kept) >= most:
            break
    return kept[:most].astype(np.int64)


def without_overlaps(found: Found, overlap: float | None, *, most: int = MOST) -> Found:
    """What `suppressed` leaves of the detections; where `overlap` is None, the highest scores as they are."""
    if overlap is None:
        return chosen(found, np.argsort(-found.scores, kind="stable")[:most])
    return chosen(found, suppressed(found.boxes, found.scores, found.classes, overlap, most=most))


def _overlapping(
    boxes: Floats, classes: npt.NDArray[np.generic], these: Classes, those: Classes, overlap: float
) -> npt.NDArray[np.bool_]:
    """Which of these overlap which of those of the same class: bool of shape (these, those)."""
    left, top, right, bottom = (side[:, None] for side in boxes[these].T)
    lefts, tops, rights, bottoms = boxes[those].T
    with np.errstate(over="ignore", invalid="ignore"):  # boxes of 1e300 overlap nothing
        widths = np.minimum(right, rights) - np.maximum(left, lefts)
        heights = np.minimum(bottom, bottoms) - np.maximum(top, tops)
        shared = np.maximum(widths, 0) * np.maximum(heights, 0)
        union = _areas(boxes[these])[:, None] + _areas(boxes[those]) - shared
        return np.asarray((shared > overlap * union) & (classes[these][:, None] == classes[those]))


def _areas(boxes: Floats) -> Floats:
    return np.asarray(np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0))


def _greedy(overlapping: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which stay, from the first on, of boxes of which it is known which overlap."""
    stay = np.ones(len(overlapping), np.bool_)
    for number in np.flatnonzero(np.triu(overlapping, 1).any(axis=1)):
        if stay[number]:
            stay[number + 1 :] &= ~overlapping[number, number + 1 :]
    return stay
