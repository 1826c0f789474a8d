"""Which of a model's outputs is what: by shape, and by name where shapes leave it open."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from calibrators.errors import ModelError
from trtcal.tasks.adapter import Shapes, shapes_of
from trtcal.tasks.decoding.nms import LEAST
from trtcal.tasks.found import Classes, Floats, Found
from trtcal.tasks.placement import Size

BOXES = ("box", "loc", "det")
"""What the name of an output of boxes holds."""

PRIORS = ("prior", "anchor", "default")

SHOWN = 4
"""Outputs that a message lists."""


def told(shapes: Shapes) -> str:
    """The outputs, for messages: "boxes (N, 4420, 4), scores (N, 4420, 2)"; a free size is a question mark."""
    every = [
        f"{name} ({', '.join(['N', *('?' if size is None else str(size) for size in shape[1:])])})"
        for name, shape in shapes.items()
    ]
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "") or "nothing"


def says(name: str, words: Sequence[str]) -> bool:
    """Whether a name holds one of the words."""
    return any(word in name.lower() for word in words)


def alike(*sizes: int | None) -> bool:
    """Whether sizes may be the same; those that are free may be."""
    return len({size for size in sizes if size is not None}) <= 1


def of_rank(shapes: Shapes, rank: int) -> dict[str, tuple[int | None, ...]]:
    """The outputs of that many axes, with that of the samples."""
    return {name: shape for name, shape in shapes.items() if len(shape) == rank}


def boxes_and_scores(shapes: Shapes) -> tuple[str, str] | None:
    """The names of boxes (N, n, 4) and scores (N, n, classes) among the outputs; None where they are not told apart.

    Outputs of other shapes are passed over. Where the scores are of 4 classes, too, the names tell.
    """
    lists = of_rank(shapes, 3)
    pairs = [
        (boxes, scores)
        for boxes, (_, count, width) in lists.items()
        for scores, (_, scored, _) in lists.items()
        if boxes != scores and width == 4 and alike(count, scored)
    ]
    wider = [pair for pair in pairs if lists[pair[1]][2] != 4]
    pairs = wider or [pair for pair in pairs if says(pair[0], BOXES) and not says(pair[1], BOXES)]
    return pairs[0] if len(pairs) == 1 else None


def checked(outputs: Mapping[str, Array], size: Size, misfit: Callable[[Shapes, Size], str]) -> Shapes:
    """The outputs' shapes.

    Raises:
        ModelError: They do not fit.
    """
    shapes = shapes_of(outputs)
    reason = misfit(shapes, size)
    if reason:
        raise ModelError(f"the model's outputs do not fit: {reason}")
    return shapes


def corners(size: Size) -> Floats:
    """What boxes from 0 to 1 are multiplied by, to be in pixels: width, height, width, height."""
    return np.array([size[1], size[0]] * 2, np.float64)


def are_logits(values: npt.ArrayLike) -> bool:
    """Whether one sample's scores are logits: one is below 0, which no probability is.

    Logits that are nowhere below 0 would find every class at every place, so a detector or a map has none such. That a
    model is in INT8 changes nothing: 0 is exact in it, and what is not negative does not become so.
    """
    return bool((np.asarray(values) < 0).any())


def survivors(boxes: npt.ArrayLike, scores: npt.ArrayLike, classes: npt.ArrayLike) -> Found:
    """What a graph that removes overlaps itself has found in one image, the highest score first.

    Rows of scores that are not above `LEAST`, which graphs fill up with, are no detections; nor are those with a class
    below 0 or anything that is not finite.

    Args:
        boxes: Of shape (n, 4): left, top, right, bottom in pixels.
        scores: Of shape (n,).
        classes: Of shape (n,); integers of any type, floats too.
    """
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
    numbers = np.asarray(classes, np.float64)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(numbers) & np.isfinite(scores)
    kept = np.flatnonzero(finite & (scores > LEAST) & (numbers > -0.5))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    whole: Classes = np.rint(numbers[kept]).astype(np.int64)
    return Found(boxes=boxes[kept], scores=scores[kept], classes=whole)
