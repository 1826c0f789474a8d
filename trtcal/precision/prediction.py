"""The noise of a choice of precisions, predicted from groups measured alone, and the cheapest choice within bounds.

What independent layers add to the outputs adds up, near enough. So the noise of a choice is predicted as the sum of its
groups' noises, each measured with all other groups in float; and the cheapest choice is that of a multiple-choice
knapsack: of each group one level, at the least cost, the noise of every part of the outputs within a bound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Levels = tuple[int, ...]
"""By group, the level it is at: a number that rises with precision. Groups need not have the same levels."""

Cost = Callable[[int, int], float]
"""Of a group, by its index, at a level; it rises with the level."""

Vector = npt.NDArray[np.float64]
"""Noise energy over signal energy, by part of the outputs, shape (parts,)."""

Places = npt.NDArray[np.intp]

MOST = 2048
"""Partial choices that are kept after each group. More are thinned out, evenly over their costs."""

EXACT = 1024
"""Partial choices up to which all are kept that no other one beats in cost and in every part."""

SLACK = 1e-9
"""Of a bound: what sums in another order differ by at most."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Noise by group and level; that of a choice is ``base + Σ noises[group, level]``.

    Attributes:
        base: Of what is the same in every choice.
        noises: By group and level, as far as they are to be chosen.
    """

    base: Vector
    noises: Mapping[tuple[int, int], Vector]

    def of(self, levels: Levels) -> Vector:
        """The noise of a choice."""
        total: Vector = np.sum([self.base, *(self.noises[each] for each in enumerate(levels))], axis=0)
        return total


def cheapest(
    ladders: Sequence[Sequence[int]],
    prediction: Prediction,
    cost: Cost,
    bounds: Vector,
    *,
    room: float = 0.0,
    most: int = MOST,
) -> Levels | None:
    """The cheapest choice whose predicted noise is within a bound for each part of the outputs; None where none is.

    Of choices that cost at most `room` more than that, the one that is farthest from its bounds: the least
    ``max(noise / bound)``.

    Groups are taken one after another, with the partial choices that may still become the answer (Pareto's front of
    cost and noise). That is exact up to `EXACT` of them, and with one part up to `most`. Of more, with several parts,
    one is dropped where it improves on the cheaper ones in no part, nor in their sum, nor in the worst of them.

    Args:
        ladders: By group its levels.
        prediction: Of these.
        cost: Of a group at a level.
        bounds: By part, above 0.
        room: A share of the cost.
        most: Partial choices to keep.
    """
    groups = [_Options.of(group, ladder, prediction, cost, bounds) for group, ladder in enumerate(ladders)]
    # What the groups that are still to come add at least, to noise and to cost.
    ahead = np.cumsum([np.zeros(len(bounds)), *(each.noise.min(axis=0) for each in reversed(groups))], axis=0)[::-1]
    costs, noises = np.zeros(1), (prediction.base / bounds)[None]
    parents: list[Places] = []
    for group, least in zip(groups, ahead[1:], strict=True):
        costs = (costs[:, None] + group.cost).reshape(-1)
        noises = (noises[:, None] + group.noise).reshape(-1, len(bounds))
        kept = np.flatnonzero(np.all(noises + least <= 1 + SLACK, axis=1))
        if not len(kept):
            return None
        kept = kept[_front(costs[kept], noises[kept], most)]
        costs, noises = costs[kept], noises[kept]
        parents.append(kept)
    near = np.flatnonzero(costs <= costs.min() * (1 + room) + SLACK * abs(costs.min()))
    place = int(near[np.lexsort((costs[near], noises[near].max(axis=1)))[0]])
    return _traced(place, parents, ladders)


@dataclass(frozen=True, slots=True)
class _Options:
    """A group's levels: their costs, shape (levels,), and their noises over the bounds, shape (levels, parts)."""

    cost: Vector
    noise: Vector

    @classmethod
    def of(cls, group: int, ladder: Sequence[int], prediction: Prediction, cost: Cost, bounds: Vector) -> "_Options":
        noises = [prediction.noises[group, level] / bounds for level in ladder]
        return cls(np.array([cost(group, level) for level in ladder]), np.array(noises))


def _front(costs: Vector, noises: Vector, most: int) -> Places:
    """The places of partial choices that improve on all cheaper ones, in the order of their costs."""
    if 1 < len(costs) <= EXACT and noises.shape[1] > 1:
        return _undominated(costs, noises)
    measures = np.column_stack([noises, noises.sum(axis=1), noises.max(axis=1)])
    order: Places = np.lexsort((measures[:, -1], measures[:, -2], costs))
    before = np.minimum.accumulate(measures[order], axis=0)
    better = np.any(measures[order][1:] < before[:-1], axis=1)
    order = order[np.concatenate([[True], better])]
    if len(order) <= most:
        return order
    least, greatest = costs[order[0]], costs[order[-1]]
    width = (greatest - least) / (most // measures.shape[1]) or 1.0
    bins = ((costs[order] - least) / width).astype(np.intp)
    kept = set[int]()
    for measure in measures.T:
        best = np.lexsort((measure[order], bins))
        first = np.concatenate([[True], np.diff(bins[best]) > 0])
        kept.update(best[first].tolist())
    thinned: Places = order[sorted(kept)]
    return thinned


def _undominated(costs: Vector, noises: Vector) -> Places:
    """Those than which no other one is cheaper and quieter in every part; of equal ones the first."""
    order: Places = np.lexsort((*noises.T, costs))
    known = np.column_stack([costs, noises])[order]
    as_good = np.all(known[:, None] <= known, axis=2)
    as_good[np.tril_indices(len(order))] = False
    kept: Places = order[~as_good.any(axis=0)]
    return kept


def _traced(place: int, parents: Sequence[Places], ladders: Sequence[Sequence[int]]) -> Levels:
    """The levels that a partial choice after the last group was made of."""
    levels = []
    for kept, ladder in zip(reversed(parents), reversed(ladders), strict=True):
        place, level = divmod(int(kept[place]), len(ladder))
        levels.append(ladder[level])
    return tuple(reversed(levels))
