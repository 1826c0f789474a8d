"""YOLOX's layout: a head that leaves boxes undecoded, against plain loops over its raw maps."""

import math

import numpy as np
import pytest

from tests.trtcal.tasks.adapters.heads import Head, flat, maps
from trtcal.tasks.adapters.yolov5 import ADAPTER as YOLOV5
from trtcal.tasks.adapters.yolox import ADAPTER

SIZE = (64, 96)
CLASSES = 2


def head(strides) -> Head:
    """Megvii's head behind its convolutions, as its export leaves it: `output` of (N, cells, 5 + classes)."""
    graph = Head()
    levels = []
    for stride in strides:
        boxes, scores = graph.add("Split", f"map{stride}", np.array([4, 1 + CLASSES]), outputs=2, axis=1)
        joined = graph.add("Concat", boxes, graph.add("Sigmoid", scores), axis=1)
        levels.append(flat(graph, joined, 5 + CLASSES))
    graph.add("Transpose", graph.add("Concat", *levels, axis=2), name="output", perm=[0, 2, 1])
    return graph


def plain(raw, sample, strides):
    """Every box that is found: (score, class, left, top, right, bottom)."""
    found = []
    for stride in strides:
        values = raw[f"map{stride}"][sample].astype(float)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                centre = (x + values[0, y, x]) * stride, (y + values[1, y, x]) * stride
                half = math.exp(values[2, y, x]) * stride / 2, math.exp(values[3, y, x]) * stride / 2
                box = centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]
                for number in range(CLASSES):
                    score = chance(values[4, y, x]) * chance(values[5 + number, y, x])
                    if score > 0.001:
                        found.append((score, number, *box))
    return sorted(found, key=lambda one: -one[0])


def chance(value):
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64), (4, 8)])
def test_boxes_are_those_of_the_raw_maps(strides):
    size = (64, 128)
    raw = maps(1, 2, 5 + CLASSES, size, strides, spread=2.0)
    for sample, one in enumerate(ADAPTER.decode(head(strides).run(raw, ["output"]), size)):
        expected = np.array(plain(raw, sample, strides))
        assert 200 < len(one) == len(expected)
        assert np.abs(one.boxes - expected[:, 2:]).max() < 0.01
        assert np.abs(one.scores - expected[:, 0]).max() < 1e-6
        assert one.classes.tolist() == expected[:, 1].tolist()


def test_a_size_that_overflows_or_no_number_is_not_found():
    rows = np.zeros((1, 126, 5 + CLASSES), np.float32)
    rows[0, :3, 4:] = 0.5
    rows[0, 0, 2], rows[0, 1, 0] = 1000, np.nan
    (found,) = ADAPTER.decode({"output": rows}, SIZE)
    assert found.boxes.tolist() == [[12, -4, 20, 4]] * 2, "the third cell: 16 pixels from the left"
    assert found.scores.tolist() == [0.25, 0.25]
    assert len(ADAPTER.decode({"output": np.full_like(rows, np.nan)}, SIZE)[0]) == 0


def test_which_outputs_fit():
    assert ADAPTER.misfit({"output": (1, 8400, 85)}, (640, 640)) == ""
    assert ADAPTER.misfit({"output": (1, 3549, 85)}, (416, 416)) == ""
    why = ADAPTER.misfit({"output": (1, 25200, 85)}, (640, 640))
    assert why == "one output of (N, 8400, 5 + classes) for an input of 640x640, not output (N, 25200, 85)"


@pytest.mark.parametrize("size", [(320, 320), (416, 416), (640, 640), (480, 640), (1280, 1280), (1088, 1920)])
def test_anchors_tell_yolov5_and_yolox_apart(size):
    cells = sum(size[0] // stride * size[1] // stride for stride in (8, 16, 32))
    for anchors, fits, other in [(cells, ADAPTER, YOLOV5), (3 * cells, YOLOV5, ADAPTER)]:
        assert fits.misfit({"output": (1, anchors, 85)}, size) == ""
        assert other.misfit({"output": (1, anchors, 85)}, size)


def test_parts_and_classes():
    shapes = {"output": (1, 8400, 85)}
    assert [(part.name, part.first, part.last) for part in ADAPTER.parts(shapes)] == [
        ("places", 0, 1),
        ("sizes", 2, 3),
        ("objectness", 4, 4),
        ("scores", 5, 84),
    ]
    assert ADAPTER.classes(shapes) == 80
