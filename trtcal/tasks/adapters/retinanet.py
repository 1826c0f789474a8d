"""RetinaNet: nine anchors, of three sizes and three ratios, at each place of some levels, each with class scores.

Two definitions of the anchors are in use, and the outputs tell which:

- torchvision (`models/detection/retinanet.py`, `anchor_utils.py`, `_utils.py`, `BoxCoder`): sides of 32, 64, ... times
  1, 2^1/3 and 2^2/3, whole pixels, ratios (height to width) 1/2, 1, 2, the ratios outside and the sizes inside, about
  the left top corner of a cell. Outputs are boxes (N, anchors, 4) and scores (N, anchors, classes) of the levels of
  strides 8 to 128, one after the other, or maps (N, 36, rows, columns) and (N, 9 classes, rows, columns) of each level.
- NVIDIA/retinanet-examples (`odtk/model.py`, `odtk/box.py`): sides of 4 strides times 1, 2^1/3 and 2^2/3, ratios 1, 2,
  1/2, the sizes outside and the ratios inside, about the middle of a cell. Outputs are maps ``score_1`` ... and
  ``box_1`` ... of each level. A box ends there with its last pixel, 1 before the edge that is told here.

With an anchor's centre ``p`` and size ``a`` and the four numbers ``o``::

    centre = p + o[:2] a        size = a exp(o[2:])

Boxes are cut at the input's edges. Scores are probabilities, or logits, which have values below 0 and get a sigmoid.
Class 0 is the first of the scores.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Shapes
from trtcal.tasks.decoding.boxes import corners_of_centres, grid, sigmoid, top
from trtcal.tasks.decoding.outputs import (
    BOXES,
    alike,
    are_logits,
    boxes_and_scores,
    checked,
    corners,
    of_rank,
    says,
    told,
)
from trtcal.tasks.found import Floats, Found
from trtcal.tasks.placement import Size

STRIDES = (8, 16, 32, 64, 128)
"""Of the levels P3 to P7."""

ANCHORS = 9
"""At each place."""

NAMES = (*BOXES, "reg")
"""What the names of maps of boxes hold."""

OVERLAP = 0.5

MOST_GROWTH = math.log(1000 / 16)
"""Of the logarithm of a side, in torchvision: what is larger is taken for it."""

Level = tuple[str, str]
"""Names of maps of boxes and of scores."""


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample, the overlapping boxes with it."""
    shapes = checked(outputs, size, misfit)
    levels = _levels(shapes)
    if levels:
        offsets = np.concatenate([_rows(outputs[boxes], 4) for boxes, _ in levels], axis=1)
        scores = np.concatenate([_rows(outputs[name], outputs[name].shape[1] // ANCHORS) for _, name in levels], axis=1)
        planes = [outputs[boxes].shape[2:] for boxes, _ in levels]
    else:
        boxes, name = boxes_and_scores(shapes) or ("", "")
        offsets, scores = outputs[boxes], outputs[name]
        planes = [_plane(size, stride) for stride in STRIDES]
    nvidias = all(_is_nvidias(level) for level in levels) and bool(levels)
    anchors = _nvidias(planes, size) if nvidias else _torchvisions(planes, size)
    most = math.inf if nvidias else MOST_GROWTH
    return [
        top(_placed(moved, anchors, most, size), sigmoid(scored) if are_logits(scored) else scored)
        for moved, scored in zip(offsets, scores, strict=True)
    ]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no outputs of a RetinaNet."""
    rows = ANCHORS * sum(math.prod(_plane(size, stride)) for stride in STRIDES)
    pair = boxes_and_scores(shapes)
    if _levels(shapes) or (pair is not None and alike(shapes[pair[0]][1], rows)):
        return ""
    return (
        f"for an input of {size[0]}x{size[1]} outputs boxes (N, {rows}, 4) and scores (N, {rows}, classes), or for "
        f"each level maps (N, {4 * ANCHORS}, rows, columns) and (N, {ANCHORS} classes, rows, columns), "
        f"not {told(shapes)}"
    )


def classes(shapes: Shapes) -> int | None:
    """How many scores an anchor has."""
    levels = _levels(shapes)
    if levels:
        channels = shapes[levels[0][1]][1]
        return None if channels is None else channels // ANCHORS
    pair = boxes_and_scores(shapes)
    return None if pair is None else shapes[pair[1]][2]


def _placed(offsets: Array, anchors: Floats, most: float, size: Size) -> Floats:
    """Boxes as left, top, right and bottom, of offsets and anchors (n, 4)."""
    moved = np.asarray(offsets, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is not found
        sides = anchors[:, 2:] * np.exp(np.minimum(moved[:, 2:], most))
        boxes = corners_of_centres(np.hstack([anchors[:, :2] + moved[:, :2] * anchors[:, 2:], sides]))
    known = np.isfinite(moved).all(axis=1, keepdims=True) & np.isfinite(boxes)
    return np.where(known, np.clip(boxes, 0, corners(size)), np.nan)


def _torchvisions(planes: Sequence[Sequence[int]], size: Size) -> Floats:
    """Centres and sizes, place by place of each level: float64 of shape (anchors, 4)."""
    levels = []
    for level, (height, width) in enumerate(planes):
        sides = [int(32 * 2**level * 2 ** (third / 3)) for third in range(3)]
        halves = [
            (np.round(side / math.sqrt(ratio) / 2), np.round(side * math.sqrt(ratio) / 2))
            for ratio, side in product((0.5, 1.0, 2.0), sides)
        ]
        step = np.array([size[1] // width, size[0] // height])
        levels.append(_everywhere(height, width, step, np.zeros(2), 2 * np.array(halves)))
    return np.concatenate(levels)


def _nvidias(planes: Sequence[Sequence[int]], size: Size) -> Floats:
    """The same; a pixel more on each side and half a pixel further, as its boxes count both ends."""
    levels = []
    for height, width in planes:
        stride = size[1] // width
        sizes = [
            (4 * stride * 2 ** (third / 3) / math.sqrt(ratio) + 1, 4 * stride * 2 ** (third / 3) * math.sqrt(ratio) + 1)
            for third, ratio in product(range(3), (1.0, 2.0, 0.5))
        ]
        middle = np.full(2, stride / 2 + 0.5)
        levels.append(_everywhere(height, width, np.full(2, stride), middle, np.array(sizes)))
    return np.concatenate(levels)


def _everywhere(height: int, width: int, step: Floats, first: Floats, sizes: Floats) -> Floats:
    """Anchors of these sizes (n, 2) at each place of a level, row by row."""
    places = np.repeat(grid(height, width, 1) * step + first, len(sizes), axis=0)
    return np.hstack([places, np.tile(sizes, (height * width, 1))])


def _rows(maps: Array, width: int) -> Array:
    """Maps (N, 9 width, rows, columns) as (N, rows columns 9, width)."""
    count, _, height, columns = maps.shape
    return maps.reshape(count, ANCHORS, width, height, columns).transpose(0, 3, 4, 1, 2).reshape(count, -1, width)


def _plane(size: Size, stride: int) -> Size:
    return -(-size[0] // stride), -(-size[1] // stride)


def _is_nvidias(level: Level) -> bool:
    boxes, scores = level
    return re.fullmatch(r"box_\d+", boxes) is not None and re.fullmatch(r"score_\d+", scores) is not None


def _levels(shapes: Shapes) -> Sequence[Level]:
    """The levels, the largest maps first; none where the outputs are others.

    With four classes maps of scores have as many channels as those of boxes; then names tell.
    """
    maps = of_rank(shapes, 4)
    if any(count is None or count % ANCHORS for _, count, *_ in maps.values()):
        return ()
    likely = [name for name, shape in maps.items() if shape[1] == 4 * ANCHORS]
    boxes = likely if 2 * len(likely) == len(maps) else [name for name in likely if says(name, NAMES)]
    scores = [name for name in maps if name not in boxes]
    if len(boxes) != len(scores) or len({maps[name][1] for name in scores}) != 1:
        return ()
    levels = sorted(
        zip(boxes, scores, strict=True), key=lambda level: -math.prod(size or 1 for size in maps[level[0]][2:])
    )
    fit = all(alike(*sizes) for level in levels for sizes in zip(*(maps[name][2:] for name in level), strict=True))
    return levels if fit else ()


ADAPTER = Adapter(
    name="retinanet",
    kind="detect",
    decode=decode,
    misfit=misfit,
    classes=classes,
    overlap=OVERLAP,
    summary="RetinaNet of torchvision or NVIDIA: nine anchors at each place of five levels",
)
