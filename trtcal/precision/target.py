"""What a choice of precisions must reach: a bound on the drop, an accuracy, or a signal to noise ratio."""

import math
from dataclasses import dataclass
from typing import Literal

from calibrators.errors import DataError, ModelError, TrtcalError
from trtcal.measure.accuracy import require_bound
from trtcal.measure.chance import Criterion, drop_interval
from trtcal.measure.measures import Score

Kind = Literal["max-drop", "target-accuracy", "target-sqnr"]

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

    def require_measured(self, criterion: Criterion) -> None:
        """Refuse a target that is not measured in what the images tell of the model.

        Raises:
            DataError: An accuracy is to be reached, and there are no labels.
            ModelError: A drop is bounded, and no output holds class scores.
        """
        if self.kind == "max-drop" and criterion == "SQNR":
            raise ModelError(
                "no output of the model holds class scores, in which a drop could be measured: give --target-sqnr, in "
                "dB, instead of --max-drop"
            )
        if self.kind == "target-accuracy" and criterion != "top-1":
            raise DataError(
                "an accuracy is measured against labels, and there are none of the model's classes: give --labels, or "
                "--max-drop instead of --target-accuracy"
            )

    def reaches(self, found: Score) -> bool:
        """Whether it holds for a score, which is measured against the float model."""
        if self.kind == "target-sqnr":
            return found.sqnr >= self.value  # NaN is not
        if self.kind == "target-accuracy":
            return 100 * found.top1.hits >= self.value * found.top1.total * (1 - SLACK)
        lost = found.lost - found.gained if found.top1.total else found.agreement.total - found.agreement.hits
        total = found.top1.total or found.agreement.total
        return 100 * lost <= self.value * total * (1 + SLACK)

    def within_noise(self, found: Score) -> str | None:
        """Why other images may tell otherwise of a score that reaches it; None where they hardly will."""
        if self.kind == "target-sqnr":
            return None
        if self.kind == "max-drop" and found.top1.total:
            low, high = drop_interval(found)
            what, unsure = f"the drop of {found.drop:.2f} points", high > self.value
        else:
            share = found.agreement if self.kind == "max-drop" else found.top1
            low, high = share.interval()
            least = 100 - self.value if self.kind == "max-drop" else self.value
            name = "agreement" if self.kind == "max-drop" else "top-1"
            what, unsure = f"the {name} of {share.percent:.2f} %", low < least
        if not unsure:
            return None
        return f"{what} has a 95 % interval of {low:.2f} to {high:.2f}, beyond the bound"

    def __str__(self) -> str:
        return {
            "max-drop": f"a drop of {self.value:g} points at most",
            "target-accuracy": f"{self.value:g} % top-1",
            "target-sqnr": f"{self.value:g} dB",
        }[self.kind]
