"""What TensorRT's plugin EfficientNMS_TRT leaves: a count, boxes, scores and classes, of a fixed number of rows.

``num_dets`` (N, 1) says how many rows hold a detection, ``det_boxes`` (N, rows, 4) are left, top, right and bottom in
the input's pixels, ``det_scores`` and ``det_classes`` are (N, rows): NVIDIA/TensorRT, `plugin/efficientNMSPlugin`,
whose outputs are these in this order. YOLOv6, YOLOv7, YOLO-NAS and YOLOX export it so. BatchedNMS_TRT
(`plugin/batchedNMSPlugin`: ``num_detections``, ``nmsed_boxes``, ``nmsed_scores``, ``nmsed_classes``) has the same, its
classes in floats, -1 where there is none.

Scores and classes have one shape: their names tell which is which, else their order does.
"""

from collections.abc import Mapping, Sequence

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Shapes
from trtcal.tasks.decoding.lists import Lists, counts, integers, lists
from trtcal.tasks.decoding.outputs import checked, survivors, told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample, in as many of its rows as it says."""
    roles = _roles(checked(outputs, size, misfit), integers(outputs))
    assert roles is not None and roles.count is not None  # where `misfit` is empty
    return [
        survivors(boxes[:count], scores[:count], classes[:count])
        for count, boxes, scores, classes in zip(
            counts(outputs[roles.count]),
            outputs[roles.boxes],
            outputs[roles.scores],
            outputs[roles.classes],
            strict=True,
        )
    ]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are not the four outputs."""
    if _roles(shapes) is None:
        return (
            "four outputs, of (N, 1) a count, (N, rows, 4) boxes, (N, rows) scores and (N, rows) classes, "
            f"not {told(shapes)}"
        )
    return ""


def _roles(shapes: Shapes, integers: Sequence[str] = ()) -> Lists | None:
    roles = lists(shapes, axes=2, integers=integers)
    if roles is None or roles.count is None or len(shapes[roles.count]) != 2:
        return None
    return roles


ADAPTER = Adapter(
    name="efficient-nms",
    kind="detect",
    decode=decode,
    misfit=misfit,
    summary="TensorRT's EfficientNMS and BatchedNMS in the graph: count, boxes, scores, classes",
)
