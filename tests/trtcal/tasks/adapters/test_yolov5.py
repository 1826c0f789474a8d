"""YOLOv5's layout: a head with three anchors a cell, against plain loops over its raw maps."""

import math

import numpy as np
import pytest

from tests.trtcal.tasks.adapters.heads import Head, cell_corners, maps
from trtcal.tasks.adapters.yolov5 import ADAPTER

SIZE = (64, 96)
ANCHORS = {
    8: [(10, 13), (16, 30), (33, 23)],
    16: [(30, 61), (62, 45), (59, 119)],
    32: [(116, 90), (156, 198), (373, 326)],
}
CLASSES = 2


def head() -> Head:
    """Ultralytics' Detect head of YOLOv5 behind its convolutions: `output`, and a raw grid as older exports have it."""
    graph = Head()
    levels = []
    for stride, anchors in ANCHORS.items():
        height, width = SIZE[0] // stride, SIZE[1] // stride
        apart = graph.add("Reshape", f"map{stride}", np.array([0, 3, 5 + CLASSES, height, width]))
        rows = graph.add("Transpose", apart, perm=[0, 1, 3, 4, 2], name="grid" if stride == 32 else "")
        parts = graph.add("Split", graph.add("Sigmoid", rows), np.array([2, 2, 1 + CLASSES]), outputs=3, axis=4)
        corners = cell_corners(SIZE, [stride])[0].T.reshape(1, 1, height, width, 2)
        places = graph.add("Add", graph.add("Mul", parts[0], np.float32(2)), corners - 0.5)
        places = graph.add("Mul", places, np.float32(stride))
        doubled = graph.add("Mul", parts[1], np.float32(2))
        sizes = graph.add("Mul", graph.add("Mul", doubled, doubled), np.float32(anchors).reshape(1, 3, 1, 1, 2))
        level = graph.add("Concat", places, sizes, parts[2], axis=4)
        levels.append(graph.add("Reshape", level, np.array([0, 3 * height * width, 5 + CLASSES])))
    graph.add("Concat", *levels, name="output", axis=1)
    return graph


def plain(raw, sample):
    """Every box that is found: (score, class, left, top, right, bottom)."""
    found = []
    for stride, anchors in ANCHORS.items():
        values = raw[f"map{stride}"][sample].astype(float)
        for number, (wide, high) in enumerate(anchors):
            for y in range(values.shape[1]):
                for x in range(values.shape[2]):
                    chances = [chance(v) for v in values[(5 + CLASSES) * number : (5 + CLASSES) * (number + 1), y, x]]
                    centre = (chances[0] * 2 - 0.5 + x) * stride, (chances[1] * 2 - 0.5 + y) * stride
                    half = (2 * chances[2]) ** 2 * wide / 2, (2 * chances[3]) ** 2 * high / 2
                    box = centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]
                    for name in range(CLASSES):
                        score = chances[4] * chances[5 + name]
                        if score > 0.001:
                            found.append((score, name, *box))
    return sorted(found, key=lambda one: -one[0])


def chance(value):
    return 1 / (1 + math.exp(-value))


@pytest.fixture(scope="module")
def raw():
    return maps(0, 2, 3 * (5 + CLASSES), SIZE, spread=3.0)


@pytest.fixture(scope="module")
def outputs(raw):
    return head().run(raw, ["output", "grid"])


def test_boxes_are_those_of_the_raw_maps(raw, outputs):
    for sample, one in enumerate(ADAPTER.decode(outputs, SIZE)):
        expected = np.array(plain(raw, sample))
        assert 300 < len(one) == len(expected) < 378 * CLASSES
        assert np.abs(one.boxes - expected[:, 2:]).max() < 0.01
        assert np.abs(one.scores - expected[:, 0]).max() < 1e-6
        assert one.classes.tolist() == expected[:, 1].tolist()


def test_a_model_that_gives_no_numbers_finds_nothing(outputs):
    nothing = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
    assert [len(one) for one in ADAPTER.decode(nothing, SIZE)] == [0, 0]


def test_which_outputs_fit():
    assert ADAPTER.misfit({"output0": (1, 25200, 85)}, (640, 640)) == ""
    assert ADAPTER.misfit({"output": (1, None, 85), "grid": (1, 3, 80, 80, 85)}, (640, 640)) == ""
    assert ADAPTER.misfit({"output0": (1, 102000, 85)}, (1280, 1280)) == "", "strides 8 to 64"
    why = ADAPTER.misfit({"output": (1, 8400, 85)}, (640, 640))
    assert why == "one output of (N, 25200, 5 + classes) for an input of 640x640, not output (N, 8400, 85)"
    assert ADAPTER.misfit({"output": (1, 25200, 5)}, (640, 640))
    assert ADAPTER.misfit({"output": (1, 84, 8400)}, (640, 640))


def test_parts_and_classes():
    shapes = {"output": (1, 25200, 85), "grid": (1, 3, 80, 80, 85)}
    parts = [(part.name, part.output, part.axis, part.first, part.last) for part in ADAPTER.parts(shapes)]
    assert parts == [("boxes", "output", 2, 0, 3), ("objectness", "output", 2, 4, 4), ("scores", "output", 2, 5, 84)]
    assert ADAPTER.classes(shapes) == 80
