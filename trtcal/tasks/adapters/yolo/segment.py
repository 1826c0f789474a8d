"""The layout of YOLOv8's segmentation models, also YOLOv9's, 11's and 12's: boxes, and coefficients of their masks.

One output (N, 4 + classes + m, anchors): as `trtcal.tasks.adapters.yolo.yolov8` has it, and behind the scores m
coefficients, as a rule 32. The other one, prototypes (N, m, height / 4, width / 4): see
`trtcal.tasks.adapters.yolo.prototypes`. Source: Ultralytics, `ultralytics/nn/modules/head.py` (`Segment`).

Masks are made of the boxes that stay where others overlap them (at 0.7, as in Ultralytics' validation): of 30,000
candidates that would be a long work.
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
from trtcal.tasks.decoding.boxes import candidates, corners_of_centres
from trtcal.tasks.decoding.nms import suppressed
from trtcal.tasks.decoding.outputs import checked, told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

OVERLAP = 0.7

_LAYOUT = Layout("4 + classes + coefficients", axis=1, least=6)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    shapes = checked(outputs, size, _misfit)
    prototypes: npt.NDArray[Any] = outputs[prototypes_in(shapes, size)]
    return [_found(*sample, size) for sample in zip(_LAYOUT.rows(outputs, size), prototypes, strict=True)]


def _found(rows: npt.NDArray[Any], prototypes: npt.NDArray[Any], size: Size) -> Found:
    rows = rows[np.isfinite(rows[:, -len(prototypes) :]).all(axis=1)]
    boxes, scores = corners_of_centres(rows[:, :4]), rows[:, 4 : -len(prototypes)].astype(np.float64)
    numbers, classes = candidates(boxes, scores)
    found = Found(boxes[numbers], scores[numbers, classes], classes)
    kept = suppressed(found.boxes, found.scores, found.classes, OVERLAP)
    numbers, classes = numbers[kept], classes[kept]
    found = Found(boxes[numbers], scores[numbers, classes], classes)
    return replace(found, masks=masks_of(rows[numbers, -len(prototypes) :], prototypes, found.boxes, size))


def _misfit(shapes: Shapes, size: Size) -> str:
    why, name = _LAYOUT.misfit(shapes, size), prototypes_in(shapes, size)
    wanted = f"prototypes of (N, coefficients, {size[0] // 4}, {size[1] // 4})"
    if why:
        return why.replace(", not ", f" and {wanted}, not ", 1)
    if not name:
        return f"one output of {wanted} beside that of boxes, not {told(shapes)}"
    count, coefficients = _LAYOUT.count(shapes), shapes[name][1]
    if count is not None and coefficients is not None and count < 5 + coefficients:
        return f"more channels than 4 + {coefficients} coefficients, not {told(shapes)}"
    return ""


def _coefficients(shapes: Shapes) -> int | None:
    """As many as there are prototypes: of the one output of four axes."""
    return next((shape[1] for shape in shapes.values() if len(shape) == 4), None)


def _parts(shapes: Shapes) -> Sequence[Part]:
    coefficients = _coefficients(shapes)
    if coefficients is None:
        return ()
    return _LAYOUT.parts(shapes, ("boxes", 4), ("scores", -coefficients), ("coefficients", 0))


def _classes(shapes: Shapes) -> int | None:
    count, coefficients = _LAYOUT.count(shapes), _coefficients(shapes)
    return None if count is None or coefficients is None else count - 4 - coefficients


ADAPTER = Adapter(
    name="yolov8",
    kind="segment",
    decode=_decode,
    misfit=_misfit,
    summary="YOLOv8, v9, 11, 12: (N, 4 + classes + coefficients, anchors), and prototypes of masks",
    parts=_parts,
    classes=_classes,
)
