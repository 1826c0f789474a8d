"""DETR and what came of it: a box and class scores for each of some hundred queries, no overlaps to remove.

Boxes (N, queries, 4) are centre x and y, width and height from 0 to 1 of the input. Scores (N, queries, classes) are of
two kinds, which shapes do not tell apart:

- softmax, the last class being "no object", and each query is of its best class: facebookresearch/detr
  (`models/detr.py`, `PostProcess`; ``pred_logits``, ``pred_boxes``), YOLOS, Table Transformer. 100 queries, or 125, 15.
- sigmoid, and a query may be of several classes: RT-DETR (lyuwenyu/RT-DETR, `rtdetr_postprocessor.py`), Deformable and
  Conditional DETR, DINO, D-FINE, RF-DETR (roboflow/rf-detr: ``dets``, ``labels``). 300 queries or 900.

`detr` takes the first kind where there are fewer than 200 queries, unless the names are RF-DETR's, and else the second;
`rtdetr` is always the second. Scores of which none is below 0 are probabilities already.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.decoding.boxes import corners_of_centres, sigmoid, softmax, top
from trtcal.tasks.decoding.nms import MOST
from trtcal.tasks.decoding.outputs import are_logits, boxes_and_scores, checked, corners, told
from trtcal.tasks.found import Found
from trtcal.tasks.placement import Size

FEW_QUERIES = 200
"""Below it a model with a softmax is likely: DETR has 100 queries, those with a sigmoid 300 or more."""

RF_DETR = ("dets", "labels")
"""RF-DETR's boxes and scores, which have a sigmoid whatever their number."""


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample."""
    shapes = checked(outputs, size, misfit)
    boxes, scores = _pair(shapes)
    found = of_best_class if has_no_object(shapes) else of_every_class
    return [found(*sample, size) for sample in zip(outputs[boxes], outputs[scores], strict=True)]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no outputs of a DETR."""
    if boxes_and_scores(shapes) is None:
        return f"outputs boxes (N, queries, 4) and scores (N, queries, classes), not {told(shapes)}"
    return ""


def classes(shapes: Shapes) -> int | None:
    """Without "no object"."""
    every = shapes[_pair(shapes)[1]][2]
    return None if every is None else every - has_no_object(shapes)


def parts(shapes: Shapes) -> Sequence[Part]:
    """Nearly every query is "no object": beside it, the few scores of classes would not be seen to be gone."""
    scores = _pair(shapes)[1]
    every = shapes[scores][2]
    if every is None or every < 2 or not has_no_object(shapes):
        return ()
    return Part("classes", scores, 2, 0, every - 2), Part("no object", scores, 2, every - 1, every - 1)


def has_no_object(shapes: Shapes) -> bool:
    """Whether the last class of such outputs of a `detr` is "no object", and a softmax is over all of them."""
    boxes, scores = _pair(shapes)
    queries = shapes[boxes][1]
    return (boxes, scores) != RF_DETR and queries is not None and queries < FEW_QUERIES


def of_best_class(boxes: Array, scores: Array, size: Size) -> Found:
    """Detections of one sample's queries, each of the class that a softmax makes likeliest, "no object" apart.

    Args:
        boxes: Of shape (queries, 4), centre and size from 0 to 1.
        scores: Of shape (queries, classes + 1): logits or probabilities.
        size: Of the input.
    """
    chances = (softmax(scores) if are_logits(scores) else np.asarray(scores, np.float64))[:, :-1]
    best = np.argmax(np.nan_to_num(chances, nan=-1.0), axis=1)[:, None]
    alone = np.where(np.arange(chances.shape[1]) == best, chances, 0.0)
    return top(corners_of_centres(boxes) * corners(size), alone, most=MOST)


def of_every_class(boxes: Array, scores: Array, size: Size) -> Found:
    """Detections of one sample's queries, of every class by itself.

    Args:
        boxes: Of shape (queries, 4), centre and size from 0 to 1.
        scores: Of shape (queries, classes): logits or probabilities.
        size: Of the input.
    """
    chances = sigmoid(scores) if are_logits(scores) else scores
    return top(corners_of_centres(boxes) * corners(size), chances, most=MOST)


def _pair(shapes: Shapes) -> tuple[str, str]:
    pair = boxes_and_scores(shapes)
    assert pair is not None  # where `misfit` is empty
    return pair


ADAPTER = Adapter(
    name="detr",
    kind="detect",
    decode=decode,
    misfit=misfit,
    parts=parts,
    classes=classes,
    summary="DETR, YOLOS, RT-DETR, RF-DETR and others: a box and class scores for each query",
)
