"""What was measured of models side by side, as values and for JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from calibrators.errors import ModelError
from calibrators.tabular import Row, Tabular
from trtcal.charts import specs
from trtcal.charts.chart import Chart
from trtcal.measure.by_class import ClassTable
from trtcal.measure.chance import Criterion, interval_of, measure_named
from trtcal.measure.changed import ChangedImage
from trtcal.measure.measures import Score, Share
from trtcal.tasks.measuring.changes import Change, PixelChange
from trtcal.tasks.measuring.result import TaskResult

Changed = ChangedImage | Change | PixelChange
"""How an image changed: its class or outputs, what is found in it, or the classes of its pixels."""


@dataclass(frozen=True, slots=True)
class Report(Tabular):
    """Scores by model.

    Attributes:
        scores: What was measured of each, in the order given.
        reference: The model that the others were compared with.
        criterion: What they are judged by first.
        notes: What a user should know of how the task was measured, one line each.
        class_names: By class number; empty where they are not known.
        changed_images: The images that changed most, by model, where `evaluate` was asked for them.
    """

    scores: Mapping[str, Score]
    reference: str | None = None
    criterion: Criterion = "SQNR"
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    changed_images: Mapping[str, tuple[Changed, ...]] = field(default_factory=dict)

    def by_class(self, name: str) -> ClassTable:
        """What a model does class by class; without rows for one that has no class scores."""
        return ClassTable(self.scores[name].by_class, self.names_of(name), self.reference not in (None, name))

    def names_of(self, name: str) -> tuple[str, ...]:
        """The names of a model's classes; empty where there are not as many."""
        return self.class_names if len(self.class_names) == self.scores[name].classes else ()

    def drop_interval(self, name: str) -> tuple[float, float] | None:
        """The 95 % interval of what a model loses against the reference, in points of top-1 or of the task's measure.

        None for the reference, and where neither is measured. Agreement has its own (`Share.interval`).
        """
        each = self.scores[name]
        if self.reference in (None, name) or not (each.task is not None or each.top1.total):
            return None
        return interval_of(each, "top-1" if each.task is None else "task")

    def plot(self, name: str | None = None) -> Chart:
        """What a model loses in each class, in points.

        Args:
            name: Of the model; None takes the first that is not the reference.

        Raises:
            ModelError: There is no such model, or nothing is known of it class by class.
        """
        others = [each for each in self.scores if each != self.reference]
        chosen = name or next(iter(others), "")
        if chosen not in self.scores:
            raise ModelError(f"there is no model {chosen!r} to plot: there are {', '.join(self.scores)}")
        rows = [
            {"class": str(row["name"] or row["class"]), "lost": row["drop"] or 0.0}
            for row in self.by_class(chosen).rows()
        ]
        if not rows:
            raise ModelError(
                f"nothing is known of {chosen} class by class: it has no class scores, or there is no label"
            )
        return Chart(f"{chosen}: points lost by class", specs.by_class(rows))

    def rows(self) -> list[Row]:
        """A row a model."""
        return [{"model": name, **each.to_row()} for name, each in self.scores.items()]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: percent and dB as numbers, null for what was not measured or is no finite number."""
        return {
            "reference": self.reference,
            "criterion": measure_named(self.criterion, next(iter(self.scores.values()))),
            "class_names": [*self.class_names] or None,
            "models": [
                score_as_dict(name, each, is_reference=name == self.reference) | self._in_detail(name)
                for name, each in self.scores.items()
            ],
        }

    def _in_detail(self, name: str) -> dict[str, Any]:
        """By class, and image by image; None for what was not measured."""
        changed = self.changed_images.get(name)
        interval = self.drop_interval(name)
        return {
            "drop_interval95": None if interval is None else [*map(_finite, interval)],
            "by_class": self.by_class(name).rows() or None,
            "changed_images": None if changed is None else [changed_as_dict(image) for image in changed],
        }


def changed_as_dict(image: Changed) -> dict[str, Any]:
    """For JSON."""
    return image.to_dict() if isinstance(image, ChangedImage) else image._asdict()


def score_as_dict(name: str, each: Score, *, is_reference: bool) -> dict[str, Any]:
    """For JSON: percent and dB as numbers, null for what was not measured or is no finite number."""
    compared = bool(each.distortions or each.unlike) and not is_reference
    by_output = {output: _finite(part.sqnr) for output, part in each.distortions.items()}
    drop = None
    if compared and each.top1.total:
        images = each.lost - each.gained
        drop = {"points": each.drop, "images": images, "lost": each.lost, "gained": each.gained}
    return {
        "name": name,
        "samples": each.samples,
        "classes": each.classes or None,
        "top1": _share_as_dict(each.top1),
        "top5": _share_as_dict(each.top5),
        "drop": drop,
        "agreement": _share_as_dict(each.agreement),
        "task": None if each.task is None else task_as_dict(each.task.result),
        "sqnr_db": _finite(each.distortion.sqnr) if compared else None,
        "worst": {"output": each.worst, "sqnr_db": _finite(each.sqnr)} if compared else None,
        "sqnr_db_by_group": {group: _finite(part.sqnr) for group, part in each.groups.items()},
        "sqnr_db_by_output": dict.fromkeys(each.unlike) | by_output,
        "other_size": {output: part.samples for output, part in each.unlike.items()},
        "equal_integers": {output: _share_as_dict(share) for output, share in each.integers.items()},
        "identical": each.identical if compared else None,
        "nonfinite_samples": each.nonfinite,
    }


def task_as_dict(result: TaskResult) -> dict[str, Any]:
    """For JSON: percent or one's own unit as numbers, null for what was not measured."""
    return {**asdict(result), "drop": result.drop}


def _share_as_dict(share: Share) -> dict[str, Any] | None:
    if not share.total:
        return None
    return {"percent": share.percent, "interval95": share.interval(), "hits": share.hits, "total": share.total}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
