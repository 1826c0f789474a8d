"""The layout of YOLOv8's pose models, also YOLO11's: one output (N, 5 + 3 k, anchors), of one class and k points.

Of each anchor: centre x, centre y, width and height in the input's pixels, a score after its sigmoid, and of each point
x and y in the input's pixels and a confidence after its sigmoid. Source: Ultralytics, `ultralytics/nn/modules/head.py`
(`Pose`), and its validation (`conf=0.001`, `iou=0.7`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.yolo.layout import Layout
from trtcal.tasks.decoding.boxes import candidates, corners_of_centres
from trtcal.tasks.decoding.outputs import checked
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

_LAYOUT = Layout("5 + 3 points", axis=1, least=8)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    checked(outputs, size, _misfit)
    return [_found(rows) for rows in _LAYOUT.rows(outputs, size)]


def _found(rows: npt.NDArray[Any]) -> Found:
    rows = rows[np.isfinite(rows[:, 5:]).all(axis=1)].astype(np.float64)
    boxes = corners_of_centres(rows[:, :4])
    numbers, classes = candidates(boxes, rows[:, 4:5])
    found = Found(boxes[numbers], rows[numbers, 4], classes)
    return replace(found, points=rows[numbers, 5:].reshape(len(numbers), rows.shape[1] // 3 - 1, 3))


def _misfit(shapes: Shapes, size: Size) -> str:
    why = _LAYOUT.misfit(shapes, size)
    if why:
        return why
    count = _LAYOUT.count(shapes)
    if count is not None and (count - 5) % 3:
        return f"one output of (N, 5 + 3 points, anchors), such as 56 channels for 17 points, not {count} channels"
    return ""


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("boxes", 4), ("scores", 5), ("points", 0))


ADAPTER = Adapter(
    name="yolov8",
    kind="keypoints",
    decode=_decode,
    misfit=_misfit,
    summary="YOLOv8, 11, of one class: one output (N, 5 + 3 points, anchors)",
    parts=_parts,
    classes=lambda shapes: 1,
    overlap=0.7,
)
