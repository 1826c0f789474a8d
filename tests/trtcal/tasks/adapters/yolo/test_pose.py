"""YOLOv8's pose layout: a head in ONNX, against plain loops over its raw maps."""

import math

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.heads import Head, cell_corners, flat, maps
from trtcal.tasks.adapters.yolo.pose import ADAPTER

SIZE = (64, 96)
STRIDES = (8, 16, 32)
POINTS = 4


def head() -> Head:
    """Ultralytics' Pose head, of plain distances: `output0` of (N, 5 + 3 points, anchors)."""
    graph = Head()
    raw = graph.add("Concat", *[flat(graph, f"map{s}", 5 + 3 * POINTS) for s in STRIDES], axis=2)
    first, last, score, points = graph.add("Split", raw, np.array([2, 2, 1, 3 * POINTS]), outputs=4, axis=1)
    corners, strides = cell_corners(SIZE, STRIDES)
    ends = [graph.add("Sub", corners + 0.5, first), graph.add("Add", corners + 0.5, last)]
    centre = graph.add("Mul", graph.add("Add", *ends), np.float32(0.5))
    boxes = graph.add("Mul", graph.add("Concat", centre, graph.add("Sub", *ends[::-1]), axis=1), strides)
    apart = graph.add("Reshape", points, np.array([0, POINTS, 3, -1]))
    places, certain = graph.add("Split", apart, np.array([2, 1]), outputs=2, axis=2)
    moved = graph.add("Mul", graph.add("Add", graph.add("Mul", places, np.float32(2)), corners), strides)
    joined = graph.add("Concat", moved, graph.add("Sigmoid", certain), axis=2)
    flat_points = graph.add("Reshape", joined, np.array([0, 3 * POINTS, -1]))
    graph.add("Concat", boxes, graph.add("Sigmoid", score), flat_points, name="output0", axis=1)
    return graph


def plain(raw, sample):
    """Every box that is found, best first: (score, box, points)."""
    found = []
    for stride in STRIDES:
        values = raw[f"map{stride}"][sample].astype(float)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                left, top, right, bottom, score = values[:5, y, x]
                box = [x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom]
                points = [
                    ((across * 2 + x) * stride, (down * 2 + y) * stride, chance(certain))
                    for across, down, certain in values[5:, y, x].reshape(POINTS, 3)
                ]
                found.append((chance(score), [side * stride for side in box], points))
    return sorted((one for one in found if one[0] > 0.001), key=lambda one: -one[0])


def chance(value):
    return 1 / (1 + math.exp(-value))


@pytest.fixture(scope="module")
def raw():
    return maps(0, 2, 5 + 3 * POINTS, SIZE, spread=4.0)


@pytest.fixture(scope="module")
def outputs(raw):
    return head().run(raw, ["output0"])


def test_boxes_and_points_are_those_of_the_raw_maps(raw, outputs):
    for sample, found in enumerate(ADAPTER.decode(outputs, SIZE)):
        expected = plain(raw, sample)
        assert 100 < len(found) == len(expected) < 126
        assert np.abs(found.boxes - [one[1] for one in expected]).max() < 0.01
        assert np.abs(found.scores - [one[0] for one in expected]).max() < 1e-6
        assert found.points.shape == (len(found), POINTS, 3)
        assert np.abs(found.points - [one[2] for one in expected]).max() < 0.01
        assert not found.classes.any()


def test_what_is_not_a_number_is_not_found(outputs):
    nothing = ADAPTER.decode({"output0": np.full_like(outputs["output0"], np.nan)}, SIZE)[0]
    assert (len(nothing), nothing.points.shape) == (0, (0, POINTS, 3))
    broken = outputs["output0"].copy()
    broken[:, -1, :100] = np.nan
    assert 0 < len(ADAPTER.decode({"output0": broken}, SIZE)[0]) <= 26


def test_which_outputs_fit():
    assert ADAPTER.misfit({"output0": (1, 56, 8400)}, (640, 640)) == ""
    why = ADAPTER.misfit({"output0": (1, 84, 8400)}, (640, 640))
    assert why == "one output of (N, 5 + 3 points, anchors), such as 56 channels for 17 points, not 84 channels"
    assert ADAPTER.misfit({"output0": (1, 56, 100)}, (640, 640)).startswith("one output of (N, 5 + 3 points, 8400)")
    with pytest.raises(ModelError, match=r"do not fit: one output of \(N, 5 \+ 3 points, anchors\)"):
        ADAPTER.decode({"output0": np.zeros((1, 84, 8400))}, (640, 640))


def test_parts_and_classes():
    shapes = {"output0": (1, 56, 8400)}
    parts = [(part.name, part.axis, part.first, part.last) for part in ADAPTER.parts(shapes)]
    assert parts == [("boxes", 1, 0, 3), ("scores", 1, 4, 4), ("points", 1, 5, 55)]
    assert ADAPTER.classes(shapes) == 1
