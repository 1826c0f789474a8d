"""What an optimization found: the candidates, what each loses and costs, and which one to deploy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibrators.errors import CheckFailedError
from calibrators.tabular import Row, Tabular
from trtcal.optimization.measuring import Measured
from trtcal.optimization.request import Precision


@dataclass(frozen=True, slots=True)
class Taken:
    """A step of the ladder that was taken.

    Attributes:
        name: Of it.
        told: What it did, in one line.
        measured: On the images that steps are judged by; None where it made no model.
        worst: The larger drop of those on these images and on the others, where these were asked; infinity without a
            model.
        holds: Whether it holds the bound on both.
        seconds: That it took.
        reused: Whether it stood from an earlier run.
    """

    name: str
    told: str
    measured: Measured | None
    worst: float
    holds: bool
    seconds: float
    reused: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "measured": None if self.measured is None else self.measured.to_dict()}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine to choose among.

    Attributes:
        name: int8, fp16 or fp32.
        step: The step that its model is from; empty for the float model.
        engine: Its file.
        measured: On the images of the verdict; None where FP16 or FP32 was not measured.
        holds: Whether it loses no more than may be lost.
        cost: Multiply-accumulates times bits of its operators as they run, in percent of all in FP32.
        share_of_int8: Percent of its weighted operators that run in INT8; None where that is not known.
        size: Of the engine, in bytes.
        latency: Median time of a run, in ms, by batch size; empty where it was not measured.
    """

    name: Precision
    step: str
    engine: Path
    measured: Measured
    holds: bool
    cost: float
    share_of_int8: float | None
    size: int
    latency: Mapping[int, float]

    @property
    def throughput(self) -> float | None:
        """Samples per second with the largest batch that was timed; None where none was."""
        return max((1000 * size / time for size, time in self.latency.items()), default=None)


@dataclass(frozen=True, slots=True)
class Optimized(Tabular):
    """What was found.

    Attributes:
        folder: That holds the files.
        max_drop: What could be lost.
        measure: In what.
        steps: Those of the ladder that were taken.
        candidates: The engines.
        chosen: The one to deploy; None where none holds the bound.
        sentence: Why, in words.
        commands: What makes the folder again.
        to_measure: What is still to be measured elsewhere: commands to type.
        notes: What a user should know, one line each.
    """

    folder: Path
    max_drop: float
    measure: str
    steps: tuple[Taken, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    sentence: str
    commands: tuple[str, ...]
    to_measure: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Candidate:
        """The chosen one; where none holds the bound, what loses least."""
        return self.chosen or min(self.candidates, key=lambda each: (each.measured.drop, each.cost))

    @property
    def step(self) -> Taken | None:
        """The step whose model is the INT8 candidate's; None where there is none."""
        names = [each.step for each in self.candidates if each.name == "int8"]
        return next((each for each in self.steps if each.name in names), None)

    @property
    def gap(self) -> float | None:
        """By how much the best misses the bound; None where one holds it."""
        return None if self.chosen is not None else self.best.measured.drop - self.max_drop

    def rows(self) -> list[Row]:
        """A row a candidate."""
        return [
            {
                "candidate": each.name,
                "step": each.step,
                "accuracy": each.measured.accuracy,
                "drop": each.measured.drop,
                "drop_low": each.measured.drop_interval[0],
                "drop_high": each.measured.drop_interval[1],
                "holds": each.holds,
                "cost": each.cost,
                "int8_share": each.share_of_int8,
                "bytes": each.size,
                "latency_ms": next(iter(each.latency.values()), None),
                "samples_per_second": each.throughput,
                "chosen": each is self.chosen,
            }
            for each in self.candidates
        ]

    def require_chosen(self) -> None:
        """Require that a candidate holds the bound.

        Raises:
            CheckFailedError: None does; the message names the best, and the gap.
        """
        if self.chosen is None:
            raise CheckFailedError(self.sentence)
