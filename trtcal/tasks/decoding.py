"""What adapters share: box formats, activations, grids of cells, and the candidates whose scores count."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trtcal.tasks.found import Classes, Floats, Found
from trtcal.tasks.nms import CANDIDATES, LEAST


def corners_of_centres(boxes: npt.ArrayLike) -> Floats:
    """Boxes (..., 4) of centre x and y, width and height as left, top, right, bottom."""
    boxes = np.asarray(boxes, np.float64)
    halves = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - halves, boxes[..., :2] + halves], axis=-1)


def sigmoid(x: npt.ArrayLike) -> Floats:
    """``1 / (1 + exp(-x))`` of any shape, without overflow; NaN stays NaN."""
    x = np.asarray(x, np.float64)
    shrunk = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, shrunk, 1.0) / (1.0 + shrunk))


def softmax(x: npt.ArrayLike, axis: int = -1) -> Floats:
    """``exp(x) / sum(exp(x))`` along an axis, without overflow; all is NaN there where one value is NaN or +inf."""
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        powers = np.exp(x - x.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def grid(height: int, width: int, stride: int) -> Floats:
    """Left top corners (x, y) of the cells of an input of that many pixels, row by row: shape (cells, 2), in pixels.

    A side that is no multiple of the stride has a cell more, as convolutions with padding give it. Centres are half a
    stride further.
    """
    columns, rows = np.meshgrid(np.arange(-(-width // stride)), np.arange(-(-height // stride)))
    return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64) * stride


def cells(height: int, width: int, strides: Sequence[int]) -> int:
    """How many cells the grids of these strides have in all."""
    return sum(-(-height // stride) * -(-width // stride) for stride in strides)


def candidates(boxes: npt.ArrayLike, scores: npt.ArrayLike, *, most: int = CANDIDATES) -> tuple[Classes, Classes]:
    """Which boxes are found, and as which class: box and class numbers, int64 of shape (candidates,).

    Those are the scores above `LEAST`, the highest first, equal ones in the order of boxes, then classes; a box may be
    found as several classes, as Ultralytics' validation has it. What is not finite is never found.

    Args:
        boxes: Of shape (n, 4).
        scores: Of shape (n, classes).
        most: How many at most.
    """
    scores = np.asarray(scores, np.float64)
    usable = np.isfinite(np.asarray(boxes, np.float64)).all(axis=1, keepdims=True)
    places = np.flatnonzero((scores > LEAST) & (scores < np.inf) & usable)
    values = scores.ravel()[places]
    if len(places) > most:
        likely = values >= np.partition(values, -most)[-most]
        places, values = places[likely], values[likely]
    places = places[np.argsort(-values, kind="stable")[:most]]
    return places // scores.shape[1], places % scores.shape[1]


def top(boxes: npt.ArrayLike, scores: npt.ArrayLike, *, most: int = CANDIDATES) -> Found:
    """The candidates among boxes (n, 4; left, top, right, bottom) with scores (n, classes): see `candidates`."""
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
    numbers, classes = candidates(boxes, scores, most=most)
    return Found(boxes=boxes[numbers], scores=scores[numbers, classes], classes=classes)
