"""One image: what a model found in it, what the float model found, and what is known to be there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from calibrators.errors import DataError, repeated
from trtcal.tasks.found import Finding

Measure = Literal["boxes", "masks", "points", "pixels"]
"""What is compared: boxes (mAP), masks (mask mAP), points (OKS mAP), classes of pixels (mIoU)."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image.

    Attributes:
        name: The image's.
        size: Its own (height, width) in pixels.
        found: By the model.
        known: What is there: annotated, or what the float model found with confidence.
        reference: What the float model found; None for the float model itself.
    """

    name: str
    size: tuple[int, int]
    found: Finding
    known: Finding
    reference: Finding | None = None


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Sorted by name: tied scores of different images follow this order, whatever the order of the samples.

    Raises:
        DataError: There is none, or two have one name.
    """
    ordered = sorted(samples, key=lambda sample: sample.name)
    if not ordered:
        raise DataError("there is no image to measure on")
    if again := repeated(sample.name for sample in ordered):
        raise DataError(f"image {again} is measured twice: each image counts once")
    return ordered


def class_names(numbers: Iterable[int], names: Sequence[str]) -> dict[int, str]:
    """What the classes of these numbers are called: a number where there is no name, both where two share a name."""
    called = {number: names[number] if 0 <= number < len(names) else str(number) for number in numbers}
    shared = {name for name in names if list(names).count(name) > 1}
    return {number: f"{name} ({number})" if name in shared else name for number, name in called.items()}


def percent(share: float) -> float:
    """A share in percent, to nine decimals: COCO's formula gives a model without a fault 1 - 2e-16."""
    return round(100 * share, 9) + 0.0  # without the sign of a zero
