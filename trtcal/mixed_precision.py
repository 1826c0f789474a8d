"""Mixed precision: which layers to leave in higher precision for a target accuracy, as cheaply as possible."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from calibrators.statistics_file import Statistics
from engines.simulation import Simulation
from trtcal.config import QuantConfig
from trtcal.measures import Score
from trtcal.precision_ladders import Candidate, Costs, Ladders, ladders
from trtcal.precision_search import Found, Levels, Measured, Phase, search
from trtcal.precision_target import Target
from trtcal.trials import Criterion, Trials


@dataclass(frozen=True, slots=True)
class Point:
    """A choice of precisions that was evaluated.

    Attributes:
        levels: By group.
        score: Of the model with it, against the float model.
        cost: Of all its layers.
        reaches: Whether the target holds.
        front: Whether no other choice that was evaluated is better at no more cost, or as good at less.
    """

    levels: Levels
    score: Score
    cost: float
    reaches: bool
    front: bool


@dataclass(frozen=True, slots=True)
class MixedPrecision:
    """What a search for precisions found.

    Attributes:
        best: The cheapest choice that was found to reach the target; None where none does.
        points: Every choice that was evaluated, the cheapest first.
        ladders: The groups of layers, and what each could be switched to.
        found: How the search went.
        target: What was to be reached.
        criterion: What choices are told apart by, before SQNR.
        reference: The float model's score.
        config: The settings of `best`, which `quantize` and `build` obey; None where there is none.
        unused: Rules of the configuration that no layer fits.
    """

    best: Point | None
    points: tuple[Point, ...]
    ladders: Ladders
    found: Found
    target: Target
    criterion: Criterion
    reference: Score
    config: QuantConfig | None
    unused: tuple[str, ...] = ()

    def at(self, levels: Levels) -> Point | None:
        """The point of a choice; None where it was not evaluated."""
        return next((point for point in self.points if point.levels == levels), None)


def mixed_precision(
    simulation: Simulation,
    statistics: Statistics,
    trials: Trials,
    target: Target,
    costs: Costs,
    *,
    method: str = "entropy",
    config: QuantConfig | None = None,
    candidates: Sequence[Candidate] = ("int8", "fp16", "fp32"),
    phase: Phase = lambda name, most: None,
) -> MixedPrecision:
    """Find the cheapest choice of precisions for groups of layers that reaches a target (`trtcal.precision_search`).

    Args:
        simulation: The model.
        statistics: Of its activations.
        trials: Of the simulation, on images that were not calibrated on.
        target: What must hold.
        costs: Of every layer in each precision (`trtcal.precision_ladders.modelled`, or measured).
        method: The range method of layers whose settings name none.
        config: What the search begins with; layers that it leaves in float stay there.
        candidates: What groups may be switched to.
        phase: Is told what begins, and how many evaluations it takes at most.

    Raises:
        TrtcalError: The target is not one that the images tell of this model; or as `ladders`.
    """
    target.require_measured(trials.criterion)
    configured = config or QuantConfig()
    resolved = configured.settings(simulation.layers)
    choices = ladders(
        simulation, statistics, method=method, configured=resolved.layers, costs=costs, candidates=candidates
    )
    scores: dict[Levels, Score] = {}

    def measured(levels: Levels) -> Measured:
        scores[levels] = trials.score(choices.forms(levels))
        return Measured(target.reaches(scores[levels]), noise(scores[levels]))

    found = search([group.levels for group in choices.groups], measured, choices.cost, phase=phase)
    points = _points(scores, choices, target, trials)
    best = None if found.best is None else next(point for point in points if point.levels == found.best)
    return MixedPrecision(
        best,
        points,
        choices,
        found,
        target,
        trials.criterion,
        trials.reference,
        None if best is None else choices.config(configured, best.levels),
        resolved.unused,
    )


def noise(found: Score) -> float:
    """How far the outputs are off the float model's: the sum over outputs of noise energy over signal energy.

    Each output counts alike, whatever the size of its numbers. That of independent layers adds up.
    """
    parts = found.distortions.values()
    return sum(part.noise / part.signal if part.signal else math.copysign(part.noise, 1) for part in parts)


def _points(scores: Mapping[Levels, Score], choices: Ladders, target: Target, trials: Trials) -> tuple[Point, ...]:
    def key(levels: Levels) -> tuple[float, float, float]:
        return choices.total(levels), -trials.worth(scores[levels]), noise(scores[levels])

    best, points = -math.inf, []
    for levels in sorted(scores, key=key):
        worth = trials.worth(scores[levels])
        points.append(
            Point(levels, scores[levels], choices.total(levels), target.reaches(scores[levels]), worth > best)
        )
        best = max(best, worth)
    return tuple(points)
