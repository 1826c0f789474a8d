"""A measure of one's own at work: a number for each image, and their mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from calibrators.batches import Array, Batch
from calibrators.errors import DataError
from trtcal.tasks.adapter import Part
from trtcal.tasks.found import Floats
from trtcal.tasks.measuring.chance import FEW, Interval, student
from trtcal.tasks.measuring.result import TaskResult
from trtcal.tasks.own.function import OwnMeasure

Outputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a model reaches in some images; that of disjoint images adds up.

    Attributes:
        measure: Whose numbers they are.
        values: The model's, by image.
        reference: The float model's; empty for the float model itself.
    """

    measure: OwnMeasure
    values: Mapping[str, float]
    reference: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Numbers") -> "Numbers":
        return replace(self, values={**self.values, **other.values}, reference={**self.reference, **other.reference})

    @property
    def result(self) -> TaskResult:
        """The mean over all images, in one's own unit."""
        return TaskResult(
            self.measure.name,
            _mean(self.values),
            _mean(self.reference) if self.reference else None,
            self.measure.higher,
            objects=len(self.values),
            percent=False,
        )

    def drop_interval(self) -> Interval:
        """The 95 % interval of what is lost against the float model, in one's own unit: Student's, of the means' drop.

        Under `FEW` images it is all numbers, as so few say nothing of others.
        """
        lost = [self.reference[name] - self.values[name] for name in sorted(self.values)]
        return _interval(lost if self.measure.higher else [-each for each in lost])

    def changes(self, count: int) -> list[tuple[str, float]]:
        """No images are named: a number of one's own says nothing of what changed."""
        return []


def numbers_tied(one: Numbers, other: Numbers) -> bool:
    """Whether the difference of two models on the same images may be chance: 0 lies within its 95 % interval."""
    low, high = _interval([one.values[name] - other.values[name] for name in sorted(one.values)])
    return low <= 0 <= high


@dataclass(frozen=True, slots=True)
class OwnJudge:
    """Gives numbers by a measure of one's own.

    Attributes:
        measure: The measure.
        notes: What a user should know, one line each.
    """

    measure: OwnMeasure
    notes: tuple[str, ...] = ()

    @property
    def annotated(self) -> bool:
        """Whether what is in the images is known: a measure of one's own has the float model's outputs alone."""
        return False

    def parts(self, outputs: Outputs) -> tuple[Part, ...]:
        """What channels mean, which it does not tell."""
        return ()

    def found(self, outputs: Outputs, batch: Batch) -> Outputs:
        """The outputs themselves."""
        return outputs

    def evidence(self, batch: Batch, found: Outputs, reference: Outputs | None = None) -> Numbers:
        """The numbers of a batch, those of the float model beside them where there is one.

        Raises:
            DataError: The function fails, or gives no finite number for each sample.
        """
        theirs = found if reference is None else reference
        return Numbers(
            self.measure,
            _named(batch.names, self.measure.values(found, theirs)),
            {} if reference is None else _named(batch.names, self.measure.values(theirs, theirs)),
        )


def _named(names: Sequence[str], values: Floats) -> dict[str, float]:
    """By image; a model that takes a fixed number of samples gives some more at the end."""
    if len(values) < len(names):
        raise DataError(
            f"there are {len(values)} numbers of {len(names)} samples: run the model with a batch size of 1"
        )
    return dict(zip(names, values.tolist(), strict=False))


def _mean(values: Mapping[str, float]) -> float:
    return math.fsum(values.values()) / len(values)


def _interval(differences: Sequence[float]) -> Interval:
    count = len(differences)
    if not any(differences):
        return 0.0, 0.0
    if count < FEW:
        return -math.inf, math.inf
    middle = math.fsum(differences) / count
    reach = student(count - 1) * float(np.std(differences, ddof=1)) / math.sqrt(count)
    return middle - reach, middle + reach
