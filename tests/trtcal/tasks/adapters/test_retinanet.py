"""RetinaNet's anchors and offsets after torchvision and NVIDIA, beside plain loops over levels, places, anchors."""

import math

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.exact import ran, same
from trtcal.tasks.adapters.retinanet import ADAPTER
from trtcal.tasks.decoding.nms import LEAST

SIZE, CLASSES = (100, 128), 2
PLANES = [(13, 16), (7, 8), (4, 4), (2, 2), (1, 1)]


def torchvisions():
    """(left, top, right, bottom) of every anchor, and the size of an anchor is the difference of its corners."""
    for level, (height, width) in enumerate(PLANES):
        sides = [2 ** (5 + level), int(2 ** (5 + level) * 2 ** (1.0 / 3)), int(2 ** (5 + level) * 2 ** (2.0 / 3))]
        for row in range(height):
            for column in range(width):
                x, y = column * (SIZE[1] // width), row * (SIZE[0] // height)
                for ratio in (0.5, 1.0, 2.0):
                    for side in sides:
                        h = math.sqrt(ratio) * side
                        w = 1 / math.sqrt(ratio) * side
                        yield x + round(-w / 2), y + round(-h / 2), x + round(w / 2), y + round(h / 2)


def nvidias(planes, size):
    """As in its `generate_anchors`: corners of which both ends count."""
    for height, width in planes:
        stride = size[1] // width
        for row in range(height):
            for column in range(width):
                for scale in (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)):
                    for ratio in (1.0, 2.0, 0.5):
                        w = math.sqrt(stride * stride / ratio)
                        h = w * ratio
                        yield (
                            column * stride + 0.5 * (stride - w * scale),
                            row * stride + 0.5 * (stride - h * scale),
                            column * stride + 0.5 * (stride + w * scale),
                            row * stride + 0.5 * (stride + h * scale),
                        )


def by_hand(anchors, offsets, scores, size, *, ends=0, most=math.inf):
    """Ends: 1 where both ends of a side count, as in NVIDIA's `delta2box`; the edge is one behind the last pixel."""
    found = []
    for (left, top, right, bottom), (dx, dy, dw, dh), row in zip(anchors, offsets.tolist(), scores, strict=True):
        w, h = right - left + ends, bottom - top + ends
        x, y = dx * w + left + 0.5 * w, dy * h + top + 0.5 * h
        w, h = math.exp(min(dw, most)) * w, math.exp(min(dh, most)) * h
        last = x + 0.5 * w - ends, y + 0.5 * h - ends
        box = [x - 0.5 * w, y - 0.5 * h, last[0] + ends, last[1] + ends]
        box = [min(max(side, 0), limit) for side, limit in zip(box, (size[1], size[0]) * 2, strict=True)]
        found += [(chance, number, *box) for number, chance in enumerate(row) if chance > LEAST]
    return found


def sigmoid(logits):
    return [[1 / (1 + math.exp(-float(value))) for value in row] for row in logits]


def heads(count, samples=2, seed=15):
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 0.6, (samples, count, 4)).astype(np.float32)
    offsets[:, 7, 2:] = 5  # more than a side may grow
    return offsets, rng.normal(-6, 3, (samples, count, CLASSES)).astype(np.float32)


def as_maps(rows, planes):
    """Rows of places and anchors (N, anchors, width) as one map a level: (N, 9 width, rows, columns)."""
    start = 0
    for height, width in planes:
        part = rows[:, start : start + height * width * 9].reshape(len(rows), height, width, 9, -1)
        start += height * width * 9
        yield np.ascontiguousarray(part.transpose(0, 3, 4, 1, 2)).reshape(len(rows), -1, height, width)


