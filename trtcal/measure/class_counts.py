"""Samples counted by class: which classes a model gets right, and which it loses against a reference."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """What was counted of one class; counts of disjoint samples add up.

    Attributes:
        samples: Labelled with it.
        right: Of these, those that the model gets right.
        lost: Of these, those that the reference gets right and the model wrong.
        gained: Of these, those that the reference gets wrong and the model right.
        expected: Samples that the reference takes for it, labelled or not.
        agreeing: Of these, those that the model takes for it, too.
    """

    samples: int = 0
    right: int = 0
    lost: int = 0
    gained: int = 0
    expected: int = 0
    agreeing: int = 0

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        return ClassCounts(
            self.samples + other.samples,
            self.right + other.right,
            self.lost + other.lost,
            self.gained + other.gained,
            self.expected + other.expected,
            self.agreeing + other.agreeing,
        )


ByClass = Mapping[int, ClassCounts]
"""By class number; classes without a sample are left out."""


def count_by_class(
    labels: Numbers | None,
    right: Hits | None,
    before: Hits | None,
    reference: Numbers | None,
    agreeing: Hits | None,
) -> ByClass:
    """Count some samples by class; each array is of shape (samples,), None where it is not known.

    Args:
        labels: The class of each.
        right: Whether the model gets its label right.
        before: Whether the reference does.
        reference: The class that the reference takes each for; below 0 where it is none, which counts nowhere.
        agreeing: Whether the model takes it for the same.
    """
    found: ByClass = {}
    if labels is not None and right is not None:
        marks = zip(labels.tolist(), right.tolist(), (right if before is None else before).tolist(), strict=True)
        found = _summed({}, ((number, ClassCounts(1, now, was > now, now > was)) for number, now, was in marks))
    if reference is not None and agreeing is not None:
        pairs = zip(reference.tolist(), agreeing.tolist(), strict=True)
        alike = ((number, ClassCounts(expected=1, agreeing=same)) for number, same in pairs if number >= 0)
        found = _summed(found, alike)
    return found


def added(one: ByClass, other: ByClass) -> ByClass:
    """The counts of both."""
    return _summed(one, other.items())


def _summed(counts: ByClass, more: Iterable[tuple[int, ClassCounts]]) -> ByClass:
    found = dict(counts)  # and only what there is more of: of 1,000 classes, a batch holds few
    for number, each in more:
        found[number] = found.get(number, ClassCounts()) + each
    return found
