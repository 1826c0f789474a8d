"""The search for the cheapest choice of precisions that reaches a target, on whatever scores it is given."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trtcal.precision.prediction import Cost, Levels

Phase = Callable[[str, int], None]
"""Is told what begins, and how many evaluations it takes at most."""

BY_ITSELF = "Each group by itself"
"""The phase that asks for noise alone."""

NEIGHBOURS = 2
"""Prefixes that are looked at below one that reaches the target though the next shorter one does not."""

LEAST_SAVING = 1e-3
"""Of the cost of all groups: what saves less is not worth any noise, and choices that differ by less cost the same."""

WORST = 1e30
"""The noise of outputs that are no numbers, or infinite; far more than any other, and still a number to reckon with."""


@dataclass(frozen=True, slots=True)
class Step:
    """A group that goes from one level to a higher one.

    Attributes:
        group: Its index.
        start: The level it leaves.
        stop: The level it takes.
        gain: The noise that this removes; below 0 where it adds some.
        price: What it adds to the cost.
    """

    group: int
    start: int
    stop: int
    gain: float
    price: float

    @property
    def worth(self) -> float:
        """Noise removed per cost added."""
        return self.gain / self.price if self.price > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        best: The cheapest choice that was found to reach the target; None where none does.
        points: Every choice that was evaluated, each once, in order -> whether it reaches the target; None where that
            was not asked, as only its noise mattered.
        floor: All groups at their lowest level.
        top: All groups at the lowest common level that reaches the target; None where none does, or none was tried as
            the floor does.
        order: The steps from the floor to the top, the worthiest first; nothing where no order was needed.
        prefix: How many of them the shortest prefix takes that was found to reach the target.
    """

    best: Levels | None
    points: Mapping[Levels, bool | None]
    floor: Levels
    top: Levels | None = None
    order: tuple[Step, ...] = ()
    prefix: int | None = None

    @property
    def evaluations(self) -> int:
        """How many choices were evaluated."""
        return len(self.points)


def search(
    ladders: Sequence[Sequence[int]],
    reaches: Callable[[Levels], bool],
    noise: Callable[[Levels], float],
    cost: Cost,
    *,
    phase: Phase = lambda name, most: None,
) -> Found:
    """Find levels for groups at which a target holds, as cheap as the search can make them.

    1. All at their lowest level: where that reaches the target, it is the answer.
    2. All at one level, the lowest first, up to the first that reaches the target: the top. Where none does, there is
       no answer.
    3. Each group by itself, both ways: at each lower level while all others are at the top, which tells the noise that
       it adds by itself; and at each higher level while all others are at their lowest, which tells what lifting it
       alone achieves.
    4. Steps from level to level are ordered by noise removed per cost added (`ordered`).
    5. Binary search for the shortest prefix of that order that reaches the target; as scores are not monotone, the next
       shorter ones are tried as well (`NEIGHBOURS`).
    6. From the cheapest choice that came up so far and reaches the target, groups go back to the lowest level at which
       it still holds, those that save most first; not where that saves next to nothing (`LEAST_SAVING`).

    The answer is the cheapest of all choices that were evaluated and reach the target; of those that cost the same but
    for next to nothing, the one of least noise.

    Args:
        ladders: By group its levels, rising, one at least.
        reaches: Whether a choice reaches the target; asked once for a choice at most.
        noise: How far a choice's outputs are off: noise energy over signal energy, which of independent layers adds up.
            The order goes by it, as it tells finely where the target's own measure jumps from image to image. Asked
            once for a choice at most.
        cost: Of a group at a level.
        phase: Is told what begins.
    """
    run = _Run(tuple(map(tuple, ladders)), reaches, noise, cost)
    floor = tuple(ladder[0] for ladder in run.ladders)
    levels = sorted({level for ladder in run.ladders for level in ladder})
    phase("All layers at once", len(levels))
    if run.reaches(floor):
        return Found(floor, run.points, floor)
    top = next((point for point in map(run.at_most, levels) if run.reaches(point)), None)
    if top is None:
        return Found(None, run.points, floor)
    phase(BY_ITSELF, 2 * sum(ladder.index(high) for ladder, high in zip(run.ladders, top, strict=True)))
    order = ordered(run.between(floor, top), run.by_itself(floor, top), cost)
    choices = prefixes(floor, order)
    phase("Raising precision, the most sensitive first", math.ceil(math.log2(len(choices))) + NEIGHBOURS)
    prefix = run.prefix(choices)
    start = run.cheapest()
    phase(
        "Lowering precision again",
        sum(run.ladders[group].index(level) for group, level in enumerate(start)),
    )
    run.lower(start)
    return Found(run.cheapest(), run.points, floor, top, order, prefix)


