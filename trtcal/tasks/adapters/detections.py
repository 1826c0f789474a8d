"""Detections as graphs of TensorFlow and torchvision end: boxes, scores and classes, after their own removal.

- TensorFlow's Object Detection API (`exporter.py`; SSD, EfficientDet, Faster R-CNN): ``detection_boxes`` (N, rows, 4)
  are top, left, bottom and right from 0 to 1, beside ``detection_scores`` and ``detection_classes`` (N, rows) and
  ``num_detections`` (N,).
- MLPerf's SSD-ResNet34 (mlcommons/inference, `ssd-12` of ONNX's model zoo): ``bboxes`` (N, rows, 4) are left, top,
  right and bottom from 0 to 1, beside ``labels`` and ``scores`` (N, rows).
- torchvision (`models/detection`; SSD, RetinaNet, Faster R-CNN, FCOS): ``boxes`` (rows, 4), ``scores`` and ``labels``
  (rows,) of one image, left, top, right and bottom in the input's pixels.

So boxes without an axis of samples are in pixels, others from 0 to 1, and a name that holds ``detection_boxes`` tells
of the order. In all of them class 1 is the first: 0 would be the background. Here it becomes 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Shapes
from trtcal.tasks.decoding.lists import Lists, counts, integers, lists
from trtcal.tasks.decoding.outputs import checked, corners, survivors, told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

VERTICAL_FIRST = "detection_boxes"
"""What the name of TensorFlow's boxes holds."""


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample; outputs without an axis of samples are of one."""
    roles = _roles(checked(outputs, size, misfit), integers(outputs))
    assert roles is not None  # where `misfit` is empty
    boxes, scores, classes = (
        np.asarray(outputs[name], np.float64) for name in (roles.boxes, roles.scores, roles.classes)
    )
    if boxes.ndim == 2:
        return [survivors(boxes, scores, classes - 1)]
    if VERTICAL_FIRST in roles.boxes.lower():
        boxes = boxes[..., [1, 0, 3, 2]]
    rows = [boxes.shape[1]] * len(boxes) if roles.count is None else counts(outputs[roles.count])
    return [
        survivors(placed[:count] * corners(size), scored[:count], numbered[:count] - 1)
        for count, placed, scored, numbered in zip(rows, boxes, scores, classes, strict=True)
    ]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no such lists."""
    if _roles(shapes) is None:
        return (
            "outputs of (N, rows, 4) boxes, (N, rows) scores, (N, rows) classes and perhaps (N,) a count, or the three "
            f"without N, not {told(shapes)}"
        )
    return ""


def _roles(shapes: Shapes, integers: Sequence[str] = ()) -> Lists | None:
    alone = lists(shapes, axes=1, integers=integers) if len(shapes) == 3 else None
    return alone or lists(shapes, axes=2, integers=integers)


ADAPTER = Adapter(
    name="detections",
    kind="detect",
    decode=decode,
    misfit=misfit,
    summary="TensorFlow's, torchvision's and MLPerf's detectors that end with boxes, scores and classes",
)
