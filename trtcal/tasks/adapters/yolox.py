"""YOLOX's layout: one output (N, cells, 5 + classes), boxes not decoded, the grids of strides 8, 16 and 32 in turn.

Of each cell: x and y from its left top corner, in cells; the logarithms of width and height, in cells; an objectness
and a score a class, both after their sigmoid. So the centre is ``(cell + xy) * stride``, the size ``exp(wh) * stride``,
the score objectness times class score. Source: Megvii's YOLOX, `yolox/models/yolo_head.py`, `tools/export_onnx.py`
(which leaves boxes undecoded unless it is told `--decode_in_inference`), `yolox/utils/demo_utils.py`, and its
experiments (`nmsthre = 0.65`). A model with another number of cells has other strides, such as 8 to 64.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.layout import Layout, strides_of
from trtcal.tasks.decoding import corners_of_centres, grid, top
from trtcal.tasks.found import Floats, Found
from trtcal.tasks.nms import LEAST
from trtcal.tasks.placement import Size

_LAYOUT = Layout("5 + classes", axis=2, least=6)


def _decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    rows = _LAYOUT.rows(outputs, size)
    strides = strides_of(rows.shape[1], size)
    origins = [grid(*size, stride) for stride in strides]
    steps = np.repeat(np.array(strides, np.float64), [len(cells) for cells in origins])[:, None]
    return [_found(sample.astype(np.float64), np.concatenate(origins), steps) for sample in rows]


def _found(rows: Floats, origins: Floats, steps: Floats) -> Found:
    likely = rows[:, 4] > LEAST
    rows, origins, steps = rows[likely], origins[likely], steps[likely]
    with np.errstate(over="ignore"):  # what is not finite is not found
        boxes = np.hstack([origins + rows[:, :2] * steps, np.exp(rows[:, 2:4]) * steps])
    return top(corners_of_centres(boxes), rows[:, 4:5] * rows[:, 5:])


def _parts(shapes: Shapes) -> Sequence[Part]:
    return _LAYOUT.parts(shapes, ("places", 2), ("sizes", 4), ("objectness", 5), ("scores", 0))


def _classes(shapes: Shapes) -> int | None:
    count = _LAYOUT.count(shapes)
    return None if count is None else count - 5


ADAPTER = Adapter(
    name="yolox",
    kind="detect",
    decode=_decode,
    misfit=_LAYOUT.misfit,
    summary="YOLOX: one output (N, cells, 5 + classes), boxes not decoded",
    parts=_parts,
    classes=_classes,
    overlap=0.65,
)
