"""What pycocotools measures of the same images."""

import contextlib
import io
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

KINDS = {"boxes": "bbox", "masks": "segm", "points": "keypoints"}


class Measured(NamedTuple):
    value: float
    at_50: float
    at_75: float
    by_class: dict[str, float]


def measured(evidence, sigmas=None) -> Measured:
    """In percent; images in the order of their names."""
    samples = sorted(evidence.samples, key=lambda sample: sample.name)
    numbers = sorted({int(c) for each in samples for f in (each.known, each.found) for c in f.classes})
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = {
            "images": [{"id": i, "height": s.size[0], "width": s.size[1]} for i, s in enumerate(samples, 1)],
            "categories": [{"id": number + 1, "name": str(number)} for number in numbers],
            "annotations": _annotations(samples),
        }
        truth.createIndex()
        detections = [_detection(i, s.found, row) for i, s in enumerate(samples, 1) for row in range(len(s.found))]
        evaluation = COCOeval(truth, truth.loadRes(detections), KINDS[evidence.measure])
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precisions = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = {str(number): precisions[:, :, k] for k, number in enumerate(numbers)}
    return Measured(
        *(100 * evaluation.stats[:3]),
        {name: 100 * each.mean() for name, each in by_class.items() if (each > -1).all()},
    )


def _annotations(samples):
    annotations = []
    for image, each in enumerate(samples, 1):
        known = each.known
        for row in range(len(known)):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(known.classes[row]) + 1,
                "bbox": _sides(known.boxes[row]),
                "area": float(known.areas[row]) if known.areas is not None else _area(known.boxes[row]),
                "iscrowd": int(known.crowds is not None and known.crowds[row]),
            }
            if known.masks is not None:
                annotation["segmentation"] = known.masks[row]
            if known.points is not None:
                annotation["keypoints"] = known.points[row].ravel().tolist()
                annotation["num_keypoints"] = int((known.points[row, :, 2] > 0).sum())
            annotations.append(annotation)
    return annotations


def _detection(image, found, row):
    detection = {"image_id": image, "category_id": int(found.classes[row]) + 1, "score": float(found.scores[row])}
    detection["bbox"] = _sides(found.boxes[row])
    if found.masks is not None:
        detection["segmentation"] = found.masks[row]
    if found.points is not None:
        detection["keypoints"] = found.points[row].ravel().tolist()
    return detection


def _sides(box):
    left, top, right, bottom = (float(each) for each in box)
    return [left, top, right - left, bottom - top]


def _area(box):
    return _sides(box)[2] * _sides(box)[3]
