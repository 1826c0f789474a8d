"""YOLOv8's layout, which YOLOv9, 11 and 12 have too: one output (N, 4 + classes, anchors).

Of each anchor: centre x, centre y, width and height in the input's pixels, decoded in the graph from distributions
(DFL), then a score a class, after its sigmoid. A box may be found as several classes. Source: Ultralytics,
`ultralytics/nn/modules/head.py` (`Detect`), and its validation (`conf=0.001`, `iou=0.7`, `multi_label=True`).

Exports whose boxes are from 0 to 1 have the same shape. They are read by an adapter of one's own
(`trtcal.tasks.own`): what a model means by its numbers is not guessed from them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from calibrators.batches import Array
from calibrators.errors import ModelError
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.yolo.layout import Layout
from trtcal.tasks.adapters.yolo.prototypes import prototypes_in
from trtcal.tasks.decoding.boxes import beyond_scores, corners_of_centres, top
from trtcal.tasks.decoding.outputs import told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

_LAYOUT = Layout("4 + classes", axis=1, least=5)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    return [_found(rows) for rows in _LAYOUT.rows(outputs, size)]


def _found(rows: npt.NDArray[Any]) -> Found:
    """A pose's points are refused as scores."""
    if strange := beyond_scores(rows[:, 4:]):
        raise ModelError(
            f"the model's outputs do not fit: scores from 0 to 1 behind the boxes, not up to {strange}; "
            "a model of keypoints needs keypoints:yolov8"
        )
    return top(corners_of_centres(rows[:, :4]), rows[:, 4:])


def _misfit(shapes: Shapes, size: Size) -> str:
    """Prototypes of masks mean that some channels are no classes but their coefficients."""
    why, name = _LAYOUT.misfit(shapes, size), prototypes_in(shapes, size)
    if why or not name:
        return why
    return f"one output of (N, 4 + classes, anchors) without prototypes of masks, not with {told({name: shapes[name]})}"


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("boxes", 4), ("scores", 0))


def _classes(shapes: Shapes) -> int | None:
    count = _LAYOUT.count(shapes)
    return None if count is None else count - 4


ADAPTER = Adapter(
    name="yolov8",
    kind="detect",
    decode=_decode,
    misfit=_misfit,
    summary="YOLOv8, v9, 11, 12: one output (N, 4 + classes, anchors)",
    parts=_parts,
    classes=_classes,
    overlap=0.7,
)
