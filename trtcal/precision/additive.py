"""The search for the cheapest choice of precisions by predicted noise, confirmed by few whole evaluations."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trtcal.precision.prediction import SLACK, Cost, Levels, Prediction, Vector, cheapest
from trtcal.precision.search import BY_ITSELF, LEAST_SAVING, WORST, Found, Phase, Step, at_most, changed, ordered

ROOM = 0.01
"""Of the cost: what it takes more for less noise is spent, as that holds on other images, too."""

SAVING = 0.02
"""Of the cost: what saves less beside a choice that reaches the target is not looked into."""

TRIES = 24
"""Choices that are evaluated at most between two uniform ones; three to eight are usual."""

TIGHTER = 1.03
"""What a prediction is raised by at least where a choice does not hold that it said would."""

DOUBT = 1.06
"""How many times as noisy as measured a choice on the few images may be, or as predicted, beside others that hold."""

HOPE = 10**0.1
"""Times the noise that is allowed: uniform choices that have more on the few images are not looked into (1 dB)."""

UNLIKE = 2.5
"""Times the sum of the parts, or as many times less, that noise does not add up (4 dB)."""

LOWERED = 3
"""Choices with one group at a lower level that are tried at most, where the target is no bound on noise."""

ROWS = 5
"""Choices to choose among, beside uniform ones, if there are as many."""

QUIET = 0.01
"""Of the noise at the lowest level: what a level adds that has less is shared out, not measured group by group."""

ALL_ALIKE = "All layers at once"
WITHOUT = "All groups but one"
BY_PREDICTION = "Choices by their predicted noise"

ON_FEW = (BY_ITSELF, WITHOUT)
"""Phases that ask for noise alone, on the few images."""


class Evaluations(Protocol):
    """What the search may ask. Noise is by part of the outputs: energy over signal energy."""

    @property
    def allowed(self) -> float | None:
        """The noise that any part may have; None where the target is another one."""
        ...

    def base(self) -> Vector:
        """The noise of what is the same in all choices, alone, on the few images."""
        ...

    def alone(self, group: int, level: int) -> Vector:
        """That of a group at a level, all others in float, on the few images."""
        ...

    def few(self, levels: Levels) -> Vector:
        """That of a choice, on the few images."""
        ...

    def first(self, levels: Levels) -> Vector:
        """That of a choice, on the first images."""
        ...

    def holds(self, levels: Levels) -> bool:
        """Whether a choice reaches the target on the first images."""
        ...

    def reaches(self, levels: Levels) -> bool:
        """Whether it does on the first images, and on as many further ones as it takes to be sure."""
        ...


def search_by_noise(
    ladders: Sequence[Sequence[int]],
    ask: Evaluations,
    cost: Cost,
    *,
    phase: Phase = lambda name, most: None,
) -> Found:
    """Find levels for groups at which a target holds, at a cost that is the least one within about `SAVING`.

    1. All at their lowest level: where that reaches the target, it is the answer. Else the lowest level that promises
       to bounds what groups may be switched to.
    2. Each group alone at each level, all others in float, on few images: its noise. What the groups of a choice add to
       the outputs adds up, near enough (`trtcal.precision.prediction`).
    3. The cheapest choice whose predicted noise is allowed (`cheapest`) is evaluated, on the few images first. Measured
       over predicted noise corrects the prediction: of noise that does not add up, and of images that are not alike.
       Then the next choice, until none is predicted that is cheaper by more than `SAVING` and might do.
       Where noise is far from adding up (`UNLIKE`), the same once more, from what each group takes out of the noise of
       all at their lowest level.
    4. Where the target is no bound on noise, how much is allowed is found by bisection over such choices. Then
       some groups more are tried at their lowest level (`LOWERED`).
    5. Where no choice so found does, all at the bounding level are tried, and then a higher one.

    The answer is the cheapest of the choices that were evaluated and reach the target.

    Args:
        ladders: By group its levels, rising, one at least.
        ask: Evaluates.
        cost: Of a group at a level.
        phase: Is told what begins, and how many evaluations it takes at most.
    """
    run = _Search(tuple(map(tuple, ladders)), ask, cost, phase)
    floor = tuple(ladder[0] for ladder in run.ladders)
    levels = sorted({level for ladder in run.ladders for level in ladder})
    phase(ALL_ALIKE, len(levels))
    if run.promising(floor) and run.reaches(floor):
        return Found(floor, run.points, floor)
    tops = list(dict.fromkeys(tuple(at_most(ladder, level) for ladder in run.ladders) for level in levels))
    for top in tops:
        if top != floor and run.promising(top):
            order = run.between(floor, top)
            if run.best is not None or run.reaches(top):
                return Found(run.cheapest(), run.points, floor, top, order)
    for levels_alike in tops:  # what the few images told of them is not enough to say that there is no answer
        if run.reaches(levels_alike):
            return Found(levels_alike, run.points, floor, None if levels_alike == floor else levels_alike)
    return Found(None, run.points, floor)


class _Search:
    """The evaluations so far, and the passes that add to them."""

    def __init__(self, ladders: Sequence[Levels], ask: Evaluations, cost: Cost, phase: Phase) -> None:
        self.ladders = ladders
        self.points: dict[Levels, bool | None] = {}
        self.best: Levels | None = None
        self._ask, self._cost, self._phase = ask, cost, phase

    def promising(self, levels: Levels) -> bool:
        """Whether a uniform choice is worth looking into."""
        self.points.setdefault(levels, None)
        allowed = self._ask.allowed
        if allowed is None:
            return self._ask.holds(levels)
        return bool(np.all(self._ask.few(levels) <= allowed * HOPE))

    def reaches(self, levels: Levels) -> bool:
        reached = self.points.get(levels)
        if reached is None:
            reached = self.points[levels] = self._ask.reaches(levels)
        if reached and (self.best is None or self.total(levels) < self.total(self.best)):
            self.best = levels
        return reached

    def cheapest(self) -> Levels:
        """Of the choices that reach the target; of those that cost the same, the one of least noise."""
        costs = {levels: self.total(levels) for levels, reached in self.points.items() if reached}
        least = min(costs.values())
        near = [levels for levels in costs if costs[levels] <= least * (1 + LEAST_SAVING)]
        return min(near, key=lambda levels: (float(self._ask.first(levels).sum()), costs[levels]))

    def total(self, levels: Levels) -> float:
        return math.fsum(self._cost(group, level) for group, level in enumerate(levels))

    def between(self, floor: Levels, top: Levels) -> tuple[Step, ...]:
        """Look for choices between two that reach the target; gives the order in which raising precision pays."""
        ends = zip(self.ladders, floor, top, strict=True)
        ladders = [tuple(level for level in ladder if low <= level <= high) for ladder, low, high in ends]
        prediction = self._predicted(ladders, floor)
        self._phase(BY_PREDICTION, TRIES)
        if self._ask.allowed is None:
            self._by_bisection(ladders, prediction, floor, top)
            self._lower(prediction, floor)
        else:
            self._by_correction(ladders, prediction, self._ask.allowed)
            if np.any(_apart(self._ask.few(floor), prediction.of(floor))):
                self._by_correction(ladders, self._from_below(ladders, floor), self._ask.allowed)
        self._fill(ladders, prediction, floor, top)
        sums = {place: float(noise.sum()) for place, noise in prediction.noises.items()}
        return ordered(ladders, sums, self._cost)

    def _predicted(self, ladders: Sequence[Sequence[int]], floor: Levels) -> Prediction:
        """From each group alone; of a level that adds next to nothing, from all groups together."""
        self._phase(BY_ITSELF, 1 + sum(map(len, ladders)))
        lowest = self._ask.few(floor)
        allowed = WORST if self._ask.allowed is None else self._ask.allowed
        loud = QUIET * np.minimum(lowest, 10 * allowed)
        alone = [self._ask.alone(group, ladder[0]) for group, ladder in enumerate(ladders)]
        whole = np.sum(alone, axis=0)
        noises = {(group, ladder[0]): noise for group, (ladder, noise) in enumerate(zip(ladders, alone, strict=True))}
        for level in sorted({level for ladder in ladders for level in ladder[1:]}):
            together = self._ask.few(tuple(at_most(ladder, level) for ladder in ladders))
            quiet = bool(np.all(together <= loud))
            for group in (each for each, ladder in enumerate(ladders) if level in ladder[1:]):
                share = np.divide(alone[group], whole, out=np.zeros_like(whole), where=whole > 0)
                noises[group, level] = together * share if quiet else self._ask.alone(group, level)
        return Prediction(self._ask.base(), noises)

    def _from_below(self, ladders: Sequence[Sequence[int]], floor: Levels) -> Prediction:
        """From what raising each group alone takes out, all others at their lowest level.

        Where noise does not add up, as that of branches which cancel each other, this is nearer to the truth there.
        """
        self._phase(WITHOUT, sum(len(ladder) - 1 for ladder in ladders))
        lowest = self._ask.few(floor)
        noises = {
            (group, level): self._ask.few(changed(floor, group, level)) - lowest
            for group, ladder in enumerate(ladders)
            for level in ladder
        }
        return Prediction(lowest, noises)

    def _by_correction(self, ladders: Sequence[Sequence[int]], prediction: Prediction, allowed: float) -> None:
        """Evaluate what is predicted to be allowed; what is measured corrects the prediction."""
        beyond = np.ones_like(prediction.base)  # noise on the first images over that on the few
        factor = np.ones_like(prediction.base) / DOUBT  # measured over predicted noise
        for _ in range(TRIES):
            levels = cheapest(ladders, prediction, self._cost, allowed / factor, room=ROOM)
            if levels is None or not self._cheaper(levels):
                return
            predicted = prediction.of(levels)
            if self.points.get(levels) is False:
                factor = factor * TIGHTER
                continue
            self.points.setdefault(levels, None)
            measured = self._ask.few(levels)
            held = bool(np.all(measured * beyond <= allowed * DOUBT)) and self.reaches(levels)
            if self.points[levels] is not None:
                first = self._ask.first(levels)
                beyond, measured = _over(first, measured), first
            else:
                measured = measured * beyond
            found = _over(measured, predicted)
            factor = found / DOUBT if held else np.maximum(found, factor * TIGHTER)

    def _by_bisection(self, ladders: Sequence[Sequence[int]], given: Prediction, floor: Levels, top: Levels) -> None:
        """Find how much predicted noise, of all parts together, the target allows."""
        sums = {place: noise.sum(keepdims=True) for place, noise in given.noises.items()}
        prediction = Prediction(given.base.sum(keepdims=True), sums)
        loud = float(prediction.of(floor)[0])  # does not reach the target
        quiet = max(float(prediction.of(top)[0]), loud * LEAST_SAVING)
        dearer = self.total(floor)
        for _ in range(TRIES):
            bound = math.sqrt(loud * quiet)
            if bound <= 0:
                return
            levels = cheapest(ladders, prediction, self._cost, np.array([bound]), room=ROOM)
            if levels is None:
                return
            if self.reaches(levels):
                quiet = bound
            else:
                noise = float(prediction.of(levels)[0])
                loud, dearer = noise if noise > quiet else bound, max(dearer, self.total(levels))
            if loud <= quiet * TIGHTER or (self.best is not None and self.total(self.best) <= dearer * (1 + ROOM)):
                return

    def _lower(self, prediction: Prediction, floor: Levels) -> None:
        """Put one group more at its lowest level, those first that add least noise: the target does not go by it."""
        best = self.best
        if best is None:
            return
        lower = [changed(best, group, low) for group, low in enumerate(floor) if best[group] != low]
        lower = [levels for levels in lower if self._cheaper(levels) and self.points.get(levels) is None]
        for levels in sorted(lower, key=lambda levels: float(prediction.of(levels).sum()))[:LOWERED]:
            if self.reaches(levels):
                self._lower(prediction, floor)
                return

    def _fill(self, ladders: Sequence[Sequence[int]], prediction: Prediction, floor: Levels, top: Levels) -> None:
        """Measure further choices on the few images, so that there are some to choose among."""
        loud, quiet = (np.maximum(prediction.of(levels), SLACK) for levels in (floor, top))
        for share in np.arange(1, ROWS) / ROWS:
            if len(self.points) >= ROWS + 2:
                return
            levels = cheapest(ladders, prediction, self._cost, loud ** (1 - share) * quiet**share, room=ROOM)
            if levels is not None and levels not in self.points:
                self.points[levels] = None
                self._ask.few(levels)

    def _cheaper(self, levels: Levels) -> bool:
        """Whether a choice saves enough to be looked into."""
        return self.best is None or self.total(levels) < self.total(self.best) * (1 - SAVING)


def _apart(measured: Vector, predicted: Vector) -> npt.NDArray[np.bool_]:
    """Where noise is so far from the sum of its parts that it does not add up."""
    ratio = _over(measured, predicted)
    return (ratio > UNLIKE) | (ratio < 1 / UNLIKE)


def _over(measured: Vector, predicted: Vector) -> Vector:
    """One over the other, where both are something."""
    both = (measured > 0) & (predicted > 0)
    return np.divide(measured, predicted, out=np.ones_like(measured), where=both)
