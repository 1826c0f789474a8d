"""Lists that graphs with an end of their own leave: which output holds boxes, scores, classes and how many they are."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Shapes
from trtcal.tasks.decoding.outputs import alike, says

COUNT = ("num", "count", "valid")
CLASSES = ("class", "label", "cls")


@dataclass(frozen=True, slots=True)
class Lists:
    """Names of outputs.

    Attributes:
        boxes: Of shape (..., rows, 4).
        scores: Of shape (..., rows).
        classes: Of shape (..., rows).
        count: Of shape (N,) or (N, 1); None where rows are not counted.
    """

    boxes: str
    scores: str
    classes: str
    count: str | None


def lists(shapes: Shapes, *, axes: int, integers: Collection[str] = ()) -> Lists | None:
    """The lists among three or four outputs; None where they are others.

    Scores and classes have one shape. What holds integers is no scores; else a name tells, else scores come first.

    Args:
        shapes: Of the outputs.
        axes: Of scores and classes: 2 with an axis of samples, 1 without.
        integers: Outputs that hold integers, where that is known.
    """
    boxes = [name for name, shape in shapes.items() if len(shape) == axes + 1 and alike(shape[-1], 4)]
    if len(boxes) != 1 or len(shapes) not in {3, 4}:
        return None
    rest = [name for name in shapes if name != boxes[0]]
    counted = _count(shapes, rest) if len(rest) == 3 else None
    rows = [name for name in rest if name != counted]
    if len(rows) != 2 or any(not _rows(shapes[name], shapes[boxes[0]]) for name in rows):
        return None
    scores, classes = sorted(rows, key=lambda name: (name in integers, says(name, CLASSES)))
    return Lists(boxes[0], scores, classes, counted)


def integers(outputs: Mapping[str, Array]) -> list[str]:
    """The outputs that hold integers."""
    return [name for name, array in outputs.items() if array.dtype.kind in "iu"]


def counts(counted: Array) -> list[int]:
    """How many rows count, by sample, of (N,) or (N, 1) numbers of any type; none where one is no number."""
    numbers = np.nan_to_num(np.asarray(counted, np.float64).reshape(len(counted)), nan=0.0, posinf=0.0, neginf=0.0)
    return [max(int(number), 0) for number in np.rint(numbers)]


def _count(shapes: Shapes, names: list[str]) -> str | None:
    """Of one number a sample; where a single row makes all alike, by name, else the first, as the plugin has it."""
    single = [name for name in names if len(shapes[name]) == 1 or (len(shapes[name]) == 2 and shapes[name][1] == 1)]
    named = [name for name in single if says(name, COUNT)]
    return next(iter(named or single), None)


def _rows(shape: tuple[int | None, ...], boxes: tuple[int | None, ...]) -> bool:
    return len(shape) == len(boxes) - 1 and alike(shape[-1], boxes[-2])
