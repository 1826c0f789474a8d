"""What the demo's figures mean, in words for whoever sees INT8 for the first time."""

from dataclasses import dataclass
from pathlib import Path

from trtcal.demo.places import Places
from trtcal.measure.chance import Criterion, drop_of, measure_named, worth_of
from trtcal.measure.measures import Score
from trtcal.tasks.measuring.evidence import Evidence

ALIKE = 1.1
"""Up to this ratio two medians of a short benchmark count as the same."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of the FP32 model and of the INT8 one: pairs are (FP32, INT8).

    Attributes:
        scores: On the test images, against the FP32 model: of classes, or of a task's own measure.
        latencies: Median of a run on the CPU, in milliseconds.
        engines: Sizes of the engines, in bytes.
        allowed: Points that INT8 may lose.
    """

    scores: tuple[Score, Score]
    latencies: tuple[float, float]
    engines: tuple[int, int]
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether INT8 loses no more than it may."""
        return self.drop <= self.allowed

    @property
    def drop(self) -> float:
        """Points that INT8 loses."""
        return drop_of(self.scores[1], self.criterion)

    @property
    def criterion(self) -> Criterion:
        """What the models are judged by."""
        return "top-1" if self.scores[1].task is None else "task"


def verdict(figures: Figures) -> str:
    """A sentence on accuracy, one on speed and size, and what follows."""
    return f"{_accuracy(figures)} {_cost(figures)} {_meaning(figures)}"


def next_step(figures: Figures, places: Places, *, gpu: bool) -> tuple[str, ...]:
    """The command to type next: what is said to a shell after `trtcal`.

    Args:
        figures: Of the demo.
        places: Its files.
        gpu: Whether its engines run here.
    """
    words: tuple[str | Path, ...]
    if not figures.passed:
        words = ("sensitivity", places.fp32, "--images", places.calibration, "--test-images", places.test)
        words += _judged_by(figures, places)
    elif gpu:
        words = ("benchmark", places.fp32_engine, places.int8_engine)
    else:
        words = ("inspect", places.int8_engine)
    return tuple(map(str, words))


def _judged_by(figures: Figures, places: Places) -> tuple[str | Path, ...]:
    """What a command has to know of scenes; nothing of digits, whose classes are folders."""
    found = figures.scores[1].task
    if found is None:
        return ()
    pixels = isinstance(found, Evidence) and found.measure == "pixels"
    task: tuple[str | Path, ...] = ("segment", "--annotations", places.masks)
    return ("--preprocess", "unit", "--task", *(task if pixels else ("detect", "--annotations", places.annotations)))


def _accuracy(figures: Figures) -> str:
    fp32, int8 = (worth_of(score, figures.criterion) for score in figures.scores)
    measure = measure_named(figures.criterion, figures.scores[1])
    said = "INT8 loses no accuracy"
    if not figures.passed:
        said = f"INT8 loses {figures.drop:.2f} points of {measure}, more than the {figures.allowed:.2f} allowed"
    elif figures.drop > 0:
        said = f"INT8 loses {figures.drop:.2f} points of {measure}, of the {figures.allowed:.2f} allowed"
    if figures.criterion == "task":
        return f"{said}: {measure} is {int8:.2f} %, {fp32:.2f} % with FP32."
    return f"{said}: {int8:.2f} % of the images are right, {fp32:.2f} % with FP32."


def _cost(figures: Figures) -> str:
    (fp32, int8), reasons = figures.latencies, list[str]()
    if int8 > fp32 * ALIKE:
        speed = f"takes {int8 / fp32:.1f} times as long"
        reasons.append("what computes INT8 fast are units of the GPU")
    elif fp32 > int8 * ALIKE:
        speed = f"is {fp32 / int8:.1f} times as fast"
    else:
        speed = "takes as long as FP32"
    before, after = figures.engines
    size = "larger" if after > before else "smaller" if after < before else "of the same size"
    if after > before:
        reasons.append("in a network this small, INT8 adds more code than it saves in weights")
    sizes = f"{after / 1000:,.0f} kB against {before / 1000:,.0f} kB"
    why = f": {', and '.join(reasons)}" if reasons else ""
    return f"On this CPU it {speed}, and its engine is {size} ({sizes}){why}."


def _meaning(figures: Figures) -> str:
    if not figures.passed:
        return "So look first for the layers that lose the accuracy."
    return "What INT8 gains in speed shows on a GPU, with a model of your own."
