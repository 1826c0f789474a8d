"""Mixed precision: which layers to leave in higher precision for a target accuracy, as cheaply as possible."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calibrators.statistics_file import Statistics
from engines.simulation import LayerForm, Simulation
from trtcal.config import QuantConfig
from trtcal.measures import Score
from trtcal.precision_ladders import Candidate, Costs, Ladders, ladders
from trtcal.precision_search import Found, Levels, Measured, Phase, at_most, search
from trtcal.precision_target import Target
from trtcal.trials import Criterion, Trials

CANDIDATES: tuple[Candidate, ...] = ("int8", "fp16", "fp32")

Scorer = Callable[[Mapping[str, LayerForm]], Score]
"""What a model with some layers in other forms does, against the float model."""


@dataclass(frozen=True, slots=True)
class Point:
    """A choice of precisions that was evaluated.

    Attributes:
        levels: By group.
        score: Of the model with it, against the float model.
        worth: The criterion's value (`Trials.worth`); more is better.
        cost: Of all its layers.
        reaches: Whether the target holds.
        front: Whether no other choice that was evaluated is better at no more cost, or as good at less.
    """

    levels: Levels
    score: Score
    worth: float
    cost: float
    reaches: bool
    front: bool


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A choice that reaches the target, measured on images that the search has not seen.

    Attributes:
        levels: By group.
        score: On these images alone.
        both: On them and on those of the search.
        reaches: Whether the target holds on both together.
    """

    levels: Levels
    score: Score
    both: Score
    reaches: bool


@dataclass(frozen=True, slots=True)
class MixedPrecision:
    """What a search for precisions found.

    Attributes:
        best: The cheapest choice that was found to reach the target; None where none does.
        points: Every choice that was evaluated, the cheapest first.
        confirmations: What was measured on further images, in order: the last is that of `best`.
        ladders: The groups of layers, and what each could be switched to.
        found: How the search went; the last, where a choice was not confirmed and the search went on.
        target: What was to be reached.
        criterion: What choices are told apart by, before SQNR.
        reference: The float model's score.
        config: The settings of `best`, which `quantize` and `build` obey; None where there is none.
        unused: Rules of the configuration that no layer fits.
    """

    best: Point | None
    points: tuple[Point, ...]
    confirmations: tuple[Confirmation, ...]
    ladders: Ladders
    found: Found
    target: Target
    criterion: Criterion
    reference: Score
    config: QuantConfig | None
    unused: tuple[str, ...] = ()

    @property
    def evaluations(self) -> int:
        """How many choices were evaluated, each once."""
        return len(self.points)

    @property
    def uniform(self) -> dict[str, Point]:
        """The points at which all groups are at one level, or as near to it as they can be, by the level's name."""
        groups = self.ladders.groups
        heights = sorted({level for group in groups for level in group.levels})
        alike = {level: tuple(at_most(group.levels, level) for group in groups) for level in heights}
        names = {level: next(group.names[level] for group in groups if level in group.levels) for level in heights}
        return {names[level]: point for level, levels in alike.items() if (point := self.at(levels)) is not None}

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
    candidates: Sequence[Candidate] = CANDIDATES,
    score: Scorer | None = None,
    confirm: Scorer | None = None,
    phase: Phase = lambda name, most: None,
) -> MixedPrecision:
    """Find the cheapest choice of precisions for groups of layers that reaches a target (`trtcal.precision_search`).

    Of many choices that are measured on the same images, the cheapest that reaches the target does so with luck on its
    side. So it is confirmed: the target must hold as well on the images of the search and further ones together. Where
    it does not, the search goes on among choices of less noise.

    Args:
        simulation: The model.
        statistics: Of its activations.
        trials: Of the simulation, on images that were not calibrated on.
        target: What must hold.
        costs: Of every layer in each precision (`trtcal.precision_ladders.modelled`, or measured).
        method: The range method of layers whose settings name none.
        config: What the search begins with; layers that it leaves in float stay there.
        candidates: What groups may be switched to.
        score: What measures choices; `trials` where it is None. One that remembers earlier runs, for example.
        confirm: What measures choices on further images; None confirms nothing.
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
    confirmations: list[Confirmation] = []
    limit = math.inf

    def measured(levels: Levels) -> Measured:
        if levels not in scores:
            scores[levels] = (score or trials.score)(choices.forms(levels))
        off = noise(scores[levels])
        return Measured(target.reaches(scores[levels]) and (off < limit or limit == math.inf), off)

    while True:
        found = search([group.levels for group in choices.groups], measured, choices.cost, phase=phase)
        if found.best is None or confirm is None:
            break
        further = confirm(choices.forms(found.best))
        both = scores[found.best] + further
        confirmations.append(Confirmation(found.best, further, both, target.reaches(both)))
        if confirmations[-1].reaches:
            break
        limit = noise(scores[found.best])
    points = _points(scores, choices, target, trials)
    best = next((point for point in points if point.levels == found.best), None)
    return MixedPrecision(
        best,
        points,
        tuple(confirmations),
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

    Each output counts alike, whatever the size of its numbers. What independent layers add to it adds up.
    """
    parts = found.distortions.values()
    return math.fsum(part.noise / part.signal if part.signal else part.noise for part in parts)


def _points(scores: Mapping[Levels, Score], choices: Ladders, target: Target, trials: Trials) -> tuple[Point, ...]:
    def key(levels: Levels) -> tuple[float, float, float]:
        return choices.total(levels), -trials.worth(scores[levels]), noise(scores[levels])

    best, points = -math.inf, list[Point]()
    for levels in sorted(scores, key=key):
        each = scores[levels]
        worth = trials.worth(each)
        points.append(Point(levels, each, worth, choices.total(levels), target.reaches(each), front=worth > best))
        best = max(best, worth)
    return tuple(points)
