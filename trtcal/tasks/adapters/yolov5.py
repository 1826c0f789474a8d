"""YOLOv5's layout, which YOLOv7 has too: one output (N, anchors, 5 + classes), three anchors a cell.

Of each anchor: centre x, centre y, width and height in the input's pixels, an objectness, and a score a class, both
after their sigmoid; a detection's score is their product. Boxes are decoded in the graph. Older exports add the raw
grids, of five axes, which are passed over. Source: Ultralytics' yolov5, `models/yolo.py` (`Detect`), `utils/general.py`
(`non_max_suppression`) and `val.py` (`conf_thres=0.001`, `iou_thres=0.6`).

Models with one anchor a cell and decoded boxes, such as YOLOv6, and YOLOX exported with `--decode_in_inference`, are
read by an adapter of one's own (`trtcal.tasks.own`): their shape is that of YOLOX's raw grids.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.layout import Layout
from trtcal.tasks.decoding import corners_of_centres, top
from trtcal.tasks.found import Found
from trtcal.tasks.nms import LEAST
from trtcal.tasks.placement import Size

_LAYOUT = Layout("5 + classes", axis=2, least=6, each=3)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    return [_found(rows[rows[:, 4] > LEAST]) for rows in _LAYOUT.rows(outputs, size)]


def _found(rows: npt.NDArray[Any]) -> Found:
    return top(corners_of_centres(rows[:, :4]), rows[:, 4:5] * rows[:, 5:])


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("boxes", 4), ("objectness", 5), ("scores", 0))


def _classes(shapes: Shapes) -> int | None:
    count = _LAYOUT.count(shapes)
    return None if count is None else count - 5


ADAPTER = Adapter(
    name="yolov5",
    kind="detect",
    decode=_decode,
    misfit=_LAYOUT.misfit,
    summary="YOLOv5, v7: one output (N, anchors, 5 + classes), three anchors a cell",
    parts=_parts,
    classes=_classes,
    overlap=0.6,
)
