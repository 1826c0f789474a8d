"""RT-DETR and others whose queries have a sigmoid for each class, whatever their number.

Boxes (N, queries, 4), centre x and y, width and height from 0 to 1 of the input, beside scores (N, queries, classes):
lyuwenyu/RT-DETR (`rtdetr_postprocessor.py`), and those that `trtcal.tasks.adapters.detr` lists. Ultralytics' RT-DETR
(`nn/modules/head.py`, `RTDETRDecoder`) has both in one output (N, queries, 4 + classes), the sigmoid in the graph.
"""

from collections.abc import Mapping, Sequence

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.adapters.detr import of_every_class
from trtcal.tasks.decoding.outputs import boxes_and_scores, checked, told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

MOST_QUERIES, MOST_NUMBERS = 1000, 2000
"""Of one output that holds both: DINO has 900 queries, LVIS 1,203 classes; YOLO has anchors by the thousand."""


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample."""
    pair = boxes_and_scores(checked(outputs, size, misfit))
    if pair is None:
        (output,) = outputs.values()
        return [of_every_class(sample[:, :4], sample[:, 4:], size) for sample in output]
    return [of_every_class(*sample, size) for sample in zip(outputs[pair[0]], outputs[pair[1]], strict=True)]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no outputs of an RT-DETR."""
    if boxes_and_scores(shapes) is None and _alone(shapes) is None:
        return (
            "outputs boxes (N, queries, 4) and scores (N, queries, classes), or one of (N, queries, 4 + classes), "
            f"not {told(shapes)}"
        )
    return ""


def parts(shapes: Shapes) -> Sequence[Part]:
    """Boxes and scores, where one output holds both."""
    name = None if boxes_and_scores(shapes) else _alone(shapes)
    width = None if name is None else shapes[name][2]
    if name is None or width is None:
        return ()
    return Part("boxes", name, 2, 0, 3), Part("scores", name, 2, 4, width - 1)


def classes(shapes: Shapes) -> int | None:
    """How many scores a query has."""
    pair = boxes_and_scores(shapes)
    if pair is not None:
        return shapes[pair[1]][2]
    name = _alone(shapes)
    width = None if name is None else shapes[name][2]
    return None if width is None else width - 4


def _alone(shapes: Shapes) -> str | None:
    """The only output, where it is of (N, queries, 4 + classes), neither of them very many."""
    if len(shapes) != 1:
        return None
    ((name, shape),) = shapes.items()
    if len(shape) != 3 or (shape[1] or 0) > MOST_QUERIES:
        return None
    return name if shape[2] is None or 4 < shape[2] <= MOST_NUMBERS else None


ADAPTER = Adapter(
    name="rtdetr",
    kind="detect",
    decode=decode,
    misfit=misfit,
    parts=parts,
    classes=classes,
    summary="RT-DETR, RF-DETR, D-FINE, Deformable DETR: queries with a sigmoid for each class",
)
