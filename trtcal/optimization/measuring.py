"""How good a candidate is: against the float model, on images that it was not made from."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.analysis.judged_methods import REFERENCE, group_size
from trtcal.analysis.judging import Judged
from trtcal.data.images import ImageLoader
from trtcal.measure.accuracy import evaluate
from trtcal.measure.chance import Criterion, drop_of, interval_of, worth_of
from trtcal.measure.groups import Singles
from trtcal.measure.measures import Score, Share
from trtcal.measure.report import Report

FLOAT = REFERENCE
"""What the float model is called beside candidates."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model does on some images.

    Attributes:
        images: How many.
        accuracy: Percent of top-1, of agreement with the float model or of the task's measure.
        interval: Its 95 % interval; None for a task's measure.
        drop: What is lost against the float model, in points, or percent of the images with another class.
        drop_interval: Its 95 % interval.
        sqnr: Of the worst output, in dB; None where nothing differs.
    """

    images: int
    accuracy: float
    interval: Interval | None
    drop: float
    drop_interval: Interval
    sqnr: float | None

    @classmethod
    def of(cls, score: Score, criterion: Criterion) -> "Measured":
        """From a score against the float model; or from that model's own, which loses nothing."""
        compared = bool(score.distortions)
        agreement = score.agreement if compared else Share(score.samples, score.samples)
        share = {"top-1": score.top1, "agreement": agreement}.get(criterion)
        accuracy = worth_of(score, criterion) if share is None else share.percent
        drop, interval = (drop_of(score, criterion), interval_of(score, criterion)) if compared else (0.0, (0.0, 0.0))
        sqnr = score.sqnr if compared and math.isfinite(score.sqnr) else None
        return cls(score.samples, accuracy, None if share is None else share.interval(), drop, interval, sqnr)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Measured":
        """From what `to_dict` gives, be it out of JSON."""
        pairs = {
            name: None if values[name] is None else (values[name][0], values[name][1])
            for name in ("interval", "drop_interval")
        }
        return cls(**{**values, **pairs})

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def within(self, max_drop: float) -> bool:
        """Whether no more is lost than may be."""
        return self.drop <= max_drop * (1 + 1e-12)  # 0.35 % of 2,000 is 7.000000000000001


def in_words(drop: float, measure: str) -> str:
    """What is lost, or gained, in words."""
    unit = "% of the classes" if measure == "agreement" else f"points of {measure}"
    return f"gains {-drop:.2f} {unit}" if drop < 0 else f"loses {drop:.2f} {unit}"


def side_by_side(
    models: Mapping[str, Path],
    images: ImageLoader,
    judged: Judged,
    *,
    worst: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Run models on the same images, the one called `FLOAT` for the reference.

    Args:
        models: ONNX models by name, two or more.
        images: The images.
        judged: What the model is for, and whether labels count.
        worst: How many of the images that changed most are told.
        progress: Is told the number of images done since the last call.
    """
    with OnnxRuntimeSession(models[FLOAT]) as session:
        size = session.fixed_batch or (1 if session.data_sized else group_size(session.inputs))
        samples = Singles(images.for_model(session.inputs), size, labelled=judged.labelled)
    return evaluate(
        models,
        samples,
        reference=FLOAT,
        class_names=images.class_names,
        task=judged.task,
        worst=worst,
        progress=progress,
    )
