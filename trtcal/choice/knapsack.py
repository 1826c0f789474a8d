"""Which layers to leave in float under a budget, where the noise that each adds to groups of outputs is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRICES = (0.0, 0.5, 1.0)
"""Exponents of a layer's cost in what greedy steps weigh: from the largest gain to the largest gain for its cost."""

ORDERS = (1, 8)
"""Of norms over the groups, by which steps are weighed."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """What layers in INT8 add to the outputs.

    Attributes:
        names: The layers that may be left in float.
        costs: Of each, in the budget's unit.
        alone: (layers, groups): noise energy over signal energy at each group of outputs, each layer alone in INT8.
        whole: (groups,): with every layer in INT8; those that may not be left in float, too.
    """

    names: tuple[str, ...]
    costs: Floats
    alone: Floats
    whole: Floats

    def left(self, chosen: Sequence[int], *, more: Sequence[int] = ()) -> Floats:
        """(groups,): what is predicted to be left without some layers: noise adds up, nearly.

        Where the layers alone make more noise than all together, each is credited with its part only. With `more`, a
        row (layers, groups) for each of these: without it, too.
        """
        sums = self.alone.sum(axis=0)
        credit = np.minimum(1.0, self.whole / np.where(sums > 0, sums, 1.0)) * self.alone
        without = credit[[*chosen]].sum(axis=0)
        rows = without + credit[[*more]] if len(more) else without
        return np.asarray(np.maximum(self.whole - rows, 1e-4 * self.whole))

    def gain(self, chosen: Sequence[int]) -> float:
        """By how many dB the worst group is predicted to be better without some layers."""
        least = self.left(chosen).max(initial=0.0)
        return 10 * math.log10(self.whole.max() / least) if least > 0 else 0.0

    def height(self, chosen: Sequence[int], order: int, *, more: Sequence[int] = ()) -> Floats:
        """How much noise is left without some layers, over all groups; with `more` (layers,), without each, too.

        A norm of an order: 1 is the sum over the groups, 8 nearly the largest, to which mending one of several groups
        that are as bad counts, too.
        """
        return np.asarray(np.linalg.norm(self.left(chosen, more=more), ord=order, axis=-1))


def chosen_within(noise: Noise, budget: float, *, worth: float) -> tuple[int, ...]:
    """The layers, by index, without which the worst group is predicted to gain most, at no more than a budget in all.

    Greedy steps, by gain and by gain for its cost, then exchanges of one layer for another: the best of what these lead
    to. A layer that adds less than `worth` dB to the others is not taken.
    """
    if not noise.whole.any():
        return ()
    filled = (_filled(noise, (), budget, price, order) for price in PRICES for order in ORDERS)
    found = {_pruned(noise, _exchanged(noise, each, budget), worth) for each in filled}
    return max(found, key=lambda each: (round(noise.gain(each), 3), -noise.costs[[*each]].sum()))


def _filled(
    noise: Noise, chosen: tuple[int, ...], budget: float, price: float = 0.0, order: int = 8
) -> tuple[int, ...]:
    """With as many more layers as there is room for: each time what gains most, by its cost to the power of a price."""
    while others := _others(noise, chosen, budget):
        gains = np.log(noise.height(chosen, order) / noise.height(chosen, order, more=others))
        value = gains / np.maximum(noise.costs[others], 1e-3 * budget) ** price
        best = int(np.argmax(value))
        if not value[best] > 0:
            break
        chosen = (*chosen, others[best])
    return chosen


def _exchanged(noise: Noise, chosen: tuple[int, ...], budget: float) -> tuple[int, ...]:
    """With one layer exchanged for another, and what there is then room for, as long as that gains."""
    while chosen:
        found = dict[tuple[int, ...], None]()
        for each in chosen:
            rest = tuple(other for other in chosen if other != each)
            others = _others(noise, rest, budget)
            for order in ORDERS:
                heights = noise.height(rest, order, more=others)
                found[_filled(noise, (*rest, others[int(np.argmin(heights))]), budget)] = None
        best = max(found, key=noise.gain)
        if noise.gain(best) <= noise.gain(chosen) + 1e-6:
            break
        chosen = best
    return chosen


def _pruned(noise: Noise, chosen: tuple[int, ...], worth: float) -> tuple[int, ...]:
    while chosen:
        rests = [tuple(other for other in chosen if other != each) for each in chosen]
        least = max(rests, key=noise.gain)
        if noise.gain(chosen) - noise.gain(least) >= worth:
            break
        chosen = least
    return tuple(sorted(chosen))


def _others(noise: Noise, chosen: Sequence[int], budget: float) -> list[int]:
    """Layers that there is room for."""
    room = budget - noise.costs[[*chosen]].sum() + 1e-9
    return [each for each in range(len(noise.names)) if each not in chosen and noise.costs[each] <= room]
