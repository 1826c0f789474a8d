"""What models found in images, beside what is there: it adds up over images, and the measure is taken of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trtcal.tasks.found import Finding
from trtcal.tasks.result import TaskResult

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


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a model found in some images; that of disjoint images adds up.

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

    @property
    def result(self) -> TaskResult:
        """The measure over all images."""
        raise NotImplementedError
