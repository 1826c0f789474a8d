"""Measures of a model's outputs: right classes, agreement with a reference, distortion; they add up over batches."""

import math
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from calibrators.tabular import Row
from trtcal.measure.class_counts import ByClass, added, count_by_class
from trtcal.measure.distortion import Channels, Distortion, Unlike, cut, distortion, distortions, named
from trtcal.tasks.adapter import Part
from trtcal.tasks.class_scores import class_output
from trtcal.tasks.measuring.evidence import Evidence
from trtcal.tasks.own.numbers import Numbers
from trtcal.tasks.summary import Measured

Scores = npt.NDArray[np.floating[Any]]
"""Class scores, shape (samples, classes)."""

Labels = npt.NDArray[np.int64]
"""Class numbers, shape (samples,)."""

Hits = npt.NDArray[np.bool_]
"""Whether each sample counts, shape (samples,)."""


T = TypeVar("T", Distortion, Unlike, "Share")

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution: 95 % lie between -Z95 and Z95."""


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` out of `total`; shares of disjoint samples add up. A total of 0 means that nothing was measured."""

    hits: int = 0
    total: int = 0

    def __add__(self, other: "Share") -> "Share":
        return Share(self.hits + other.hits, self.total + other.total)

    @property
    def percent(self) -> float:
        """100 hits / total."""
        return 100 * self.hits / self.total

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """Wilson's score interval in percent, 95 % unless `z` says otherwise.

        (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). It stays within 0..100 and holds near both ends too, where
        the textbook's p ± z sqrt(p(1-p)/n) shrinks to nothing (E. B. Wilson, 1927).
        """
        n, p = self.total, self.hits / self.total
        centre = p + z * z / (2 * n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = (centre - reach) / (1 + z * z / n), (centre + reach) / (1 + z * z / n)
        return 100 * max(low, 0.0), 100 * min(high, 1.0)


@dataclass(frozen=True, slots=True)
class Score:
    """What was measured of one model; scores of disjoint samples add up.

    Attributes:
        samples: Samples run.
        classes: Number of class scores; 0 where no output holds class scores.
        top1: Labelled samples whose label has the highest score.
        top5: Labelled samples whose label has one of the 5 highest; nothing where there are no more than 5 classes.
        agreement: Samples whose highest score is at the reference's class.
        lost: Labelled samples that the reference gets right and this model wrong.
        gained: Labelled samples that the reference gets wrong and this model right.
        distortions: From the reference, by output; float outputs only, and of these the samples in which both models'
            outputs are of one size.
        unlike: The other samples, by output; integer outputs too.
        channels: Of outputs that hold no class scores, whose samples have one size, along each axis.
        integers: Of outputs of integers, such as class numbers: the values that are the reference's. They rank nothing.
        uncounted: Outputs that `counted` leaves out, as their size depends on the data and that of others does not.
        nonfinite: Samples with NaN or Inf in an output. One with NaN among its class scores counts as wrong.
        parts: What channels of outputs mean, where the task or the outputs' shapes tell.
        task: What was found in the samples, where the model is for finding something.
        by_class: Top-1, lost and gained by the samples' labels, agreement by the reference's classes; empty where
            `score` was not asked for it.
    """

    samples: int = 0
    classes: int = 0
    top1: Share = Share()
    top5: Share = Share()
    agreement: Share = Share()
    lost: int = 0
    gained: int = 0
    distortions: Mapping[str, Distortion] = field(default_factory=dict)
    unlike: Mapping[str, Unlike] = field(default_factory=dict)
    channels: Mapping[str, tuple[Channels, ...]] = field(default_factory=dict)
    integers: Mapping[str, Share] = field(default_factory=dict)
    uncounted: frozenset[str] = frozenset()
    nonfinite: int = 0
    parts: tuple[Part, ...] = ()
    task: Measured | None = None
    by_class: ByClass = field(default_factory=dict)

    def __add__(self, other: "Score") -> "Score":
        return Score(
            samples=self.samples + other.samples,
            classes=max(self.classes, other.classes),
            top1=self.top1 + other.top1,
            top5=self.top5 + other.top5,
            agreement=self.agreement + other.agreement,
            lost=self.lost + other.lost,
            gained=self.gained + other.gained,
            distortions=_added(self.distortions, other.distortions, Distortion()),
            unlike=_added(self.unlike, other.unlike, Unlike()),
            channels=_joined(self.channels, other.channels),
            integers=_added(self.integers, other.integers, Share()),
            uncounted=self.uncounted | other.uncounted,
            nonfinite=self.nonfinite + other.nonfinite,
            parts=self.parts or other.parts,
            task=_found(self.task, other.task),
            by_class=added(self.by_class, other.by_class),
        )

    @property
    def counted(self) -> Mapping[str, Distortion]:
        """What counts when models are compared, by output: the same samples and outputs for each model.

        A sample in which an output has another size counts as lost: left out, it would make a model look the better
        the fewer of its samples can be compared. Where selections of both models have one size by chance, they are
        compared place by place. So such outputs count only where there are no others (`uncounted`).
        """
        lost = {name: part.distortion for name, part in self.unlike.items() if part.signal or part.power}
        both = _added(self.distortions, lost, Distortion())
        return {name: part for name, part in both.items() if name not in self.uncounted}

    @property
    def identical(self) -> bool:
        """Whether no value of any output is another than the reference's."""
        equal = all(share.hits == share.total for share in self.integers.values())
        return equal and self.distortion.noise == 0 and not self.unlike

    @property
    def groups(self) -> Mapping[str, Distortion]:
        """What counts, by output, or by group of an output's channels: as the task says, or by their size (`cut`)."""
        found = dict[str, Distortion]()
        for name, whole in self.counted.items():
            channels = () if name in self.unlike else self.channels.get(name, ())
            parts = named(channels, [part for part in self.parts if part.output == name]) or cut(channels)
            found |= {f"{name} {label}": part for label, part in parts.items()} or {name: whole}
        return found

    @property
    def worst(self) -> str:
        """The group of the lowest SQNR; empty where nothing counts."""
        groups = self.groups
        return min(groups, key=lambda name: or_least(groups[name].sqnr), default="")

    @property
    def sqnr(self) -> float:
        """Of the worst group, in dB: what ranks and bounds. One number over boxes and scores would hide the scores."""
        return min((part.sqnr for part in self.groups.values()), key=or_least, default=math.inf)

    @property
    def distortion(self) -> Distortion:
        """Over all outputs that count: a sum over unlike things, which neither ranks nor bounds."""
        return sum(self.counted.values(), Distortion())

    @property
    def drop(self) -> float:
        """Top-1 of the reference less this model's, in percentage points, over the labelled samples."""
        return 100 * (self.lost - self.gained) / self.top1.total

    def to_row(self) -> Row:
        """Cells of a table: top-1 (with the ends of its 95 % interval), top-5 and agreement in percent, drop in points.

        Where there is a task, its measure by name and value, and what is lost, extra and moved. What is measured
        against a reference is None for the reference itself.
        """
        compared = bool(self.distortions)
        dropped = compared and bool(self.top1.total)
        task = None if self.task is None else self.task.result
        low, high = self.top1.interval() if self.top1.total else (None, None)
        return {
            "samples": self.samples,
            "top1": self.top1.percent if self.top1.total else None,
            "top1_low": low,
            "top1_high": high,
            "top5": self.top5.percent if self.top5.total else None,
            "measure": None if task is None else task.measure,
            "measured": None if task is None else task.value,
            "drop": self.drop if dropped else None if task is None else task.drop,
            "lost": self.lost if dropped else None if task is None else task.lost,
            "gained": self.gained if dropped else None,
            "extra": None if task is None else task.extra,
            "moved": None if task is None else task.moved,
            "agreement": self.agreement.percent if self.agreement.total else None,
            "sqnr_db": self.sqnr if compared else None,
            "worst": self.worst if compared else None,
            "nonfinite": self.nonfinite,
        }


def score(
    outputs: Mapping[str, Array],
    *,
    labels: Labels | None = None,
    reference: Mapping[str, Array] | None = None,
    samples: int | None = None,
    sized: Collection[str] = (),
    parts: Sequence[Part] = (),
    task: Evidence | Numbers | None = None,
    by_class: bool = False,
) -> Score:
    """Measure one batch of outputs.

    Args:
        outputs: By name, samples on the first axis.
        labels: Each from 0 to classes - 1.
        reference: Outputs of the same names to compare with.
        samples: How many they are of; None takes the length of the first output.
        sized: Outputs whose size depends on the data: they hold no class scores.
        parts: What channels of outputs mean.
        task: What was found in the samples.
        by_class: Whether samples are counted by class, too.
    """
    samples = len(next(iter(outputs.values()))) if samples is None else samples
    name = class_output(outputs, sized)
    given = reference or {}
    alike = {key: value for key, value in given.items() if value.shape == outputs[key].shape}
    scores = class_scores(outputs[name]) if name else None
    expected = class_scores(alike[name]) if name in alike else None
    right = in_top(scores, labels, 1) if scores is not None and labels is not None else None
    before = in_top(expected, labels, 1) if expected is not None and labels is not None else None
    top5 = in_top(scores, labels, 5) if scores is not None and labels is not None and scores.shape[1] > 5 else None
    same = agreeing(scores, expected) if scores is not None and expected is not None else None
    best = classes_of(expected) if expected is not None else None
    apart = {key for key, value in alike.items() if key != name and value.shape[:1] == (samples,)} - set(sized)
    found = {
        key: distortions(value, outputs[key], by_channel=key in apart)
        for key, value in alike.items()
        if value.dtype.kind == "f" and (value.size or key not in sized)
    }
    return Score(
        samples=samples,
        classes=0 if scores is None else scores.shape[1],
        top1=_share(right),
        top5=_share(top5),
        agreement=_share(same),
        lost=0 if right is None or before is None else int(np.sum(before & ~right)),
        gained=0 if right is None or before is None else int(np.sum(right & ~before)),
        distortions={key: whole for key, (whole, _) in found.items()},
        unlike={key: other_size(given[key], outputs[key], samples) for key in given if key not in alike},
        channels={key: parts for key, (_, parts) in found.items() if parts},
        integers={key: _equal(value, outputs[key]) for key, value in alike.items() if value.dtype.kind in "iub"},
        uncounted=uncounted([key for key, value in given.items() if value.dtype.kind == "f"], sized),
        nonfinite=_nonfinite_samples(outputs, samples),
        parts=tuple(parts),
        task=task,
        by_class=count_by_class(labels, right, before, best, same) if by_class else {},
    )


def uncounted(floats: Collection[str], sized: Collection[str]) -> frozenset[str]:
    """Of float outputs, those whose size depends on the data, where there are others; see `Score.counted`."""
    found = frozenset(floats) & frozenset(sized)
    return found if len(found) < len(floats) else frozenset()


def in_top(scores: Scores, labels: Labels, k: int) -> Hits:
    """Whether each label is among the `k` highest scores.

    Of equal scores the first ranks higher, as in argmax. A row with NaN ranks nothing.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    above = (scores > own) | ((scores == own) & earlier)
    hits: Hits = (above.sum(axis=1) < k) & ~np.isnan(scores).any(axis=1)
    return hits


def classes_of(scores: Scores) -> Labels:
    """The class of the highest score, the first of equal ones; -1 for a row with NaN."""
    best: Labels = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
    return best


def agreeing(scores: Scores, reference: Scores) -> Hits:
    """Whether the highest score, the first of equal ones, is at the same class in both; never where a row has NaN."""
    clean = ~(np.isnan(scores).any(axis=1) | np.isnan(reference).any(axis=1))
    hits: Hits = (scores.argmax(axis=1) == reference.argmax(axis=1)) & clean
    return hits


def _equal(reference: Array, values: Array) -> Share:
    return Share(int(np.sum(reference == values)), reference.size)


def other_size(reference: Array, values: Array, samples: int) -> Unlike:
    """An output of some samples that has another size than the reference's."""
    return Unlike(samples, *(distortion(each, each).signal for each in (reference, values) if each.dtype.kind == "f"))


def _found(one: Measured | None, other: Measured | None) -> Measured | None:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, Evidence) and isinstance(other, Evidence):
        return one + other
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return one + other
    raise TypeError("a summary of what was found in images does not add up: measure them again")


