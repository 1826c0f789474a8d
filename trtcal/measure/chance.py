"""What of a difference between models may be chance: all of them have run on the same images."""

import math
from collections.abc import Hashable, Mapping
from typing import Literal, TypeVar

from calibrators.errors import ModelError
from trtcal.measure.measures import Z95, Score
from trtcal.tasks.measuring.evidence import Evidence
from trtcal.tasks.measuring.evidence import tied as evidence_tied
from trtcal.tasks.own.numbers import Numbers, numbers_tied
from trtcal.tasks.task import Task

Criterion = Literal["top-1", "agreement", "task", "SQNR"]
"""What scores are ranked by.

Agreement is with the float model's class; "task" is the task's own measure, such as mAP (`Score.task`); SQNR has no
chance in it that is known.
"""

Name = TypeVar("Name", bound=Hashable)


def lost(score: Score) -> int:
    """Images that top-1 loses against the float model, less those that it gains."""
    return score.lost - score.gained


def drop_interval(score: Score, z: float = Z95) -> tuple[float, float]:
    """The 95 % interval of a drop in top-1 against the float model, in points."""
    return difference_interval(lost(score), score.lost + score.gained, score.top1.total, z)


def difference_interval(difference: int, changed: int, total: int, z: float = Z95) -> tuple[float, float]:
    """The 95 % interval, in points, of the difference between two models on the same images.

    With b images right by one model alone and c by the other alone, of n: ``d = (b - c) / (n + 2)``, and its standard
    error is ``sqrt(b + c + 1 - (b - c)² / (n + 2)) / (n + 2)``: Wald's interval after half an image is added to each
    cell (A. Agresti and Y. Min, 2005).

    Args:
        difference: b - c.
        changed: b + c.
        total: n.
        z: How many standard errors the interval reaches to either side.
    """
    n = total + 2
    error = math.sqrt(changed + 1 - difference**2 / n) / n
    return 100 * (difference / n - z * error), 100 * (difference / n + z * error)


def criterion_of(reference: Score, task: Task) -> Criterion:
    """What models are ranked by.

    Args:
        reference: The float model's score.
        task: What the model is for.
    """
    if task.finds:
        return "task"
    if not reference.classes or task.kind == "outputs":
        return "SQNR"
    return "top-1" if reference.top1.total else "agreement"


def measure_named(criterion: Criterion, reference: Score) -> str:
    """What to call a criterion: that of a task by its measure, such as "mAP 50-95"."""
    return reference.task.result.measure if criterion == "task" and reference.task is not None else criterion


def drop_of(score: Score, criterion: Criterion) -> float:
    """What is lost against the float model: points of top-1 or of the task's measure, or percent of other classes.

    Raises:
        ModelError: The criterion is SQNR, which no drop is measured in.
    """
    if criterion == "SQNR":
        raise ModelError("the model's outputs hold no class scores, in which a drop could be measured")
    if criterion == "task":
        drop = None if score.task is None else score.task.result.drop
        return 0.0 if drop is None else drop
    return score.drop if criterion == "top-1" else 100 - score.agreement.percent


def worth_of(score: Score, criterion: Criterion) -> float:
    """A criterion's value, of which more is better: percent of top-1, of agreement or of the task's measure, or dB."""
    if criterion == "SQNR":
        return sqnr_of(score)
    if criterion == "task":
        return _found(score)
    return (score.top1 if criterion == "top-1" else score.agreement).percent


def interval_of(score: Score, criterion: Criterion) -> tuple[float, float]:
    """The 95 % interval of `drop_of`, in the same unit."""
    if criterion == "task":
        return (0.0, 0.0) if score.task is None else score.task.drop_interval()
    if criterion == "top-1":
        return drop_interval(score)
    others = score.agreement.total - score.agreement.hits
    return difference_interval(others, others, score.agreement.total)


def beyond_chance(score: Score, criterion: Criterion = "top-1") -> bool:
    """Whether the 95 % interval of what a model loses against the float model leaves out 0; never by SQNR."""
    if criterion == "SQNR" or (criterion == "task" and drop_of(score, criterion) == 0):
        return False
    low, high = interval_of(score, criterion)
    return not low <= 0 <= high


def tied(one: Score, other: Score, criterion: Criterion) -> bool:
    """Whether the difference of two models may be chance.

    A score says how many images a model gets otherwise than the float model. Two models differ on no more images than
    both these numbers together, which stands for b + c in `difference_interval`: the interval is never too narrow.
    By SQNR models are tied where they are equal. By a task's measure, where the 95 % interval of their difference, from
    images drawn anew, holds 0 (`trtcal.tasks.measuring.evidence.tied`).
    """
    if criterion == "SQNR":
        return sqnr_of(one) == sqnr_of(other)
    if criterion == "task":
        return _tied_by_task(one, other)
    total = (one.top1 if criterion == "top-1" else one.agreement).total
    changed = min(_changed(one, criterion) + _changed(other, criterion), total)
    low, high = difference_interval(_hits(one, criterion) - _hits(other, criterion), changed, total)
    return low <= 0 <= high


def better(one: Score, other: Score, criterion: Criterion) -> bool:
    """Whether a model is better than another: by more than chance, or tied and of the higher SQNR."""
    if tied(one, other, criterion):
        return sqnr_of(one) > sqnr_of(other)
    return _rank(one, criterion) > _rank(other, criterion) if criterion != "SQNR" else sqnr_of(one) > sqnr_of(other)


def in_tiers(scores: Mapping[Name, Score], criterion: Criterion) -> list[list[Name]]:
    """Models in tiers, the best first: in a tier all are tied with the one of the most hits, and SQNR orders them.

    A tier ends at the first model that is not tied, by the number of hits: what it beats is in no tier above its own.
    """
    left = sorted(scores, key=lambda name: (-_rank(scores[name], criterion), -sqnr_of(scores[name])))
    tiers: list[list[Name]] = []
    while left:
        first, count = scores[left[0]], 1
        while count < len(left) and tied(first, scores[left[count]], criterion):
            count += 1
        tiers.append(sorted(left[:count], key=lambda name: -sqnr_of(scores[name])))
        left = left[count:]
    return tiers


def sqnr_of(score: Score) -> float:
    """In dB, of the worst output or group of channels (`Score.sqnr`); least where there is NaN."""
    return -math.inf if math.isnan(score.sqnr) else score.sqnr


def _rank(score: Score, criterion: Criterion) -> float:
    """What comes before SQNR: images of the right class, or the task's measure."""
    if criterion == "task":
        return _found(score)
    return _hits(score, criterion)


def _hits(score: Score, criterion: Criterion) -> int:
    return {"top-1": score.top1.hits, "agreement": score.agreement.hits}.get(criterion, 0)


def _found(score: Score) -> float:
    """The task's measure, of which more is better."""
    if score.task is None:
        return -math.inf
    result = score.task.result
    return result.value if result.higher else -result.value


def _tied_by_task(one: Score, other: Score) -> bool:
    first, second = one.task, other.task
    if first is second or first is None or second is None:
        return first is second
    if isinstance(first, Evidence) and isinstance(second, Evidence):
        return evidence_tied(first, second)
    if isinstance(first, Numbers) and isinstance(second, Numbers):
        return numbers_tied(first, second)
    return first.result.value == second.result.value


def _changed(score: Score, criterion: Criterion) -> int:
    """Images that a model gets otherwise than the float model."""
    return score.lost + score.gained if criterion == "top-1" else score.agreement.total - score.agreement.hits
