"""Adapters: how a family of models says what it finds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from calibrators.batches import Array
from trtcal.tasks.found import Finding
from trtcal.tasks.placement import Size

Kind = Literal["detect", "segment", "keypoints"]

Shapes = Mapping[str, tuple[int | None, ...]]
"""Of a model's outputs by name, samples on the first axis; None where a size is free."""


def shapes_of(outputs: Mapping[str, Array]) -> Shapes:
    """Those of outputs that a model gave."""
    return {name: array.shape for name, array in outputs.items()}


Decode = Callable[[Mapping[str, Array], Size], Sequence[Finding]]
"""From the raw outputs of some samples and the size of the model's input to what was found in each.

Boxes and points are in the input's pixels, masks and class maps of the input's size or of the outputs' own: what calls
it brings them back to the image's. Scores above `trtcal.tasks.decoding.nms.LEAST` are kept, without removing overlaps.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Channels of an output that mean one thing, such as boxes or scores.

    Attributes:
        name: Such as "boxes" or "scores".
        output: Its name.
        axis: Of its channels.
        first: The first of them.
        last: The last of them.
    """

    name: str
    output: str
    axis: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a family of models says what it finds.

    Attributes:
        name: As in ``--task detect:NAME``.
        kind: What it finds.
        decode: From raw outputs to what was found.
        misfit: Why outputs of these shapes, of a model with an input of this size, are not of this family; empty where
            they may be. The reason begins with what would fit: "output of (N, 4 + classes, anchors), not (N, 10)".
        parts: What the channels of such outputs mean, where one output holds several things.
        classes: How many classes such outputs tell apart; None where they do not tell.
        overlap: The intersection over union above which the lesser of two boxes of one class is removed; None where the
            graph or `decode` has removed such.
        names: Of the classes by number, where the adapter tells them; else empty.
        summary: Which models have this layout, for `--help` and the docs.
    """

    name: str
    kind: Kind
    decode: Decode
    misfit: Callable[[Shapes, Size], str]
    summary: str
    parts: Callable[[Shapes], Sequence[Part]] = lambda shapes: ()
    classes: Callable[[Shapes], int | None] = lambda shapes: None
    overlap: float | None = None
    names: tuple[str, ...] = ()
