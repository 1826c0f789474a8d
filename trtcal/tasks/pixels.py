"""A class for each pixel: mean intersection over union of a model's class maps, and what of it may be chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError
from trtcal.tasks import chance
from trtcal.tasks.chance import Interval
from trtcal.tasks.changes import PixelChange
from trtcal.tasks.found import Classes, ClassMap
from trtcal.tasks.result import TaskResult
from trtcal.tasks.sample import Sample, class_names, percent

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """Some images whose pixels are compared.

    Attributes:
        samples: The images, by name.
        annotated: Whether what is known comes from annotations.
    """

    samples: Sequence[Sample]
    annotated: bool

    @property
    def compared(self) -> bool:
        """Whether the float model's maps are there, so that it is not what is measured."""
        return all(sample.reference is not None for sample in self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """How many pixels of each class were taken for which, image by image.

    Of each image's table only what is not 0 is kept: a few classes of many are in an image.

    Attributes:
        classes: How many there are.
        images: int64 of shape (m,): the image of each count.
        cells: int64 of shape (m,): known class * classes + found class.
        counts: int64 of shape (m,), above 0.
    """

    classes: int
    images: Counts
    cells: Counts
    counts: Counts

    def summed(self, times: Counts) -> Counts:
        """The table of all images, each counted so many times: int64 of shape (classes, classes), known x found."""
        # float64 holds counts exactly up to 2**53 pixels
        sums = np.bincount(self.cells, self.counts * times[self.images], self.classes**2)
        return sums.astype(np.int64).reshape(self.classes, self.classes)


def result(maps: Maps, classes: Sequence[str]) -> TaskResult:
    """The mean intersection over union of a model's class maps.

    A class that is nowhere in the truth and yet found counts as 0 in the mean, as in mmsegmentation.

    Raises:
        DataError: No pixel's class is known, or a map is not of its image's size.
    """
    once = np.ones(len(maps.samples), np.int64)
    table = _tables(maps, "found").summed(once)
    if not table.any():
        raise DataError(_nothing(maps))
    ours = _figures(table)
    there = [int(number) for number in np.flatnonzero(table.sum(axis=1))]
    names = class_names(there, classes)
    floats = _figures(_tables(maps, "reference").summed(once)) if maps.compared else None
    return TaskResult(
        measure="mIoU" if maps.annotated else "agreement mIoU",
        value=percent(ours["mIoU"]),
        reference=None if floats is None else percent(floats["mIoU"]),
        parts={"pixel accuracy": percent(ours["aAcc"])},
        by_class={names[number]: percent(ours["IoU"][number]) for number in there},
        reference_by_class={} if floats is None else {names[each]: percent(floats["IoU"][each]) for each in there},
        objects=int(table.sum()),
        unusable=sum(int(np.count_nonzero(_silent(sample))) for sample in maps.samples),
    )


def changes_of(maps: Maps) -> list[PixelChange] | None:
    """How many pixels of each image have another class than the float model's; None where it is what is measured."""
    if not maps.compared:
        return None
    changes = []
    for sample in maps.samples:
        theirs, ours = _classes(sample, "reference"), _classes(sample, "found")
        there = (theirs >= 0) | (ours >= 0)
        share = float(np.count_nonzero(theirs != ours)) / max(int(np.count_nonzero(there)), 1)
        changes.append(PixelChange(sample.name, percent(share)))
    return changes


def drop_interval(maps: Maps) -> Interval:
    """The 95 % interval of what a model loses against the float model.

    Raises:
        DataError: It is the float model itself, or no pixel's class is known.
    """
    if not maps.compared:
        raise DataError("the float model itself is measured: it drops nothing against itself")
    return _interval(maps, _tables(maps, "found"), _tables(maps, "reference"), -100.0 if maps.annotated else 0.0)


def difference_interval(one: Maps, other: Maps) -> Interval:
    """The 95 % interval of what a model is better than another by, on the same images."""
    return _interval(one, _tables(other, "found"), _tables(one, "found"))


def _interval(maps: Maps, worse: Tables, better: Tables, least: float = -100.0) -> Interval:
    """Of the value of `better` less that of `worse`, paired: both have the same images in each resample."""
    images = len(maps.samples)
    if not len(better.counts):
        raise DataError(_nothing(maps))
    random = np.random.default_rng(chance.SEED)
    differences = []
    for _ in range(chance.resamples(len(worse.counts) + len(better.counts))):
        times = random.multinomial(images, np.full(images, 1 / images))
        differences.append(_figures(better.summed(times))["mIoU"] - _figures(worse.summed(times))["mIoU"])
    once = np.ones(images, np.int64)
    measured = _figures(better.summed(once))["mIoU"] - _figures(worse.summed(once))["mIoU"]
    return chance.interval(measured, float(np.std(differences)), images, least)


def _figures(table: Counts) -> dict[str, Any]:
    from hotcoco.metrics import mean_iou

    return mean_iou(table)


def _tables(maps: Maps, whose: Literal["found", "reference"]) -> Tables:
    from hotcoco.metrics import pixel_confusion

    number = _number(maps)
    images, cells, counts = [], [], []
    for image, sample in enumerate(maps.samples):
        known, seen = _classes(sample, "known"), _classes(sample, whose)
        if whose == "found":
            # a class that is not the known one: what the float model sees and this one does not is not right
            seen = np.where(_silent(sample), (known + 1) % number, seen)
        known = np.where((known >= 0) & (seen >= 0), known, number)
        table = pixel_confusion(known, np.maximum(seen, 0), number, ignore_index=number)
        cells.append(np.flatnonzero(table))
        counts.append(table.reshape(-1)[cells[-1]].astype(np.int64))
        images.append(np.full(len(cells[-1]), image))
    return Tables(number, np.concatenate(images), np.concatenate(cells), np.concatenate(counts))


def _number(maps: Maps) -> int:
    """How many classes there are, by the greatest number in any map; two at least, so that there is a wrong one."""
    every = (each for sample in maps.samples for each in (sample.found, sample.known, sample.reference))
    return max(2, *(int(each.classes.max(initial=-1)) + 1 for each in every if isinstance(each, ClassMap)))


def _silent(sample: Sample) -> npt.NDArray[np.bool_]:
    """Pixels of known class to which the float model gives a class, and this one none."""
    known, ours = _classes(sample, "known"), _classes(sample, "found")
    if sample.reference is None:
        return np.zeros(known.shape, bool)
    return (known >= 0) & (ours < 0) & (_classes(sample, "reference") >= 0)


def _classes(sample: Sample, whose: Literal["found", "known", "reference"]) -> Classes:
    finding = getattr(sample, whose)
    if not isinstance(finding, ClassMap):
        raise DataError(f"image {sample.name}: classes of pixels are to be compared, and there are boxes")
    if finding.classes.shape != sample.size:
        height, width = sample.size
        raise DataError(f"image {sample.name}: a map of {finding.classes.shape} pixels, and not of {height}x{width}")
    return finding.classes


def _nothing(maps: Maps) -> str:
    who = "no pixel is annotated" if maps.annotated else "the float model gives no pixel a class"
    images = f"any of the {len(maps.samples)} image(s), {maps.samples[0].name} among them"
    return f"{who} in {images}: there is nothing to compare with"
