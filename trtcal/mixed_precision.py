"""Mixed precision: which layers to leave in higher precision for a target accuracy, as cheaply as possible."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from calibrators.statistics_file import Statistics
from engines.simulation import FLOAT, LayerForm, Simulation
from trtcal.config import QuantConfig
from trtcal.measures import Score
from trtcal.precision_ladders import Candidate, Costs, Ladders, ladders
from trtcal.precision_search import Found, Levels, Phase, at_most, search
from trtcal.precision_target import Target
from trtcal.trials import Criterion

CANDIDATES: tuple[Candidate, ...] = ("int8", "fp16", "fp32")


class Judge(Protocol):
    """Measures versions of a model on some images against the float model, as `Trials` does."""

    @property
    def reference(self) -> Score:
        """The float model's own score."""
        ...

    @property
    def criterion(self) -> Criterion:
        """What counts."""
        ...

    def score(self, forms: Mapping[str, LayerForm]) -> Score:
        """With some layers in another form."""
        ...

    def worth(self, found: Score) -> float:
        """The criterion's value; more is better."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A choice of precisions that was evaluated.

    Attributes:
        levels: By group.
        score: Of the model with it, against the float model: on the first images, and on the further ones too where it
            was measured on them.
        worth: SQNR where the target is one, else the criterion's value; more is better.
        cost: Of all its layers.
        reaches: Whether the target holds; None where it does on the first images and was not measured on further ones.
        front: Whether no other choice that was evaluated is better at no more cost, or as good at less.
    """

    levels: Levels
    score: Score
    worth: float
    cost: float
    reaches: bool | None
    front: bool = False


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
        reference: The float model's score, on the first images and on the further ones.
        further: How many choices were measured on further images.
        written: The score of `best` on the same images as `quantize` writes it: its FP16 layers are float ones in the
            model, which ONNX Runtime computes in FP32. That of `best` where it has none.
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
    further: int
    written: Score | None
    config: QuantConfig | None
    unused: tuple[str, ...] = ()

    @property
    def evaluations(self) -> int:
        """How many choices were evaluated, each once."""
        return len(self.points)

    @property
    def uniform(self) -> dict[str, Point]:
        """The points at which all groups are at one level, or as near to it as they can be, by the level's name.

        The lowest is "config" where the configuration has any group on coarser grids than INT8's.
        """
        groups = self.ladders.groups
        heights = sorted({level for group in groups for level in group.levels})
        alike = {level: tuple(at_most(group.levels, level) for group in groups) for level in heights}
        names = {level: {group.names[level] for group in groups if level in group.levels} for level in heights}
        return {min(names[level]): point for level, levels in alike.items() if (point := self.at(levels)) is not None}

    def at(self, levels: Levels) -> Point | None:
        """The point of a choice; None where it was not evaluated."""
        return next((point for point in self.points if point.levels == levels), None)


def mixed_precision(
    simulation: Simulation,
    statistics: Statistics,
    judge: Judge,
    target: Target,
    costs: Costs,
    *,
    further: Judge | None = None,
    method: str = "entropy",
    config: QuantConfig | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    phase: Phase = lambda name, most: None,
) -> MixedPrecision:
    """Find the cheapest choice of precisions for groups of layers that reaches a target (`trtcal.precision_search`).

    Of many choices that are measured on the same few images, the cheapest that reaches the target does so by luck more
    often than not. So a choice that reaches it is measured on further images as well, and must reach it on all of them
    together. One that does not on the first images is not measured further.

    Args:
        simulation: The model.
        statistics: Of its activations.
        judge: Measures versions of the simulation, on images that were not calibrated on; its noise orders groups.
        target: What must hold.
        costs: Of every layer in each precision (`trtcal.precision_ladders.modelled`, or measured).
        further: Measures them on further images; None where there are none.
        method: The range method of layers whose settings name none.
        config: What the search begins with; layers that it leaves in float stay there.
        candidates: What groups may be switched to.
        phase: Is told what begins, and how many evaluations it takes at most.

    Raises:
        TrtcalError: The target is not one that the images tell of this model; or as `ladders`.
    """
    target.require_measured(judge.criterion)
    configured = config or QuantConfig()
    resolved = configured.settings(simulation.layers)
    choices = ladders(
        simulation, statistics, method=method, configured=resolved.layers, costs=costs, candidates=candidates
    )
    first: dict[Levels, Score] = {}
    whole: dict[Levels, Score] = {}

    def score(levels: Levels) -> Score:
        if levels not in first:
            first[levels] = judge.score(choices.forms(levels))
        return first[levels]

    def reaches(levels: Levels) -> bool:
        if not target.reaches(score(levels)):
            return False
        if further is not None:
            whole[levels] = score(levels) + further.score(choices.forms(levels))
        return target.reaches(whole.get(levels, first[levels]))

    found = search(
        [group.levels for group in choices.groups],
        reaches,
        lambda levels: noise(score(levels)),
        choices.cost,
        phase=phase,
    )
    points = []
    for levels, each in {**first, **whole}.items():
        reached: bool | None = target.reaches(each)
        if reached and further is not None and levels not in whole:
            reached = None
        worth = each.distortion.sqnr if target.kind == "target-sqnr" else judge.worth(each)
        points.append(Point(levels, each, -math.inf if math.isnan(worth) else worth, choices.total(levels), reached))
    points = _with_front(points)
    best = next((point for point in points if point.levels == found.best), None)
    written = None if best is None else best.score
    if best is not None and any(form.half for form in choices.forms(best.levels).values()):
        phase("As an ONNX model", 1)
        floats = {name: FLOAT if form.half else form for name, form in choices.forms(best.levels).items()}
        written = judge.score(floats)
        if further is not None and best.levels in whole:
            written += further.score(floats)
    return MixedPrecision(
        best,
        tuple(points),
        choices,
        found,
        target,
        judge.criterion,
        judge.reference + further.reference if further is not None and whole else judge.reference,
        len(whole),
        written,
        None if best is None else choices.config(configured, best.levels),
        resolved.unused,
    )


def noise(found: Score) -> float:
    """How far the outputs are off the float model's: the sum over outputs of noise energy over signal energy.

    Each output counts alike, whatever the size of its numbers. What independent layers add to it adds up.
    """
    parts = found.distortions.values()
    return math.fsum(part.noise / part.signal if part.signal else part.noise for part in parts)


def _with_front(points: Sequence[Point]) -> list[Point]:
    """The points, the cheapest first, and of those that cost the same the best; those on the front marked."""
    best, marked = -math.inf, list[Point]()
    for point in sorted(points, key=lambda point: (point.cost, -point.worth, noise(point.score))):
        marked.append(replace(point, front=point.worth > best))
        best = max(best, point.worth)
    return marked
