"""Average precision by COCO's protocol: hotcoco measures, and here it gets what it measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError
from trtcal.tasks.found import Floats, Found, chosen
from trtcal.tasks.measuring.objects import MOST, Flags, Scenes, areas, sides
from trtcal.tasks.measuring.sample import Measure

if TYPE_CHECKING:
    from hotcoco import COCO, COCOeval

Number = TypeVar("Number", bound=np.generic)

KINDS: Mapping[Measure, str] = {"boxes": "bbox", "masks": "segm", "points": "keypoints"}


@dataclass(frozen=True, slots=True)
class Precision:
    """Mean average precision, from 0 to 1.

    Attributes:
        value: Over the overlaps 0.5, 0.55, ... 0.95 and all classes that are known to be somewhere.
        parts: At the overlaps 0.5 and 0.75 alone, by "50" and "75".
        by_class: By class number.
    """

    value: float
    parts: Mapping[str, float]
    by_class: Mapping[int, float]


def precision(evaluation: "COCOeval") -> Precision:
    """What an evaluation comes to; the value is -1 where nothing is known that counts."""
    from hotcoco import compare

    figures = compare(evaluation, evaluation)
    metrics = figures["metrics_a"]
    by_class = {each["cat_id"] - 1: each["ap_a"] for each in figures["per_category"] if each["ap_a"] >= 0}
    return Precision(metrics["AP"], {"50": metrics["AP50"], "75": metrics["AP75"]}, dict(sorted(by_class.items())))


def evaluation(scenes: Scenes, known: Sequence[Found], found: Sequence[Found]) -> "COCOeval":
    """Matches what was found in each image with what is known.

    COCO's protocol for all sizes of objects: the smaller and greater ones apart would double the time.

    Args:
        scenes: The images.
        known: In each.
        found: In each; equal scores follow the order of the images, then their own. Those of classes that are nowhere
            in the truth are left out: they would count in no class, and two models could not be compared.
    """
    from hotcoco import COCOeval

    numbers = np.unique(_joined([each.classes for each in known]))
    found = [chosen(each, np.flatnonzero(np.isin(each.classes, numbers))) for each in found]
    truth = _truth(scenes, known, numbers.tolist())
    evaluation = COCOeval(truth, _detections(scenes, truth, found), KINDS[scenes.measure])
    settings = evaluation.params
    settings.area_rng, settings.area_rng_lbl = [[0.0, 1e10]], ["all"]
    settings.max_dets = [MOST[scenes.measure]]
    if scenes.measure == "points":
        settings.kpt_oks_sigmas = sigmas(_points(known, found))
    evaluation.evaluate()
    return evaluation


def sigmas(points: int) -> list[float]:
    """How far each point may be off, as a share of the object's size.

    Of a person's 17 points COCO's, measured on people who annotated. Of others 1 / points, as Ultralytics' validation
    has it (`ultralytics/models/yolo/pose/val.py`).
    """
    from hotcoco import Params

    coco = Params("keypoints").kpt_oks_sigmas
    return coco if points == len(coco) else [1 / points] * points


def counted(known: Sequence[Found]) -> int:
    """Objects that are known to be there: not crowds, nor those none of whose points is labelled."""
    return sum(int(np.count_nonzero(_counts(each))) for each in known)


def _counts(known: Found) -> Flags:
    labelled: Flags = np.ones(len(known), bool)
    if known.points is not None:
        labelled = np.any(known.points[..., 2] > 0, axis=1)
    return labelled & ~_crowds(known)


def _points(known: Sequence[Found], found: Sequence[Found]) -> int:
    """How many points an object has."""
    first, *others = {int(each.points.shape[1]) for each in (*known, *found) if each.points is not None and len(each)}
    if others:
        raise DataError(f"objects have {first} points each, and others {others[0]}: they cannot be compared")
    return first


def _truth(scenes: Scenes, known: Sequence[Found], numbers: Sequence[int]) -> "COCO":
    """What is known, as a data set: all numbers from 1 on, as pycocotools never finds an annotation 0."""
    from hotcoco import COCO

    images = [
        {"id": number, "height": sample.size[0], "width": sample.size[1]}
        for number, sample in enumerate(scenes.samples, 1)
    ]
    categories = [{"id": number + 1, "name": str(number)} for number in numbers]
    if scenes.measure == "points":
        return COCO({"images": images, "categories": categories, "annotations": _labelled(known)})
    boxes = _joined([sides(each) for each in known])
    return COCO.from_arrays(
        images,
        categories,
        _images(known),
        _joined([each.classes for each in known]) + 1,
        boxes,
        ids=np.arange(1, len(boxes) + 1),
        area=_joined([_areas(each) for each in known]),
        iscrowd=_joined([_crowds(each) for each in known]).astype(np.int64),
        segmentation=_masks(known) if scenes.measure == "masks" else None,
    )


def _detections(scenes: Scenes, truth: "COCO", found: Sequence[Found]) -> "COCO":
    if scenes.measure == "points":
        return truth.load_res(_pointed(found))
    boxes, scores = _joined([sides(each) for each in found]), _joined([each.scores for each in found])
    classes = _joined([each.classes for each in found])
    table = np.column_stack([_images(found), boxes, scores, classes + 1]).astype(np.float64)
    return truth.load_res(table, segmentation=_masks(found) if scenes.measure == "masks" else None)


def _joined(parts: Sequence[npt.NDArray[Number]]) -> npt.NDArray[Number]:
    return np.concatenate(parts)


def _images(findings: Sequence[Found]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(1, len(findings) + 1), [len(each) for each in findings])


def _masks(findings: Sequence[Found]) -> list[Any]:
    masks = [mask for each in findings for mask in each.masks or ()]
    return [dict(mask) if isinstance(mask, Mapping) else [list(part) for part in mask] for mask in masks]


def _areas(known: Found) -> Floats:
    return areas(known) if known.areas is None else known.areas


def _crowds(known: Found) -> Flags:
    return np.zeros(len(known), bool) if known.crowds is None else known.crowds


def _labelled(known: Sequence[Found]) -> list[dict[str, Any]]:
    """Annotations with points: a dictionary each, which is the one form that takes them."""
    annotations = _pointed(known)
    columns = [_joined([column(each) for each in known]).tolist() for column in (sides, _areas, _crowds)]
    for number, (annotation, box, area, crowd) in enumerate(zip(annotations, *columns, strict=True), 1):
        seen = sum(visibility > 0 for visibility in annotation["keypoints"][2::3])
        annotation |= {"id": number, "bbox": box, "area": area, "iscrowd": int(crowd), "num_keypoints": seen}
    return annotations


def _pointed(findings: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": number + 1, "score": score, "keypoints": points}
        for image, each in enumerate(findings, 1)
        if each.points is not None and len(each)
        for number, score, points in zip(
            each.classes.tolist(), each.scores.tolist(), each.points.reshape(len(each), -1).tolist(), strict=True
        )
    ]