def or_least(sqnr: float) -> float:
    """For ranking: NaN, of outputs that hold it, is the least."""
    return -math.inf if math.isnan(sqnr) else sqnr


def _joined(
    one: Mapping[str, tuple[Channels, ...]], other: Mapping[str, tuple[Channels, ...]]
) -> dict[str, tuple[Channels, ...]]:
    """The sums of what stands under one name."""
    found = {**one, **other}
    return {
        name: tuple(map(operator.add, one[name], other[name])) if name in one and name in other else parts
        for name, parts in found.items()
    }


def _added(one: Mapping[str, T], other: Mapping[str, T], nothing: T) -> dict[str, T]:
    """The sums of what stands under one name."""
    return {name: one.get(name, nothing) + other.get(name, nothing) for name in dict.fromkeys([*one, *other])}


def class_scores(value: npt.NDArray[Any]) -> Scores:
    """An output that holds class scores (`class_output`) without its trailing axes of length 1."""
    return value.reshape(value.shape[:2])


def _share(hits: Hits | None) -> Share:
    return Share() if hits is None else Share(int(hits.sum()), hits.size)


def _nonfinite_samples(outputs: Mapping[str, Array], samples: int) -> int:
    hit = np.zeros(samples, bool)
    for value in outputs.values():
        if value.dtype.kind == "f":
            bad = ~np.isfinite(value)
            hit |= bad.reshape(samples, -1).any(axis=1) if value.shape[:1] == (samples,) else bad.any()
    return int(hit.sum())
