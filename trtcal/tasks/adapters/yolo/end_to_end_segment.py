"""The layout of end-to-end segmentation models such as YOLO26's: detections, and coefficients of their masks.

One output (N, detections, 6 + m): as `trtcal.tasks.adapters.yolo.yolov10` has it, and m coefficients. The other one,
prototypes (N, m, height / 4, width / 4): see `trtcal.tasks.adapters.yolo.prototypes`. Source: Ultralytics,
`ultralytics/nn/modules/head.py` (`Segment.postprocess`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.yolo.layout import Layout
from trtcal.tasks.adapters.yolo.prototypes import masks_of, prototypes_in
from trtcal.tasks.adapters.yolo.yolov10 import found_of
from trtcal.tasks.decoding.outputs import checked, told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

_LAYOUT = Layout("6 + coefficients", axis=2, least=7, each=0)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    shapes = checked(outputs, size, _misfit)
    prototypes: npt.NDArray[Any] = outputs[prototypes_in(shapes, size)]
    return [_found(*sample, size) for sample in zip(_LAYOUT.rows(outputs, size), prototypes, strict=True)]


def _found(rows: npt.NDArray[Any], prototypes: npt.NDArray[Any], size: Size) -> Found:
    rows = rows[np.isfinite(rows[:, 6:]).all(axis=1)]
    found, numbers = found_of(rows)
    return replace(found, masks=masks_of(rows[numbers, 6:], prototypes, found.boxes, size))


def _misfit(shapes: Shapes, size: Size) -> str:
    why, name = _LAYOUT.misfit(shapes, size), prototypes_in(shapes, size)
    wanted = f"prototypes of (N, coefficients, {size[0] // 4}, {size[1] // 4})"
    if why:
        return why.replace(", not ", f" and {wanted}, not ", 1)
    if not name:
        return f"one output of {wanted} beside that of detections, not {told(shapes)}"
    count, coefficients = _LAYOUT.count(shapes), shapes[name][1]
    if None not in (count, coefficients) and count != 6 + (coefficients or 0):
        return f"one output of (N, detections, 6 + {coefficients} coefficients), not {told(shapes)}"
    return ""


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("boxes", 4), ("scores", 5), ("classes", 6), ("coefficients", 0))


ADAPTER = Adapter(
    name="yolov10",
    kind="segment",
    decode=_decode,
    misfit=_misfit,
    summary="YOLO26, end to end: (N, detections, 6 + coefficients), and prototypes of masks",
    parts=_parts,
)
