"""What of a difference between models may be chance: all of them have run on the same images."""

import math
from collections.abc import Hashable, Mapping
from typing import Literal, TypeVar

from trtcal.measure.measures import Z95, Score

Criterion = Literal["top-1", "agreement", "SQNR"]
"""What scores are ranked by. Agreement is with the float model's class; SQNR has no chance in it that is known."""

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


def beyond_chance(score: Score, criterion: Criterion = "top-1") -> bool:
    """Whether the 95 % interval of what a model loses against the float model leaves out 0; never by SQNR."""
    if criterion == "SQNR":
        return False
    if criterion == "top-1":
        low, high = drop_interval(score)
    else:
        others = score.agreement.total - score.agreement.hits
        low, high = difference_interval(others, others, score.agreement.total)
    return not low <= 0 <= high


def tied(one: Score, other: Score, criterion: Criterion) -> bool:
    """Whether the difference of two models may be chance.

    A score says how many images a model gets otherwise than the float model. Two models differ on no more images than
    both these numbers together, which stands for b + c in `difference_interval`: the interval is never too narrow.
    By SQNR models are tied where they are equal.
    """
    if criterion == "SQNR":
        return sqnr_of(one) == sqnr_of(other)
    total = (one.top1 if criterion == "top-1" else one.agreement).total
    changed = min(_changed(one, criterion) + _changed(other, criterion), total)
    low, high = difference_interval(_hits(one, criterion) - _hits(other, criterion), changed, total)
    return low <= 0 <= high


def better(one: Score, other: Score, criterion: Criterion) -> bool:
    """Whether a model is better than another: by more than chance, or tied and of the higher SQNR."""
    if tied(one, other, criterion):
        return sqnr_of(one) > sqnr_of(other)
    return _hits(one, criterion) > _hits(other, criterion) if criterion != "SQNR" else sqnr_of(one) > sqnr_of(other)


def in_tiers(scores: Mapping[Name, Score], criterion: Criterion) -> list[list[Name]]:
    """Models in tiers, the best first: in a tier all are tied with the one of the most hits, and SQNR orders them.

    A tier ends at the first model that is not tied, by the number of hits: what it beats is in no tier above its own.
    """
    left = sorted(scores, key=lambda name: (-_hits(scores[name], criterion), -sqnr_of(scores[name])))
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


def _hits(score: Score, criterion: Criterion) -> int:
    return {"top-1": score.top1.hits, "agreement": score.agreement.hits, "SQNR": 0}[criterion]


def _changed(score: Score, criterion: Criterion) -> int:
    """Images that a model gets otherwise than the float model."""
    return score.lost + score.gained if criterion == "top-1" else score.agreement.total - score.agreement.hits
