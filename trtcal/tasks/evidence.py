"""What models found in images, beside what is there: it adds up over images, and the measure is taken of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

from calibrators.errors import DataError
from trtcal.tasks import detections, pixels
from trtcal.tasks.chance import Interval
from trtcal.tasks.changes import Change, PixelChange
from trtcal.tasks.objects import Scenes
from trtcal.tasks.pixels import Maps
from trtcal.tasks.result import TaskResult
from trtcal.tasks.sample import Measure, Sample, in_order

__all__ = ["Evidence", "Measure", "Sample", "difference_interval", "tied"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a model found in some images; that of disjoint images adds up.

    No number depends on the order of the images, or on how they were split before they were added up.

    Attributes:
        measure: What is compared.
        samples: The images, in order.
        annotated: Whether what is known comes from annotations, not from the float model.
        confidence: Of the float model's detections that count in agreement, and in what is lost, extra or moved.
        classes: Names by class number; empty where they are not known.
    """

    measure: Measure
    samples: tuple[Sample, ...]
    annotated: bool
    confidence: float = 0.25
    classes: Sequence[str] = ()

    def __add__(self, other: "Evidence") -> "Evidence":
        return replace(self, samples=self.samples + other.samples)

    @cached_property
    def result(self) -> TaskResult:
        """The measure over all images.

        Raises:
            DataError: There is nothing that could be found in any image, or what is there cannot be compared.
        """
        if self.measure == "pixels":
            return pixels.result(self._maps(), self.classes)
        return detections.result(self._scenes(), self.classes)

    def drop_interval(self) -> Interval:
        """The 95 % interval of `TaskResult.drop`, in points: a bootstrap over the images, paired with the float model.

        Under `trtcal.tasks.chance.FEW` images it is all that is possible, as so few say nothing of others.

        Raises:
            DataError: It is the float model itself, or there is nothing that could be found.
        """
        return self._drop_interval

    def changes(self, count: int) -> list[Change] | list[PixelChange]:
        """The images in which most is other than the float model's, the most changed first, ties by name.

        Images in which nothing changed are left out, and there are none for the float model itself.

        Args:
            count: The most images to name.
        """
        if self.measure == "pixels":
            shares = [each for each in pixels.changes_of(self._maps()) or () if each.share]
            return sorted(shares, key=lambda each: (-each.share, each.image))[:count]
        changes = [each for each in detections.changes_of(self._scenes()) or () if each.lost + each.extra + each.moved]
        return sorted(changes, key=lambda each: (-each.lost - each.extra, -each.moved, each.image))[:count]

    @cached_property
    def _drop_interval(self) -> Interval:
        if self.measure == "pixels":
            return pixels.drop_interval(self._maps())
        return detections.drop_interval(self._scenes())

    def _scenes(self) -> Scenes:
        return Scenes(self.measure, in_order(self.samples), self.annotated, self.confidence)

    def _maps(self) -> Maps:
        return Maps(in_order(self.samples), self.annotated)


def difference_interval(one: Evidence, other: Evidence) -> Interval:
    """The 95 % interval, in points, of what one model is better than another by: a bootstrap over their images, paired.

    Args:
        one: The model; positive is better.
        other: The other one, of the same images.

    Raises:
        DataError: They are of different images, or there is nothing that could be found.
    """
    kept = _KEPT.setdefault(one, WeakKeyDictionary())
    if other not in kept:
        kept[other] = _difference_interval(one, other)
    return kept[other]


def tied(one: Evidence, other: Evidence) -> bool:
    """Whether the difference of two models on the same images may be chance: 0 lies within its interval."""
    low, high = difference_interval(one, other)
    return low <= 0 <= high


_KEPT: WeakKeyDictionary[Evidence, WeakKeyDictionary[Evidence, Interval]] = WeakKeyDictionary()


def _difference_interval(one: Evidence, other: Evidence) -> Interval:
    names = [[each.name for each in in_order(evidence.samples)] for evidence in (one, other)]
    if names[0] != names[1] or one.measure != other.measure:
        raise DataError("two models are compared by what they find in the same images, and these have others")
    if one.measure == "pixels":
        return pixels.difference_interval(one._maps(), other._maps())
    return detections.difference_interval(one._scenes(), other._scenes())
