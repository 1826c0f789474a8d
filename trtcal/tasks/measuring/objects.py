"""The objects of some images that take part in a measure: each in a form that every library reads alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError
from trtcal.tasks.found import Finding, Floats, Found, Segmentation, chosen
from trtcal.tasks.measuring.sample import Measure, Sample

MOST: Mapping[Measure, int] = {"boxes": 100, "masks": 100, "points": 20}
"""Detections of a class in an image that count, those of the highest scores: COCO's protocol."""

NOWHERE = -1e6
"""Where a box lies that must not be found: it overlaps nothing."""

LOWEST = -1e30
"""A score below all others."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Some images whose objects are compared.

    Attributes:
        measure: By what; not "pixels".
        samples: The images, by name.
        annotated: Whether what is known comes from annotations.
        confidence: Of the float model's detections that count.
    """

    measure: Measure
    samples: Sequence[Sample]
    annotated: bool
    confidence: float

    def known(self) -> list[Found]:
        """What there is to be found in each image.

        In agreement no more than can be found: objects in the image, and as many of a class as count of a model's.

        Raises:
            DataError: A box, score or point of it is not a finite number, or there is nothing in any image.
        """
        known = [self._known(sample) for sample in self.samples]
        if not any(len(each) for each in known):
            raise DataError(self.nothing)
        return known

    @property
    def nothing(self) -> str:
        """That there is nothing to be found, in words."""
        images = f"any of the {len(self.samples)} image(s), {self.samples[0].name} among them"
        if self.annotated:
            return f"no object is annotated in {images}: there is nothing that a model could find"
        return f"the float model finds nothing above {self.confidence:g} in {images}: take others, or less confidence"

    def found(self) -> list[Found]:
        """What the model found in each image."""
        return [self._seen(sample, sample.found) for sample in self.samples]

    def reference(self) -> list[Found] | None:
        """What the float model found in each image; None where it is itself what is measured."""
        given = [self._seen(each, each.reference) for each in self.samples if each.reference is not None]
        return given if len(given) == len(self.samples) else None

    def unusable(self) -> int:
        """Detections of the model whose score, box or point is not a finite number."""
        return sum(
            int(np.count_nonzero(~usable(_objects(each, each.found, self.measure), self.measure)))
            for each in self.samples
        )

    def _known(self, sample: Sample) -> Found:
        known = _objects(sample, sample.known, self.measure)
        if not usable(known, self.measure).all():
            whose = "the annotations" if self.annotated else "the float model"
            raise DataError(f"image {sample.name}: a box, score or point of {whose} is not a finite number")
        if self.annotated:
            return known
        known = _best(_inside(sample, known, self.measure), MOST[self.measure])
        return known if known.points is None else replace(known, points=_labelled(known.points, self.confidence))

    def _seen(self, sample: Sample, finding: Finding) -> Found:
        seen = _ranked(sample, _objects(sample, finding, self.measure), self.measure)
        return seen if self.annotated else _inside(sample, seen, self.measure)


def sides(found: Found) -> Floats:
    """Boxes as COCO has them: float64 of shape (n, 4), left, top, width and height."""
    return np.column_stack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])


def areas(found: Found) -> Floats:
    """Of the boxes, in square pixels."""
    lengths = np.maximum(sides(found)[:, 2:], 0.0)
    return lengths[:, 0] * lengths[:, 1]


def usable(found: Found, measure: Measure) -> Flags:
    """Which objects have finite scores and boxes, and points where these count: bool of shape (n,)."""
    fine: Flags = np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)
    if measure == "points" and found.points is not None:
        fine &= np.isfinite(found.points).all(axis=(1, 2))
    return fine


def _objects(sample: Sample, finding: Finding, measure: Measure) -> Found:
    if not isinstance(finding, Found):
        raise DataError(f"image {sample.name}: {measure} are to be compared, and there are classes of pixels")
    lacking = {"masks": finding.masks is None, "points": finding.points is None}.get(measure, False)
    if lacking and len(finding):
        raise DataError(f"image {sample.name}: {measure} are to be compared, and there are boxes without {measure}")
    size = list(sample.size)
    for mask in finding.masks or () if measure == "masks" else ():
        if isinstance(mask, Mapping) and list(mask["size"]) != size:
            raise DataError(f"image {sample.name}: a mask is of {list(mask['size'])} pixels, and the image of {size}")
    return finding


def _ranked(sample: Sample, found: Found, measure: Measure) -> Found:
    """What was found, in finite numbers only: what was none comes last, and lies nowhere.

    NaN has no place in a ranking. A box of NaN is right anywhere by pycocotools, as NaN is not below the least overlap.
    """
    fine = usable(found, measure)
    if fine.all():
        return found
    empty = {"size": list(sample.size), "counts": [sample.size[0] * sample.size[1]]}
    masks = (
        None if found.masks is None else [mask if good else empty for mask, good in zip(found.masks, fine, strict=True)]
    )
    nowhere = NOWHERE + np.array([0.0, 0.0, 1.0, 1.0])
    return replace(
        found,
        boxes=np.where(fine[:, None], found.boxes, nowhere),
        scores=np.where(fine, found.scores, LOWEST),
        masks=None if masks is None else tuple(masks),
        points=None if found.points is None else np.where(fine[:, None, None], found.points, NOWHERE),
    )


def _inside(sample: Sample, found: Found, measure: Measure) -> Found:
    """What has an area: boxes beside the image have none after they were cut at its edges.

    The float model's could not be found by any model, itself included: they overlap nothing, not even themselves.
    """
    sizes = areas(found) if measure != "masks" else _mask_areas(sample, found.masks or ())
    return found if (sizes > 0).all() else chosen(found, np.flatnonzero(sizes > 0))


def _mask_areas(sample: Sample, masks: Sequence[Segmentation]) -> Floats:
    from hotcoco import mask as rle

    drawn = [
        dict(each) if isinstance(each, Mapping) else rle.merge(rle.fr_py_objects(each, *sample.size)) for each in masks
    ]
    return np.array([rle.area(each) for each in drawn], float)


def _best(found: Found, most: int) -> Found:
    """The first objects of each class by score: more cannot be found, as no more of a model's detections count."""
    order = np.argsort(-found.scores, kind="stable")
    rank = np.empty(len(found), np.int64)
    for number in np.unique(found.classes):
        mine = order[found.classes[order] == number]
        rank[mine] = np.arange(len(mine))
    return chosen(found, np.flatnonzero(rank < most)) if (rank >= most).any() else found


def _labelled(points: Floats, confidence: float) -> Floats:
    """Points of the float model as if annotated: seen (2) where it is sure of them, else not labelled (0)."""
    labelled = points.copy()
    labelled[..., 2] = np.where(points[..., 2] >= confidence, 2.0, 0.0)
    return labelled
