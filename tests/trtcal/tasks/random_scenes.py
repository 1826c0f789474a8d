"""Images with random objects, and what two models find in them: from a seed, with all that a data set may hold."""

from dataclasses import replace

import numpy as np
from pycocotools import mask as rle

from trtcal.tasks.found import Found
from trtcal.tasks.measuring.evidence import Evidence
from trtcal.tasks.measuring.sample import Measure, Sample

SIZE = (96, 128)


def found(boxes=(), scores=None, classes=None, **more) -> Found:
    boxes = np.array(boxes, float).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else np.array(scores, float)
    classes = np.zeros(len(boxes), np.int64) if classes is None else np.array(classes, np.int64)
    return Found(boxes, scores, classes, **more)


def sample(name, seen, known, reference=None, size=SIZE) -> Sample:
    return Sample(name, size, seen, known, reference)


def evidence(samples, measure: Measure = "boxes", annotated=True, **more) -> Evidence:
    return Evidence(measure, tuple(samples), annotated, **more)


def agreeing(samples, measure: Measure = "boxes", confidence=0.25, **more) -> Evidence:
    """What the float model is sure of is what there is."""
    sure = [replace(each, known=selected(each.reference, each.reference.scores >= confidence)) for each in samples]
    return Evidence(measure, tuple(sure), False, confidence, **more)


def selected(objects: Found, rows) -> Found:
    return Found(
        objects.boxes[rows],
        objects.scores[rows],
        objects.classes[rows],
        None if objects.masks is None else tuple(mask for mask, row in zip(objects.masks, rows, strict=True) if row),
        None if objects.points is None else objects.points[rows],
    )


def scenes(seed: int, images: int = 30, classes: int = 4, most: int = 12, points: int = 17) -> list[Sample]:
    """Crowds, images without objects or detections, tied scores, scores of 0, classes that only one side has."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(images):
        known = _known(random, random.integers(0, most) if random.random() > 0.15 else 0, classes, points)
        models = [_detected(random, known, classes, spread) for spread in (3.0, 1.5)]
        made.append(sample(f"{number:04}.png", models[0], known, models[1]))
    return made


def _known(random, count, classes, points) -> Found:
    boxes = _boxes(random, count)
    keypoints = _points(random, boxes, points)
    keypoints[..., 2] = random.choice([0, 1, 2], keypoints.shape[:2])
    keypoints[random.random(count) < 0.15, :, 2] = 0  # nothing labelled: ignored
    return Found(
        boxes,
        np.ones(count),
        random.integers(0, classes, count),
        tuple(_mask(random, box, polygon=random.random() < 0.5) for box in boxes),
        keypoints,
        random.random(count) < 0.1,
        _area(boxes) * random.uniform(0.4, 1.0, count),
    )


def _detected(random, known: Found, classes, spread) -> Found:
    """Most of what is known, shifted, some twice, and some that is not there; scores in steps of 0.05, which tie."""
    kept = np.flatnonzero(random.random(len(known)) < 0.85)
    kept = np.concatenate([kept, kept[random.random(len(kept)) < 0.2]])
    strays = _boxes(random, random.integers(0, 4))
    boxes = np.concatenate([known.boxes[kept] + random.normal(0, spread, (len(kept), 4)), strays])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    numbers = np.concatenate([known.classes[kept], random.integers(0, classes + 2, len(strays))])
    scores = np.round(random.uniform(0, 1, len(boxes)) * 20) / 20
    points = np.concatenate([known.points[kept], _points(random, strays, known.points.shape[1])])
    points[..., :2] += random.normal(0, spread, points[..., :2].shape)
    points[..., 2] = random.random(points.shape[:2])
    masks = tuple(_mask(random, box, polygon=False) for box in np.clip(boxes, 0, [128, 96, 128, 96]))
    order = np.argsort(-scores, kind="stable")
    return Found(boxes[order], scores[order], numbers[order], tuple(masks[each] for each in order), points[order])


def _boxes(random, count):
    corner = random.uniform([0, 0], [100, 70], (count, 2))
    return np.concatenate([corner, corner + random.uniform(4, 26, (count, 2))], axis=1)


def _points(random, boxes, count):
    inside = random.random((len(boxes), count, 2))
    places = boxes[:, None, :2] + inside * (boxes[:, None, 2:] - boxes[:, None, :2])
    return np.concatenate([places, np.ones((len(boxes), count, 1))], axis=2)


def _mask(random, box, *, polygon):
    left, top, right, bottom = (float(each) for each in box)
    cut = random.uniform(0, 0.3)
    corners = [left, top, right, top + cut * (bottom - top), right, bottom, left + cut * (right - left), bottom]
    if polygon:
        return [corners]
    drawn = rle.merge(rle.frPyObjects([corners], *SIZE))
    return {"size": list(SIZE), "counts": drawn["counts"] if random.random() < 0.5 else drawn["counts"].decode()}


def _area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
