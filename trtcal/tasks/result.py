"""What was measured of a model by its task."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How well a model finds what is there: by annotations, or else what the float model finds.

    Attributes:
        measure: Such as "mAP 50-95", "agreement mAP 50-95", "mIoU", or a name of one's own.
        value: In percent, or in one's own unit.
        reference: The float model's, on the same images; None where there is none.
        higher: Whether more is better.
        parts: Further numbers of the kind, such as "mAP 50" or "pixel accuracy", in percent.
        by_class: The value by class; classes that are nowhere in the truth are left out.
        reference_by_class: The float model's.
        objects: How many are known to be there; of class maps, pixels.
        lost: Detections of the float model (of its confidence, `Task.confidence`) that this one has not; None where
            nothing is compared, or what is found is not counted.
        extra: Detections of this model that the float model has not.
        moved: Those that both have, whose intersection over union is under 0.9.
        unusable: Detections of this model whose score, box or point is not a finite number: they count as wrong, after
            all others. Of class maps, pixels that have a class by the float model and none by this one.
    """

    measure: str
    value: float
    reference: float | None = None
    higher: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)
    by_class: Mapping[str, float] = field(default_factory=dict)
    reference_by_class: Mapping[str, float] = field(default_factory=dict)
    objects: int = 0
    lost: int | None = None
    extra: int | None = None
    moved: int | None = None
    unusable: int = 0

    @property
    def drop(self) -> float | None:
        """What is lost against the float model: points of percent, or of one's own unit; below 0 where it is gained."""
        if self.reference is None:
            return None
        lost = self.reference - self.value
        return lost if self.higher else -lost
