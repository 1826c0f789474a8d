"""The layout of YOLOv10, YOLO26 and other end-to-end detectors: one output (N, detections, 6), such as (N, 300, 6).

Of each detection: left, top, right and bottom in the input's pixels, its score, and its class as a number. Overlaps are
gone already. A row without a detection has the score 0 or a class below 0. Source: Ultralytics,
`ultralytics/nn/modules/head.py` (`Detect.postprocess`); its exports with `nms=True` have the same rows.

As many rows as a grid has cells are anchors of one class, of YOLOX or YOLOv5, not detections.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.layout import Layout
from trtcal.tasks.decoding import candidates
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

_LAYOUT = Layout("6", axis=2, least=6, most=6, each=0)


def found_of(rows: npt.NDArray[Any]) -> tuple[Found, npt.NDArray[np.int64]]:
    """What rows (n, 6 or more) hold, highest score first, and which rows those are."""
    classes = np.rint(rows[:, 5].astype(np.float64))
    scores = np.where((classes >= 0) & (classes < np.inf), rows[:, 4], np.nan)
    numbers, _ = candidates(rows[:, :4], scores[:, None])
    boxes = rows[numbers, :4].astype(np.float64)
    return Found(boxes, scores[numbers].astype(np.float64), classes[numbers].astype(np.int64)), numbers


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    return [found_of(rows)[0] for rows in _LAYOUT.rows(outputs, size)]


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("boxes", 4), ("scores", 5), ("classes", 6))


ADAPTER = Adapter(
    name="yolov10",
    kind="detect",
    decode=_decode,
    misfit=_LAYOUT.misfit,
    summary="YOLOv10, YOLO26, end to end: one output (N, detections, 6)",
    parts=_parts,
)
