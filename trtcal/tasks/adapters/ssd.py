"""SSD: a class with background for each of many prior boxes.

``boxes`` (N, priors, 4) are left, top, right and bottom from 0 to 1 of the input, ``scores`` (N, priors, classes) have
the background first, which is no class. So qfgaohao/pytorch-ssd (`vision/ssd/ssd.py`, `is_test`) exports them, and
Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB, in either order; names tell nothing, shapes do.

With the priors as a third output, (priors, 4) or (1, priors, 4), centre x and y, width and height from 0 to 1, the
boxes are offsets ``o`` from them, as amdegroot/ssd.pytorch has it (`layers/box_utils.py`, `decode`)::

    centre = prior centre + 0.1 o[:2] prior size        size = prior size exp(0.2 o[2:])

Scores are probabilities, or logits, which have values below 0 and get a softmax.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Part, Shapes
from trtcal.tasks.decoding.boxes import corners_of_centres, softmax, top
from trtcal.tasks.decoding.outputs import PRIORS, alike, are_logits, boxes_and_scores, checked, corners, says, told
from trtcal.tasks.found import Floats, Found
from trtcal.tasks.placement import Size

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2

OVERLAP = 0.45
"""As in the paper (W. Liu et al., 2016) and in torchvision."""


class _Roles(NamedTuple):
    boxes: str
    scores: str
    priors: str | None


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample, the overlapping boxes with it."""
    boxes, scores, priors = _told_apart(checked(outputs, size, misfit))
    known = None if priors is None else np.asarray(outputs[priors], np.float64).reshape(-1, 4)
    return [
        top(_placed(sample, known) * corners(size), _chances(scored)[:, 1:])
        for sample, scored in zip(outputs[boxes], outputs[scores], strict=True)
    ]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no outputs of an SSD."""
    roles = _roles(shapes)
    classes = 2 if roles is None else shapes[roles.scores][2]
    if roles is None or (classes is not None and classes < 2):
        return (
            "outputs boxes (N, priors, 4) and scores (N, priors, background + classes), with or without priors "
            f"(priors, 4), not {told(shapes)}"
        )
    return ""


def classes(shapes: Shapes) -> int | None:
    """Without the background."""
    every = shapes[_told_apart(shapes).scores][2]
    return None if every is None else every - 1


def parts(shapes: Shapes) -> Sequence[Part]:
    """Nearly every prior is background: beside it, the few scores of classes would not be seen to be gone."""
    scores = _told_apart(shapes).scores
    every = shapes[scores][2]
    if every is None:
        return ()
    return Part("background", scores, 2, 0, 0), Part("classes", scores, 2, 1, every - 1)


def _placed(offsets: Array, priors: Floats | None) -> Floats:
    boxes: Floats = np.asarray(offsets, np.float64)
    if priors is None:
        return boxes
    with np.errstate(over="ignore"):  # what is not finite is not found
        sizes = priors[:, 2:] * np.exp(SIZE_VARIANCE * boxes[:, 2:])
    placed = corners_of_centres(np.hstack([priors[:, :2] + CENTRE_VARIANCE * boxes[:, :2] * priors[:, 2:], sizes]))
    return np.where(np.isfinite(boxes).all(axis=1, keepdims=True), placed, np.nan)


def _chances(scores: Array) -> Floats:
    return softmax(scores) if are_logits(scores) else np.asarray(scores, np.float64)


def _told_apart(shapes: Shapes) -> _Roles:
    roles = _roles(shapes)
    assert roles is not None  # where `misfit` is empty
    return roles


def _roles(shapes: Shapes) -> _Roles | None:
    priors = [
        name
        for name, shape in shapes.items()
        if shape[-1:] == (4,) and (len(shape) == 2 or (len(shape) == 3 and says(name, PRIORS)))
    ]
    pair = boxes_and_scores({name: shape for name, shape in shapes.items() if name not in priors})
    if pair is None or len(priors) > 1:
        return None
    count = shapes[pair[0]][1]
    if priors and not alike(count, shapes[priors[0]][-2]):
        return None
    return _Roles(*pair, priors[0] if priors else None)


ADAPTER = Adapter(
    name="ssd",
    kind="detect",
    decode=decode,
    misfit=misfit,
    parts=parts,
    classes=classes,
    overlap=OVERLAP,
    summary="SSD, UltraFace: a box and scores with background for each prior",
)
