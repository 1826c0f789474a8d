"""How well the demo's models find what is in scenes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from calibrators.batches import Array
from trtcal.demo.scenes import CLASSES, SIDE, Scene
from trtcal.tasks.adapters import yolov8
from trtcal.tasks.evidence import Evidence, Sample
from trtcal.tasks.found import ClassMap, Finding, Found
from trtcal.tasks.nms import without_overlaps
from trtcal.tasks.result import TaskResult

if TYPE_CHECKING:
    from engines.sessions.onnxruntime import Session

BATCH = 50
"""Scenes that a model is given together."""

CONFIDENCE = 0.25
"""From this score on a box is drawn."""

Read = Callable[[Mapping[str, Array]], Sequence[Finding]]
"""From a model's outputs to what it finds in each image."""


def boxes_in(outputs: Mapping[str, Array]) -> list[Found]:
    """What the detector finds in each scene."""
    adapter = yolov8.ADAPTER
    found = adapter.decode(outputs, (SIDE, SIDE))
    return [without_overlaps(each, adapter.overlap) for each in found if isinstance(each, Found)]


def classes_in(outputs: Mapping[str, Array]) -> list[ClassMap]:
    """The class that the segmentation model finds for each pixel of each scene: of the highest score."""
    (scores,) = outputs.values()
    return [ClassMap(each) for each in scores.argmax(1).astype(np.int64)]


def findings(session: "Session", scenes: Sequence[Scene], read: Read, progress: Callable[[int], None]) -> list[Finding]:
    """What a model finds in each scene."""
    found = list[Finding]()
    for batch in _batches(scenes):
        found += read(session.run({"image": batch}))
        progress(len(batch))
    return found


def measured(found: Mapping[str, Sequence[Finding]], scenes: Sequence[Scene]) -> dict[str, TaskResult]:
    """What models found in scenes against what is there, by model; the first of them is the reference of the others.

    Boxes are measured by mAP, classes of pixels by mIoU.
    """
    results = dict[str, TaskResult]()
    reference: Sequence[Finding] | None = None
    for name, findings in found.items():
        samples = tuple(
            Sample(f"{number:04}", (SIDE, SIDE), each, _known(scene, each), reference[number] if reference else None)
            for number, (each, scene) in enumerate(zip(findings, scenes, strict=True))
        )
        pixels = isinstance(findings[0], ClassMap)
        names = ("ground", *CLASSES) if pixels else CLASSES
        results[name] = Evidence("pixels" if pixels else "boxes", samples, annotated=True, classes=names).result
        reference = reference or findings
    return results


def _known(scene: Scene, found: Finding) -> Finding:
    if isinstance(found, ClassMap):
        return ClassMap(scene.class_map.astype(np.int64))
    return Found(scene.boxes, np.ones(len(scene)), scene.classes, areas=scene.masks.sum((1, 2)).astype(np.float64))


def _batches(scenes: Sequence[Scene]) -> Iterator[Array]:
    """The images as float32 (n, 3, 160, 160) of values 0 to 1: what the preprocessing `unit` makes of them."""
    for start in range(0, len(scenes), BATCH):
        images = np.stack([scene.image for scene in scenes[start : start + BATCH]])
        yield images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
