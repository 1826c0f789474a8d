"""DBNet: lines of text, from a map that says of each pixel how likely it is in the middle of one.

The map (N, 1, rows, columns) holds probabilities, as PaddleOCR's detectors give it, or logits, which have values below
0. PaddlePaddle/PaddleOCR, `ppocr/postprocess/db_postprocess.py`, `boxes_from_bitmap`, with the thresholds of its
`tools/infer/utility.py`:

1. Pixels above 0.3 that touch, at corners too, are a region, and its smallest rectangle in any direction counts. One
   with a side under 3 pixels is dropped.
2. Its score is the mean of the map in it, its corners cut down to whole pixels. One under 0.6 is dropped.
3. Text was made smaller for training (M. Liao et al., 2020), so the rectangle grows on all sides by
   ``1.5 area / perimeter``. One with a side under 5 pixels is dropped.

Places are those of pixels, as there: a pixel's number stands for its centre. Other than there, no corner is rounded for
the result, and a hole in a region is no region. A detection is a box; its rectangle is the mask, a polygon.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Shapes
from trtcal.tasks.decoding.boxes import sigmoid
from trtcal.tasks.decoding.outputs import are_logits, checked, of_rank, told
from trtcal.tasks.decoding.regions import Rectangle, mean_within, outlines, smallest_rectangle
from trtcal.tasks.found import Floats, Found
from trtcal.tasks.placement import Size

TEXT, SURE = 0.3, 0.6
"""Of a pixel, and of a rectangle: PaddleOCR's `det_db_thresh` and `det_db_box_thresh`."""

GROWTH = 1.5
"""PaddleOCR's `det_db_unclip_ratio`."""

LEAST_SIDE = 3
"""Pixels of the map; two more once a rectangle has grown."""

MOST = 1000
"""Regions in an image, the largest: PaddleOCR's `max_candidates`, which takes the lowest."""


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample: boxes and polygons of class 0."""
    name = _map(checked(outputs, size, misfit))
    assert name is not None  # where `misfit` is empty
    return [_found(plane, size) for plane in outputs[name][:, 0]]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no outputs of a DBNet."""
    return "" if _map(shapes) else f"one map, an output of (N, 1, rows, columns), not {told(shapes)}"


def _found(plane: Array, size: Size) -> Found:
    chances = np.nan_to_num(sigmoid(plane) if are_logits(plane) else plane.astype(np.float64), posinf=0.0)
    likely = sorted(_candidates(chances), key=lambda each: -each[0])
    scale = np.array([size[1] / plane.shape[1], size[0] / plane.shape[0]])
    polygons = np.array([_cut(grown.corners, plane.shape) for _, grown in likely]).reshape(-1, 4, 2) * scale
    return Found(
        boxes=np.concatenate([polygons.min(axis=1), polygons.max(axis=1)], axis=1),
        scores=np.array([score for score, _ in likely], np.float64),
        classes=np.zeros(len(likely), np.int64),
        masks=tuple([polygon.ravel().tolist()] for polygon in polygons),
    )


def _candidates(chances: Floats) -> Sequence[tuple[float, Rectangle]]:
    """Scores and rectangles, in the map's pixels, as they have grown."""
    found = []
    for points in outlines(chances > TEXT, MOST):
        rectangle = smallest_rectangle(points)
        if min(rectangle.sides) < LEAST_SIDE:
            continue
        score = mean_within(chances, rectangle.corners)
        long, short = rectangle.sides
        grown = rectangle.grown(GROWTH * long * short / (2 * (long + short)))
        if score >= SURE and min(grown.sides) >= LEAST_SIDE + 2:
            found.append((score, grown))
    return found


def _cut(corners: Floats, plane: tuple[int, ...]) -> Floats:
    return np.clip(corners, 0, [plane[1], plane[0]])


def _map(shapes: Shapes) -> str | None:
    """The only map among the outputs, of one channel."""
    maps = of_rank(shapes, 4)
    name = next(iter(maps), None)
    return name if name is not None and len(maps) == 1 and maps[name][1] == 1 else None


ADAPTER = Adapter(
    name="dbnet",
    kind="detect",
    decode=decode,
    misfit=misfit,
    classes=lambda shapes: 1,
    summary="PaddleOCR's and other text detectors: a map of probabilities",
)