def ordered(ladders: Sequence[Sequence[int]], noises: Mapping[tuple[int, int], float], cost: Cost) -> tuple[Step, ...]:
    """The steps that take every group from its lowest level to its highest, the worthiest first.

    Noise that independent layers add to the outputs adds up, near enough. The cheapest choice for a given noise then
    follows the lower convex hull of each group's points (cost, noise), through all hulls in order of their slopes (the
    Lagrangian of rate and distortion): a level above its group's hull is never worth its price. A group's own steps
    stay in their order.

    Args:
        ladders: By group its levels, rising.
        noises: By group and level: of the outputs with all other groups at their highest level.
        cost: Of a group at a level.
    """
    steps = []
    for group, ladder in enumerate(ladders):
        points = [(cost(group, level), noises[group, level], level) for level in ladder]
        for start, stop in pairwise(_hull(points)):
            steps.append(Step(group, start[2], stop[2], start[1] - stop[1], stop[0] - start[0]))
    return tuple(sorted(steps, key=lambda step: -step.worth))  # stable: equal ones in the order of groups and levels


def prefixes(floor: Levels, order: Sequence[Step]) -> tuple[Levels, ...]:
    """The choices that the first 0, 1, 2, ... steps of an order lead to."""
    found = [floor]
    for step in order:
        found.append(changed(found[-1], step.group, step.stop))
    return tuple(found)


def changed(levels: Levels, group: int, level: int) -> Levels:
    """A choice with one group at another level."""
    return (*levels[:group], level, *levels[group + 1 :])


def at_most(ladder: Sequence[int], level: int) -> int:
    """A group's level that is as high as another one, if it can be; else its next lower level, or its lowest."""
    return max((each for each in ladder if each <= level), default=ladder[0])


class _Run:
    """The evaluations so far, and the passes that add to them."""

    def __init__(
        self,
        ladders: Sequence[Levels],
        reaches: Callable[[Levels], bool],
        noise: Callable[[Levels], float],
        cost: Cost,
    ) -> None:
        self.ladders = ladders
        self.points: dict[Levels, bool | None] = {}
        self._noises: dict[Levels, float] = {}
        self._reaches = reaches
        self._noise = noise
        self._cost = cost

    def reaches(self, levels: Levels) -> bool:
        reached = self.points.get(levels)
        if reached is None:
            reached = self.points[levels] = self._reaches(levels)
        return reached

    def noise(self, levels: Levels) -> float:
        if levels not in self._noises:
            self.points.setdefault(levels, None)
            self._noises[levels] = _number(self._noise(levels))
        return self._noises[levels]

    def at_most(self, level: int) -> Levels:
        return tuple(at_most(ladder, level) for ladder in self.ladders)

    def between(self, floor: Levels, top: Levels) -> list[Levels]:
        """By group, its levels from one choice to another."""
        ends = zip(self.ladders, floor, top, strict=True)
        return [tuple(level for level in ladder if low <= level <= high) for ladder, low, high in ends]

    def by_itself(self, floor: Levels, top: Levels) -> dict[tuple[int, int], float]:
        """By group and level, the noise with all others at the top; all others at their lowest is measured as well."""
        noises = {}
        for group, ladder in enumerate(self.between(floor, top)):
            for level in ladder:
                noises[group, level] = self.noise(changed(top, group, level))
                self.noise(changed(floor, group, level))
        return noises

    def prefix(self, choices: Sequence[Levels]) -> int:
        """The length of a prefix that reaches the target, as the last does, and the next shorter ones do not."""
        low, high = 0, len(choices) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.reaches(choices[middle]) else (middle, high)
        for length in range(high - 1, max(high - 2 - NEIGHBOURS, 0), -1):
            high = length if self.reaches(choices[length]) else high
        return high

    def cheapest(self) -> Levels:
        """Of the evaluated choices that reach the target; of those that cost the same, the one of least noise."""
        costs = {levels: self._total(levels) for levels in self.points}
        rising = sorted(costs, key=lambda levels: costs[levels])
        least = next(costs[levels] for levels in rising if self.reaches(levels))
        near = [levels for levels in rising if least <= costs[levels] <= least * (1 + LEAST_SAVING)]
        return min(filter(self.reaches, near), key=lambda levels: (self.noise(levels), costs[levels]))

    def lower(self, levels: Levels) -> None:
        """Put groups back to lower levels while the target holds, the one that saves most first."""

        def saved(group: int) -> float:
            return self._cost(group, levels[group]) - self._cost(group, self.ladders[group][0])

        least = LEAST_SAVING * self._total(levels)
        for group in sorted(range(len(levels)), key=saved, reverse=True):
            cost = self._cost(group, levels[group])
            for level in (each for each in self.ladders[group] if each < levels[group]):
                if cost - self._cost(group, level) >= least and self.reaches(changed(levels, group, level)):
                    levels = changed(levels, group, level)
                    break

    def _total(self, levels: Levels) -> float:
        return math.fsum(self._cost(group, level) for group, level in enumerate(levels))


Point = tuple[float, float, int]
"""Cost, noise and level."""


def _hull(points: Sequence[Point]) -> list[Point]:
    """The lower convex hull of points of rising cost, the first and the last among them."""
    hull: list[Point] = []
    for point in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(start: Point, stop: Point) -> float:
    rise, run = stop[1] - start[1], stop[0] - start[0]
    return rise / run if run > 0 else math.copysign(math.inf, rise)


def _number(noise: float) -> float:
    """A noise to reckon with."""
    return noise if noise < WORST else WORST  # NaN is not less
