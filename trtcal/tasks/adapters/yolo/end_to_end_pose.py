"""The layout of end-to-end pose models such as YOLO26's: one output (N, detections, 6 + 3 k) of k points.

Of each detection: as `trtcal.tasks.adapters.yolo.yolov10` has it, and of each point x and y in the input's pixels and a
confidence after its sigmoid. Source: Ultralytics, `ultralytics/nn/modules/head.py` (`Pose.postprocess`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.yolo.layout import Layout
from trtcal.tasks.adapters.yolo.yolov10 import found_of
from trtcal.tasks.decoding.outputs import checked
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

_LAYOUT = Layout("6 + 3 points", axis=2, least=9, each=0)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    checked(outputs, size, _misfit)
    return [_found(rows) for rows in _LAYOUT.rows(outputs, size)]


def _found(rows: npt.NDArray[Any]) -> Found:
    rows = rows[np.isfinite(rows[:, 6:]).all(axis=1)]
    found, numbers = found_of(rows)
    points = rows[numbers, 6:].astype(np.float64)
    return replace(found, points=points.reshape(len(numbers), rows.shape[1] // 3 - 2, 3))


def _misfit(shapes: Shapes, size: Size) -> str:
    why = _LAYOUT.misfit(shapes, size)
    if why:
        return why
    count = _LAYOUT.count(shapes)
    if count is not None and count % 3:
        return f"one output of (N, detections, 6 + 3 points), such as 57 channels for 17 points, not {count} channels"
    return ""


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("boxes", 4), ("scores", 5), ("classes", 6), ("points", 0))


ADAPTER = Adapter(
    name="yolov10",
    kind="keypoints",
    decode=_decode,
    misfit=_misfit,
    summary="YOLO26, end to end: one output (N, detections, 6 + 3 points)",
    parts=_parts,
)