@pytest.mark.parametrize("form", ["rows", "maps"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_torchvisions_anchors(form, kind):
    anchors = list(torchvisions())
    offsets, logits = heads(len(anchors))
    scores = logits if kind == "logits" else (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    if form == "rows":
        made = {"cls_logits": scores, "bbox_regression": offsets}
    else:
        made = {f"cls.{level}": plane for level, plane in enumerate(as_maps(scores, PLANES))}
        made |= {f"bbox.{level}": plane for level, plane in enumerate(as_maps(offsets, PLANES))}
    outputs = ran(made, [1, 0], SIZE)
    assert ADAPTER.classes({name: array.shape for name, array in outputs.items()}) == CLASSES
    for found, row in zip(ADAPTER.decode(outputs, SIZE), [1, 0], strict=True):
        chances = sigmoid(logits[row]) if kind == "logits" else scores[row].tolist()
        same(found, by_hand(anchors, offsets[row], chances, SIZE, most=math.log(1000.0 / 16)))


def test_nvidias_anchors_count_both_ends():
    size, planes = (128, 256), [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    anchors = list(nvidias(planes, size))
    offsets, logits = heads(len(anchors))
    chances = 1 / (1 + np.exp(-logits.astype(np.float64)))
    made = {f"score_{level + 1}": plane.astype(np.float32) for level, plane in enumerate(as_maps(chances, planes))}
    made |= {f"box_{level + 1}": plane for level, plane in enumerate(as_maps(offsets, planes))}
    for row, found in enumerate(ADAPTER.decode(ran(made, [0, 1], size), size)):
        same(found, by_hand(anchors, offsets[row], chances[row].tolist(), size, ends=1))


def test_four_classes_are_told_from_boxes_by_names():
    rng = np.random.default_rng(16)
    maps = {}
    for level, plane in enumerate(PLANES):
        maps[f"scores{level}"] = rng.normal(-6, 2, (1, 36, *plane))
        maps[f"bbox{level}"] = rng.normal(0, 0.5, (1, 36, *plane))
    (found,) = ADAPTER.decode(maps, SIZE)
    assert set(found.classes) == {0, 1, 2, 3}
    assert not ADAPTER.misfit({name: array.shape for name, array in maps.items()}, SIZE)
    assert ADAPTER.misfit({f"output{at}": array.shape for at, array in enumerate(maps.values())}, SIZE)


def test_half_precision_and_what_is_not_a_number():
    anchors = list(torchvisions())
    offsets, logits = (each.astype(np.float16) for each in heads(len(anchors), samples=3))
    logits[0, :50], offsets[0, 50:60, 1] = np.nan, np.inf
    offsets[0, 60, 2] = -np.inf
    logits[1] = np.nan
    logits[2] = -30
    some, nothing, quiet = ADAPTER.decode(ran({"boxes": offsets, "scores": logits}, [0, 1, 2], SIZE), SIZE)
    kept = slice(61, None)
    same(some, by_hand(anchors[kept], offsets[0, kept], sigmoid(logits[0, kept]), SIZE, most=math.log(1000.0 / 16)))
    assert len(nothing) == len(quiet) == 0


def test_overlaps_are_left_for_later():
    assert ADAPTER.overlap == 0.5


@pytest.mark.parametrize(
    "shapes",
    [
        {"probs": (1, 1000)},
        {"boxes": (1, 9, 4), "scores": (1, 9, 3)},
        {"score_1": (1, 18, 13, 16), "box_1": (1, 36, 13, 15)},
        {"score_1": (1, 18, 13, 16), "box_1": (1, 32, 13, 16)},
        {"score_1": (1, 18, 13, 16), "score_2": (1, 27, 7, 8), "box_1": (1, 36, 13, 16), "box_2": (1, 36, 7, 8)},
    ],
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    rows = 9 * sum(height * width for height, width in PLANES)
    assert reason.startswith(f"for an input of 100x128 outputs boxes (N, {rows}, 4) and scores (N, {rows}, classes)")
    with pytest.raises(ModelError, match="for each level maps"):
        ADAPTER.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)
