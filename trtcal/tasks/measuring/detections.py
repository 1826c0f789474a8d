"""Boxes, masks and points that a model found: how well, what became of the float model's, and what may be chance."""

import math
from collections.abc import Mapping, Sequence

from calibrators.errors import DataError
from trtcal.tasks.found import Found
from trtcal.tasks.measuring import chance
from trtcal.tasks.measuring.average_precision import Precision, counted, evaluation, precision
from trtcal.tasks.measuring.chance import Interval
from trtcal.tasks.measuring.changes import Change, changed
from trtcal.tasks.measuring.objects import Scenes
from trtcal.tasks.measuring.result import TaskResult
from trtcal.tasks.measuring.sample import Measure, class_names, percent

PREFIXES: Mapping[Measure, str] = {"boxes": "", "masks": "mask ", "points": "OKS "}


def result(scenes: Scenes, classes: Sequence[str]) -> TaskResult:
    """The mean average precision of a model.

    Raises:
        DataError: There is nothing to be found, or what is there cannot be compared.
    """
    known = scenes.known()
    ours = precision(evaluation(scenes, known, scenes.found()))
    if ours.value < 0:
        raise DataError(scenes.nothing)
    floats = _reference(scenes, known, ours)
    changes = changes_of(scenes)
    names = class_names(ours.by_class, classes)
    prefix = PREFIXES[scenes.measure]
    return TaskResult(
        measure=f"{'' if scenes.annotated else 'agreement '}{prefix}mAP 50-95",
        value=percent(ours.value),
        reference=None if floats is None else percent(floats.value),
        parts={f"{prefix}mAP {overlap}": percent(value) for overlap, value in ours.parts.items()},
        by_class={names[number]: percent(value) for number, value in ours.by_class.items()},
        reference_by_class={names[each]: percent(value) for each, value in floats.by_class.items()} if floats else {},
        objects=counted(known),
        lost=None if changes is None else sum(each.lost for each in changes),
        extra=None if changes is None else sum(each.extra for each in changes),
        moved=None if changes is None else sum(each.moved for each in changes),
        unusable=scenes.unusable(),
    )


def changes_of(scenes: Scenes) -> list[Change] | None:
    """What became of the float model's detections in each image; None where it is itself what is measured."""
    reference = scenes.reference()
    if reference is None:
        return None
    return [
        changed(sample.name, theirs, ours, scenes.confidence)
        for sample, theirs, ours in zip(scenes.samples, reference, scenes.found(), strict=True)
    ]


def drop_interval(scenes: Scenes) -> Interval:
    """The 95 % interval of what a model loses against the float model.

    Raises:
        DataError: It is the float model itself, or there is nothing to be found.
    """
    known, reference = scenes.known(), scenes.reference()
    if reference is None:
        raise DataError("the float model itself is measured: it drops nothing against itself")
    if scenes.annotated:
        return _interval(scenes, known, scenes.found(), reference)
    return _interval(scenes, known, scenes.found(), known, least=0.0)  # nothing is above the float model's 100


def difference_interval(one: Scenes, other: Scenes) -> Interval:
    """The 95 % interval of what a model is better than another by, on the same images."""
    return _interval(one, one.known(), other.found(), one.found())


def _reference(scenes: Scenes, known: Sequence[Found], ours: Precision) -> Precision | None:
    reference = scenes.reference()
    if reference is None:
        return None
    if scenes.annotated:
        return precision(evaluation(scenes, known, reference))
    return Precision(1.0, {}, dict.fromkeys(ours.by_class, 1.0))


def _interval(
    scenes: Scenes, known: Sequence[Found], worse: Sequence[Found], better: Sequence[Found], *, least: float = -100.0
) -> Interval:
    """Of the value of `better` less that of `worse`, paired: both have the same images in each resample.

    hotcoco draws n of n images with replacement, and counts one that is drawn several times once. So its resamples are
    subsets of ``m = (1 - 1/e) n`` images in the mean, which differ less than real ones: the standard error is
    ``sqrt(m / (n - m)) = sqrt(e - 1)`` times theirs, as that of a jackknife which leaves n - m images out (J. Shao and
    C. F. J. Wu, "A General Theory for Jackknife Variance Estimation", Annals of Statistics, 1989).
    """
    from hotcoco import compare

    first, second = evaluation(scenes, known, worse), evaluation(scenes, known, better)
    if precision(second).value < 0:
        raise DataError(scenes.nothing)
    images = len(scenes.samples)
    times = chance.resamples(images, sum(len(each) for each in (*worse, *better)))
    compared = compare(first, second, n_bootstrap=times, seed=chance.SEED)
    error = math.sqrt(math.e - 1) * compared["ci"]["AP"]["std_err"]
    return chance.interval(compared["deltas"]["AP"], error, images, least)
