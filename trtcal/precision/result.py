"""Mixed precision: which layers to leave in higher precision for a target accuracy, as cheaply as possible."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

from calibrators.errors import DataError
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from trtcal.config.settings import QuantConfig
from trtcal.measure.chance import Criterion
from trtcal.measure.measures import Score
from trtcal.precision.ladders import Candidate, Costs, Ladders, ladders
from trtcal.precision.search import Found, Levels, Phase, at_most, search
from trtcal.precision.target import Target
from trtcal.tasks.measuring.evidence import Evidence

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

    def score(self, forms: Mapping[str, LayerForm], *, whole: bool = False) -> Score:
        """With some layers in another form; `whole`: a score that adds up with others."""
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
class MixedPrecision(Tabular):
    """What a search for precisions found.

    Attributes:
        best: The cheapest choice that was found to reach the target, or the one that was asked for by its row; None
            where none reaches it.
        points: Every choice that was evaluated, the cheapest first.
        ladders: The groups of layers, and what each could be switched to.
        found: How the search went.
        target: What was to be reached.
        criterion: What choices are told apart by, before SQNR.
        reference: The float model's score, on the first images and on the further ones.
        further: How many choices were measured on further images.
        passed: Choices that reach the target, but not as `quantize` writes them.
        written: The score of `best` on the same images as `quantize` writes it: its FP16 layers are float ones in the
            model, which ONNX Runtime computes in FP32. That of `best` where it has none; None where `best` was asked
            for, which measures nothing.
        config: The settings of `best`, which `quantize` and `build` obey; None where there is none.
        rule_notes: Of rules of the configuration that come to nothing.
    """

    best: Point | None
    points: tuple[Point, ...]
    ladders: Ladders
    found: Found
    target: Target
    criterion: Criterion
    reference: Score
    further: int
    passed: tuple[Levels, ...]
    written: Score | None
    config: QuantConfig | None
    rule_notes: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """A row a choice that was evaluated, the cheapest first: how many layers it has in each precision.

        Those that `choose` may name have their number in the column `row`.
        """
        chosen = None if self.best is None else self.best.levels
        counts = [self.ladders.counts(point.levels) for point in self.points]
        names = list(dict.fromkeys(name for each in counts for name in each))
        return [
            {
                "row": self.row_of(point) or None,
                **{name: count.get(name, 0) for name in names},
                **{
                    "cost": point.cost,
                    "reaches": point.reaches,
                    "front": point.front,
                    "chosen": point.levels == chosen,
                },
                **point.score.to_row(),
            }
            for count, point in zip(counts, self.points, strict=True)
        ]

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

    @property
    def choices(self) -> tuple[Point, ...]:
        """The points to choose among, the cheapest first: the front, all groups alike, and what the search found."""
        kept = {*(point.levels for point in self.uniform.values()), self.found.best}
        return tuple(point for point in self.points if point.front or point.levels in kept)

    def row_of(self, point: Point) -> int:
        """The number of a point among `choices`, from 1; 0 for one that is not there."""
        return next((number for number, row in enumerate(self.choices, 1) if row.levels == point.levels), 0)

    def taking(self, row: int, configured: QuantConfig) -> "MixedPrecision":
        """The same with another of the rows for the best.

        Args:
            row: Its number, from 1.
            configured: What the search began with.

        Raises:
            DataError: There is no such row.
        """
        if not 1 <= row <= len(self.choices):
            raise DataError(f"there is no row {row} to choose: the search found {len(self.choices)}, from 1 on")
        point = self.choices[row - 1]
        if point.levels == self.found.best:
            return self
        return replace(self, best=point, written=None, config=self.ladders.config(configured, point.levels))

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
    choose: int | None = None,
    phase: Phase = lambda name, most: None,
) -> MixedPrecision:
    """Find the cheapest choice of precisions for groups of layers that reaches a target (`trtcal.precision.search`).

    Of many choices that are measured on the same few images, the cheapest that reaches the target does so by luck more
    often than not. So a choice that reaches it is measured on further images as well, and must reach it on all of them
    together. One that does not on the first images is not measured further.

    FP16 layers round what they read and write, as an engine's do. In the model that `quantize` writes they are float
    ones, and what is chosen must reach the target as such, too: a choice that does not is passed over.

    Args:
        simulation: The model.
        statistics: Of its activations.
        judge: Measures versions of the simulation, on images that were not calibrated on; its noise orders groups.
        target: What must hold.
        costs: Of every layer in each precision (`trtcal.precision.ladders.modelled`, or measured).
        further: Measures them on further images; None where there are none.
        method: The range method of layers whose settings name none.
        config: What the search begins with; layers that it leaves in float stay there.
        candidates: What groups may be switched to.
        choose: The row (`MixedPrecision.choices`) to take instead of the cheapest that reaches the target.
        phase: Is told what begins, and how many evaluations it takes at most.

    Raises:
        DataError: There is no row of that number.
        TrtcalError: The target is not one that the images tell of this model; or as `ladders`.
    """
    evidence = judge.reference.task
    target.require_measured(judge.criterion, annotated=not isinstance(evidence, Evidence) or evidence.annotated)
    configured = config or QuantConfig()
    resolved = configured.settings(simulation.layers)
    choices = ladders(
        simulation, statistics, method=method, configured=resolved.layers, costs=costs, candidates=candidates
    )
    scores = _Scores(choices, judge, further, target)
    while True:
        found = search(
            [group.levels for group in choices.groups], scores.reaches, scores.noise, choices.cost, phase=phase
        )
        if found.best is None:
            break
        phase("As an ONNX model", 1)
        if target.reaches(written := scores.written(found.best)):
            break
        scores.passed.append(found.best)
    points = scores.points()
    best = next((point for point in points if point.levels == found.best), None)
    result = MixedPrecision(
        best,
        points,
        choices,
        found,
        target,
        judge.criterion,
        scores.reference,
        len(scores.whole),
        tuple(scores.passed),
        None if best is None else written,
        None if best is None else choices.config(configured, best.levels),
        resolved.notes,
    )
    return result if choose is None else result.taking(choose, configured)


def noise(found: Score) -> float:
    """How far the outputs are off the float model's: the sum over their groups of noise energy over signal energy.

    Each group (`Score.groups`) counts alike, whatever the size of its numbers. What independent layers add adds up.
    """
    parts = found.groups.values()
    return math.fsum(part.noise / part.signal if part.signal else part.noise for part in parts)


class _Scores:
    """What was measured of choices, each once on the first images and once on the further ones.

    Attributes:
        first: On the first images.
        whole: On these and the further ones together.
        passed: Choices that are passed over, whatever their scores.
    """

    def __init__(self, choices: Ladders, judge: Judge, further: Judge | None, target: Target) -> None:
        self.first: dict[Levels, Score] = {}
        self.whole: dict[Levels, Score] = {}
        self.passed: list[Levels] = []
        self._choices = choices
        self._judge = judge
        self._further = further
        self._target = target

    @property
    def reference(self) -> Score:
        """The float model's, on all images that any choice was measured on."""
        further = self._further.reference if self._further is not None and self.whole else Score()
        return self._judge.reference + further

    def noise(self, levels: Levels) -> float:
        """On the first images."""
        return noise(self._score(levels))

    def reaches(self, levels: Levels) -> bool:
        """Whether the target holds on the first images, and then on all together."""
        if levels in self.passed or not self._target.reaches(self._score(levels)):
            return False
        if self._further is not None and levels not in self.whole:
            forms = self._choices.forms(levels)
            first = self._judge.score(forms, whole=True)
            self.whole[levels] = first + self._further.score(forms, whole=True)
        return self._target.reaches(self._known(levels))

    def written(self, levels: Levels) -> Score:
        """Of a choice as `quantize` writes it, on the images that it was measured on."""
        forms = self._choices.forms(levels)
        floats = {name: FLOAT if form.half else form for name, form in forms.items()}
        if floats == forms:
            return self._known(levels)
        if self._further is None or levels not in self.whole:
            return self._judge.score(floats)
        return self._judge.score(floats, whole=True) + self._further.score(floats, whole=True)

    def points(self) -> tuple[Point, ...]:
        """All choices, the cheapest first, and of those that cost the same the best."""
        found = sorted(map(self._point, self.first), key=lambda point: (point.cost, -point.worth, noise(point.score)))
        bests = accumulate((point.worth for point in found), max, initial=-math.inf)
        return tuple(replace(point, front=point.worth > best) for point, best in zip(found, bests, strict=False))

    def _point(self, levels: Levels) -> Point:
        score = self._known(levels)
        reaches: bool | None = levels not in self.passed and self._target.reaches(score)
        if reaches and self._further is not None and levels not in self.whole:
            reaches = None
        worth = score.sqnr if self._target.kind == "target-sqnr" else self._judge.worth(score)
        return Point(levels, score, -math.inf if math.isnan(worth) else worth, self._choices.total(levels), reaches)

    def _score(self, levels: Levels) -> Score:
        if levels not in self.first:
            self.first[levels] = self._judge.score(self._choices.forms(levels))
        return self.first[levels]

    def _known(self, levels: Levels) -> Score:
        return self.whole.get(levels, self._score(levels))
