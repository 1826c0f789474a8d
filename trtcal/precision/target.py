"""What a choice of precisions must reach: a bound on the drop, an accuracy, or a signal to noise ratio."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibrators.errors import DataError, ModelError, TrtcalError
from trtcal.measure.bound import require_bound
from trtcal.measure.chance import Criterion, drop_of, interval_of
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Z95, Score
from trtcal.tasks.measuring.result import TaskResult

Kind = Literal["max-drop", "target-accuracy", "target-sqnr"]

FEWEST_PARTS = 8
"""Of images, before their differences tell how far a ratio over all of them may be off."""

SLACK = 1e-12
"""0.35 % of 2,000 images is 7.000000000000001 of them."""


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold.

    Attributes:
        kind: "max-drop": points of top-1 lost against the float model at most; without labels, percent of images of
            another class than the float model's. "target-accuracy": top-1 in percent at least. "target-sqnr": of the
            outputs against the float model's, in dB, at least.
        value: The bound.

    Raises:
        TrtcalError: The bound means nothing.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        if self.kind == "max-drop":
            require_bound(self.value)
        elif self.kind == "target-accuracy" and not 1 < self.value <= 100:
            meant = f"; did you mean {100 * self.value:g}?" if 0 < self.value <= 1 else ""
            raise TrtcalError(f"the accuracy to reach must be above 1 and at most 100 %, not {self.value:g}{meant}")
        elif not math.isfinite(self.value):
            raise TrtcalError(f"the signal to noise ratio to reach must be a number of dB, not {self.value:g}")

    @classmethod
    def of(
        cls, max_drop: float | None = None, target_accuracy: float | None = None, target_sqnr: float | None = None
    ) -> "Target":
        """The one that is given.

        Raises:
            TrtcalError: None is, or several are.
        """
        kinds: dict[Kind, float | None]
        kinds = {"max-drop": max_drop, "target-accuracy": target_accuracy, "target-sqnr": target_sqnr}
        given = [cls(kind, value) for kind, value in kinds.items() if value is not None]
        if len(given) != 1:
            raise TrtcalError(
                f"{'no target is' if not given else f'{len(given)} targets are'} given: choose one of --max-drop 0.5, "
                "--target-accuracy 91 and --target-sqnr 20"
            )
        return given[0]

    def require_measured(self, criterion: Criterion, *, annotated: bool = True) -> None:
        """Refuse a target that is not measured in what the images tell of the model.

        Args:
            criterion: What they tell.
            annotated: Whether what is in the images is known, where the criterion is the task's measure.

        Raises:
            DataError: An accuracy is to be reached, and there are no labels or annotations.
            ModelError: A drop is bounded, and no output holds class scores.
        """
        if self.kind == "max-drop" and criterion == "SQNR":
            raise ModelError(
                "no output of the model holds class scores, in which a drop could be measured: say what it finds with "
                "--task, such as --task detect, or give --target-sqnr, in dB, instead of --max-drop"
            )
        if self.kind == "target-accuracy" and criterion == "task" and not annotated:
            raise DataError(
                "an accuracy is measured by what is annotated, and nothing is: give --annotations, or --max-drop "
                "instead of --target-accuracy"
            )
        if self.kind == "target-accuracy" and criterion not in ("top-1", "task"):
            raise DataError(
                "an accuracy is measured against labels, and there are none of the model's classes: give --labels, or "
                "--max-drop instead of --target-accuracy"
            )

    def reaches(self, found: Score) -> bool:
        """Whether it holds for a score, which is measured against the float model."""
        if self.kind == "target-sqnr":
            return found.sqnr >= self.value  # NaN is not
        if found.task is not None:
            return self._reached_by(found.task.result)
        if self.kind == "target-accuracy":
            return 100 * found.top1.hits >= self.value * found.top1.total * (1 - SLACK)
        lost = found.lost - found.gained if found.top1.total else found.agreement.total - found.agreement.hits
        total = found.top1.total or found.agreement.total
        return 100 * lost <= self.value * total * (1 + SLACK)

    def _reached_by(self, result: TaskResult) -> bool:
        if self.kind == "max-drop":
            return result.drop is None or result.drop <= self.value + SLACK
        return result.value >= self.value - SLACK if result.higher else result.value <= self.value + SLACK

    def within_noise(self, found: Score) -> str | None:
        """Why other images may tell otherwise of a score that reaches it; None where they hardly will."""
        if self.kind == "target-sqnr":
            return None
        if self.kind == "max-drop" and (found.top1.total or found.task is not None):
            criterion: Criterion = "top-1" if found.task is None else "task"
            low, high = interval_of(found, criterion)
            what, unsure = f"the drop of {drop_of(found, criterion):.2f} points", high > self.value
        elif found.task is not None:
            return None
        else:
            share = found.agreement if self.kind == "max-drop" else found.top1
            low, high = share.interval()
            least = 100 - self.value if self.kind == "max-drop" else self.value
            name = "agreement" if self.kind == "max-drop" else "top-1"
            what, unsure = f"the {name} of {share.percent:.2f} %", low < least
        if not unsure:
            return None
        return f"{what} has a 95 % interval of {low:.2f} to {high:.2f}, beyond the bound"

    @property
    def noise(self) -> float | None:
        """The noise energy over signal energy that it allows; None where it is no bound on noise."""
        return 10 ** (-self.value / 10) if self.kind == "target-sqnr" else None

    def sure(self, parts: Sequence[Score]) -> bool:
        """Whether other images will hardly tell otherwise of scores that reach it together: by a 95 % interval.

        Args:
            parts: Of disjoint images, some dozens each.
        """
        whole = sum(parts, Score())
        if self.kind == "target-sqnr":
            return all(self._quiet([part.groups.get(name) for part in parts]) for name in whole.groups)
        if self.kind == "target-accuracy" and whole.task is not None:
            return False  # nothing tells how far it may be off
        return self.within_noise(whole) is None

    def _quiet(self, parts: Sequence[Distortion | None]) -> bool:
        """Whether noise over signal is allowed at the upper end of its interval.

        A ratio R = Σ N / Σ S over J parts has the variance J / (J - 1) Σ (N - R S)² / (Σ S)² (W. G. Cochran, Sampling
        Techniques, 1977, section 6.4).
        """
        known = [part for part in parts if part is not None]
        if len(known) < max(len(parts), FEWEST_PARTS):
            return False
        signal, noise = (np.array([getattr(part, name) for part in known]) for name in ("signal", "noise"))
        if not np.sum(noise):
            return True
        ratio, count = np.sum(noise) / np.sum(signal), len(known)
        error = math.sqrt(count / (count - 1) * np.sum((noise - ratio * signal) ** 2)) / np.sum(signal)
        return bool(ratio + Z95 * error <= 10 ** (-self.value / 10))

    def __str__(self) -> str:
        return {
            "max-drop": f"a drop of {self.value:g} points at most",
            "target-accuracy": f"{self.value:g} % accuracy",
            "target-sqnr": f"{self.value:g} dB",
        }[self.kind]
