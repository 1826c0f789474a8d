"""What is kept of a measurement whose images are not at hand any more."""

from dataclasses import dataclass

from trtcal.tasks.measuring.evidence import Evidence
from trtcal.tasks.measuring.result import TaskResult
from trtcal.tasks.own.numbers import Numbers


@dataclass(frozen=True, slots=True)
class Summary:
    """A task's result, as `Evidence` gave it; unlike that, it does not add up.

    Attributes:
        result: The result.
        interval: The 95 % interval of the drop.
    """

    result: TaskResult
    interval: tuple[float, float]

    def drop_interval(self) -> tuple[float, float]:
        """The 95 % interval of the drop against the float model, as `Evidence.drop_interval` gives it."""
        return self.interval


Measured = Evidence | Numbers | Summary
"""What was measured of a model by its task."""
