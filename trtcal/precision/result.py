"""Mixed precision: which layers to leave in higher precision for a target accuracy, as cheaply as possible."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from calibrators.errors import DataError
from calibrators.methods.names import DEFAULT
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.simulation.simulated_model import Simulation
from trtcal.charts import specs
from trtcal.charts.chart import Chart
from trtcal.config.settings import QuantConfig
from trtcal.measure.chance import Criterion
from trtcal.measure.measures import Score
from trtcal.precision.additive import search_by_noise
from trtcal.precision.ladders import Candidate, Costs, Ladders, ladders
from trtcal.precision.prediction import Levels
from trtcal.precision.scores import Judge, Point, Scores
from trtcal.precision.search import Found, Phase, at_most, changed, search
from trtcal.precision.target import Target
from trtcal.tasks.measuring.evidence import Evidence

CANDIDATES: tuple[Candidate, ...] = ("int8", "fp16", "fp32")


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
        groups: By group and level: the score of the group alone at that level. All others are in float and the images
            are few; after an exhaustive search all others are at the top, on the first images.
        without: By group and level, after an exhaustive search: where all others are at their lowest level.
        passed: Choices that reach the target, but not as `quantize` writes them.
        written: The score of `best` on the same images as `quantize` writes it: its FP16 layers are float ones in the
            model, which ONNX Runtime computes in FP32. That of `best` where it has none; None where `best` was asked
            for, which measures nothing.
        config: The settings of `best`, which `quantize` and `build` obey; None where there is none.
        rule_notes: Of rules of the configuration that come to nothing.
        exhaustive: Whether groups were tried one by one in whole choices.
    """

    best: Point | None
    points: tuple[Point, ...]
    ladders: Ladders
    found: Found
    target: Target
    criterion: Criterion
    reference: Score
    further: int
    groups: Mapping[tuple[int, int], Score]
    without: Mapping[tuple[int, int], Score]
    passed: tuple[Levels, ...]
    written: Score | None
    config: QuantConfig | None
    rule_notes: tuple[str, ...] = ()
    exhaustive: bool = False

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

    def plot(self, unit: str = "MACs x bits") -> Chart:
        """The choices that were evaluated, by cost and by what is left of the worst output.

        Args:
            unit: Of costs.
        """
        rows = [
            {
                "cost": point.cost,
                "sqnr": point.score.sqnr,
                "front": point.front,
                "reaches": point.reaches,
                "layers": ", ".join(f"{count} {name}" for name, count in self.ladders.counts(point.levels).items()),
            }
            for point in self.points
            if isfinite(point.score.sqnr)
        ]
        return Chart("Mixed precision", specs.pareto(rows, unit))

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
    few: Judge | None = None,
    further: Sequence[Judge] = (),
    method: str = DEFAULT,
    config: QuantConfig | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    exhaustive: bool = False,
    choose: int | None = None,
    phase: Phase = lambda name, most: None,
) -> MixedPrecision:
    """Find the cheapest choice of precisions for groups of layers that reaches a target, by predicted noise.

    `trtcal.precision.additive` has the search; where it is to be exhaustive, `trtcal.precision.search`.

    Of many choices that are measured on the same few images, the cheapest that reaches the target does so by luck more
    often than not. So a choice that reaches it is measured on further images as well, until no doubt is left that it
    does (`Target.sure`) or none are, and must reach it on all of them together. An exhaustive search, which measures
    far more choices, takes all further images. A choice that does not on the first images is not measured further.

    FP16 layers round what they read and write, as an engine's do. In the model that `quantize` writes they are float
    ones, and what is chosen must reach the target as such, too: a choice that does not is passed over.

    Args:
        simulation: The model.
        statistics: Of its activations.
        judge: Measures versions of the simulation, on images that were not calibrated on.
        target: What must hold.
        costs: Of every layer in each precision (`trtcal.precision.ladders.modelled`, or measured).
        few: Measures each group alone, on few of these images; None takes all.
        further: Measure versions on further images, some after others.
        method: The range method of layers whose settings name none.
        config: What the search begins with; layers that it leaves in float stay there.
        candidates: What groups may be switched to.
        exhaustive: Whether groups are tried one by one in whole choices, instead of by predicted noise.
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
    scores = Scores(choices, judge, target, few=few, further=further, until_sure=not exhaustive)
    levels = [group.levels for group in choices.groups]
    while True:
        if exhaustive:
            found = search(levels, scores.reaches, scores.noise, choices.cost, phase=phase)
        else:
            found = search_by_noise(levels, scores, choices.cost, phase=phase)
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
        scores.further,
        _beside(found, found.top, points) if exhaustive else scores.groups,
        _beside(found, found.floor, points) if exhaustive else {},
        tuple(scores.passed),
        None if best is None else written,
        None if best is None else choices.config(configured, best.levels),
        resolved.notes,
        exhaustive,
    )
    return result if choose is None else result.taking(choose, configured)


def _beside(found: Found, others: Levels | None, points: Sequence[Point]) -> dict[tuple[int, int], Score]:
    """By group and level, the scores of choices with all other groups as in a given one."""
    if others is None or not found.order:
        return {}
    known = {point.levels: point.score for point in points}
    places = [(group, level) for group in range(len(others)) for level in {each[group] for each in known}]
    at = {place: changed(others, *place) for place in places}
    return {place: known[levels] for place, levels in at.items() if levels in known}
