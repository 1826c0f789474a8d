"""What is measured of choices of precisions: on few images, on the first ones, and on further ones."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from engines.simulation.simulated_model import FLOAT, LayerForm
from trtcal.measure.chance import Criterion
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score
from trtcal.precision.ladders import Ladders
from trtcal.precision.prediction import Levels, Vector
from trtcal.precision.search import WORST
from trtcal.precision.target import Target

Parts = tuple[Score, ...]
"""Of disjoint images; they add up."""


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

    def scores(self, forms: Mapping[str, LayerForm]) -> Iterable[Score]:
        """The same by parts of the images, some dozens each, which add up."""
        ...

    def worth(self, found: Score) -> float:
        """The criterion's value; more is better."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A choice of precisions that was evaluated.

    Attributes:
        levels: By group.
        score: Of the model with it, against the float model: on all images that it was measured on.
        worth: SQNR where the target is one, else the criterion's value; more is better.
        cost: Of all its layers.
        reaches: Whether the target holds; None where it does on the images that it was measured on, and more were asked
            for.
        front: Whether no other choice is better at no more cost, or as good at less: by what counts, or by noise on few
            images where not both were measured on the first ones.
    """

    levels: Levels
    score: Score
    worth: float
    cost: float
    reaches: bool | None
    front: bool = False


class Scores:
    """What was measured of choices, each once on the same images.

    Args:
        choices: What can be chosen.
        judge: Measures on the first images.
        target: What must hold.
        few: Measures on few images; None takes the first ones.
        further: Measure on further images, some after others.
        until_sure: Whether it takes no further images where those before leave no doubt (`Target.sure`).

    Attributes:
        passed: Choices that are passed over, whatever their scores.
        groups: Of each group at a level, with all others in float, on few images; as far as they were measured.
    """

    def __init__(
        self,
        choices: Ladders,
        judge: Judge,
        target: Target,
        *,
        few: Judge | None = None,
        further: Sequence[Judge] = (),
        until_sure: bool = True,
    ) -> None:
        self.passed: list[Levels] = []
        self.groups: dict[tuple[int, int], Score] = {}
        self._choices, self._judge, self._target = choices, judge, target
        self._few, self._further, self._until_sure = few, tuple(further), until_sure
        self._tried: dict[Levels, Score] = {}
        self._first: dict[Levels, Parts] = {}
        self._whole: dict[Levels, list[Parts]] = {}
        self._confirmed: set[Levels] = set()
        self._names: tuple[str, ...] = ()

    @property
    def allowed(self) -> float | None:
        """The noise that any part of the outputs may have; None where the target is another one."""
        return self._target.noise

    @property
    def reference(self) -> Score:
        """The float model's, on all images that any choice was measured on."""
        used = max(map(len, self._whole.values()), default=1) - 1
        return sum((judge.reference for judge in self._further[:used]), self._judge.reference)

    @property
    def further(self) -> int:
        """How many choices were measured on further images."""
        return len(self._whole)

    def base(self) -> Vector:
        """The noise of what is the same in all choices, alone."""
        fixed = self._choices.fixed
        return self._vector(self._alone(fixed) if any(form != FLOAT for form in fixed.values()) else Score())

    def alone(self, group: int, level: int) -> Vector:
        """That of a group at a level, all others in float; on few images."""
        forms = self._choices.groups[group].forms[level]
        if all(form == FLOAT for form in forms.values()):
            return self._vector(Score())
        if (group, level) not in self.groups:
            self.groups[group, level] = self._alone(forms)
        return self._vector(self.groups[group, level])

    def few(self, levels: Levels) -> Vector:
        """That of a choice, on few images."""
        if self._few is None:
            return self.first(levels)
        if levels not in self._tried:
            self._tried[levels] = self._few.score(self._choices.forms(levels))
        return self._vector(self._tried[levels])

    def first(self, levels: Levels) -> Vector:
        """That of a choice, on the first images."""
        return self._vector(_sum(self._on_first(levels)))

    def noise(self, levels: Levels) -> float:
        """The same, of all parts of the outputs together."""
        return noise(_sum(self._on_first(levels)))

    def holds(self, levels: Levels) -> bool:
        """Whether the target holds on the first images."""
        return levels not in self.passed and self._target.reaches(_sum(self._on_first(levels)))

    def reaches(self, levels: Levels) -> bool:
        """Whether the target holds on the first images, and then on these and further ones together."""
        if not self.holds(levels):
            return False
        for judge in self._further:
            if self._until_sure and (not self._target.reaches(self.known(levels)) or self._sure(levels)):
                break
            self._measure(levels, judge)
        if not self._target.reaches(self.known(levels)):
            return False
        self._confirmed.add(levels)
        return True

    def known(self, levels: Levels) -> Score:
        """The score of a choice on all images that it was measured on."""
        parts = self._stages(levels)
        return _sum(part for stage in parts for part in stage) if parts else self._tried[levels]

    def written(self, levels: Levels) -> Score:
        """Of a choice as `quantize` writes it, on the same images."""
        forms = self._choices.forms(levels)
        floats = {name: FLOAT if form.half else form for name, form in forms.items()}
        if floats == forms:
            return self.known(levels)
        judges = (self._judge, *self._further[: len(self._stages(levels)) - 1])
        return _sum(part for judge in judges for part in _parts(judge, floats, whole=len(judges) > 1))

    def points(self) -> tuple[Point, ...]:
        """All choices, the cheapest first, and of those that cost the same the best."""
        measured = dict.fromkeys([*self._tried, *self._first])
        found = sorted(map(self._point, measured), key=lambda point: (point.cost, -point.worth, noise(point.score)))
        return tuple(
            replace(point, front=not any(self._as_good(other, point) for other in found[:place]))
            for place, point in enumerate(found)
        )

    def _as_good(self, one: Point, other: Point) -> bool:
        """Whether a choice is as good as another or better; on the few images, where not both saw the first ones."""
        if one.levels in self._first and other.levels in self._first:
            return one.worth >= other.worth
        few = [self._tried.get(point.levels) for point in (one, other)]
        if few[0] is None or few[1] is None:
            return False
        return noise(few[0]) <= noise(few[1])

    def _point(self, levels: Levels) -> Point:
        score = self.known(levels)
        reaches: bool | None = levels not in self.passed and self._target.reaches(score)
        if reaches and levels not in self._confirmed and (self._further or levels not in self._first):
            reaches = None
        worth = score.sqnr if self._target.kind == "target-sqnr" else self._judge.worth(score)
        return Point(levels, score, -math.inf if math.isnan(worth) else worth, self._choices.total(levels), reaches)

    def _alone(self, forms: Mapping[str, LayerForm]) -> Score:
        return (self._few or self._judge).score(forms)

    def _on_first(self, levels: Levels) -> Parts:
        if levels not in self._first:
            self._first[levels] = _parts(self._judge, self._choices.forms(levels))
        return self._first[levels]

    def _measure(self, levels: Levels, judge: Judge) -> None:
        """On further images, beside those that it was measured on already."""
        if judge not in self._further[: len(self._whole.get(levels, [None])) - 1]:
            forms = self._choices.forms(levels)
            known = self._whole.setdefault(levels, [_parts(self._judge, forms, whole=True)])
            known.append(_parts(judge, forms, whole=True))

    def _stages(self, levels: Levels) -> list[Parts]:
        return self._whole.get(levels, [self._first[levels]] if levels in self._first else [])

    def _sure(self, levels: Levels) -> bool:
        return self._target.sure([part for stage in self._stages(levels) for part in stage])

    def _vector(self, score: Score) -> Vector:
        """Noise by part of the outputs; where those of a score are other ones, as sizes differ, that of the worst."""
        ratios = {name: _ratio(part) for name, part in score.groups.items()}
        self._names = self._names or tuple(ratios)
        if set(ratios) <= set(self._names):
            return np.array([ratios.get(name, 0.0) for name in self._names])
        return np.full(len(self._names), max(ratios.values()))


def noise(found: Score) -> float:
    """How far the outputs are off the float model's: the sum over their groups of noise energy over signal energy.

    Each group (`Score.groups`) counts alike, whatever the size of its numbers. What independent layers add adds up.
    """
    parts = found.groups.values()
    return math.fsum(part.noise / part.signal if part.signal else part.noise for part in parts)


def _ratio(part: Distortion) -> float:
    ratio = part.noise / part.signal if part.signal else part.noise
    return ratio if ratio < WORST else WORST  # NaN is not less


def _parts(judge: Judge, forms: Mapping[str, LayerForm], *, whole: bool = False) -> Parts:
    """What a task finds is measured on all images at once."""
    return (judge.score(forms, whole=whole),) if judge.criterion == "task" else tuple(judge.scores(forms))


def _sum(scores: Iterable[Score]) -> Score:
    first, *others = scores
    return sum(others, first)
