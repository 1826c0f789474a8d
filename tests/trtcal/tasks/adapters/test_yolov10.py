"""The end-to-end layout: a head that picks its best boxes in the graph, against plain loops over its raw maps."""

import math

import numpy as np
import pytest

from tests.trtcal.tasks.adapters.heads import Head, cell_corners, flat, maps
from trtcal.tasks.adapters.yolov10 import ADAPTER

SIZE = (160, 160)
STRIDES = (8, 16, 32)
CLASSES, KEPT = 3, 300


def head() -> Head:
    """Ultralytics' end-to-end head, of plain distances: `output0` of (N, 300, 6)."""
    graph = Head()
    raw = graph.add("Concat", *[flat(graph, f"map{s}", 4 + CLASSES) for s in STRIDES], axis=2)
    sides, logits = graph.add("Split", raw, np.array([4, CLASSES]), outputs=2, axis=1)
    before, after = graph.add("Split", sides, np.array([2, 2]), outputs=2, axis=1)
    corners, strides = cell_corners(SIZE, STRIDES)
    ends = graph.add("Concat", graph.add("Sub", corners + 0.5, before), graph.add("Add", corners + 0.5, after), axis=1)
    boxes = graph.add("Transpose", graph.add("Mul", ends, strides), perm=[0, 2, 1])
    scores = graph.add("Transpose", graph.add("Sigmoid", logits), perm=[0, 2, 1])
    everything = graph.add("Reshape", scores, np.array([0, -1]))
    best, places = graph.add("TopK", everything, np.array([KEPT]), outputs=2, axis=1)
    anchors, classes = graph.add("Div", places, np.array(CLASSES)), graph.add("Mod", places, np.array(CLASSES))
    where = graph.add("Expand", graph.add("Unsqueeze", anchors, np.array([2])), np.array([1, 1, 4]))
    picked = graph.add("GatherElements", boxes, where, axis=1)
    named = graph.add("Cast", classes, to=1)
    columns = [graph.add("Unsqueeze", value, np.array([2])) for value in (best, named)]
    graph.add("Concat", picked, *columns, name="output0", axis=2)
    return graph


def plain(raw, sample):
    """The best 300: (score, class, left, top, right, bottom)."""
    found = []
    for stride in STRIDES:
        values = raw[f"map{stride}"][sample].astype(float)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                left, top, right, bottom = values[:4, y, x]
                box = [(x + 0.5 - left), (y + 0.5 - top), (x + 0.5 + right), (y + 0.5 + bottom)]
                for number, value in enumerate(values[4:, y, x]):
                    found.append((1 / (1 + math.exp(-value)), number, *(side * stride for side in box)))
    return [one for one in sorted(found, key=lambda one: -one[0])[:KEPT] if one[0] > 0.001]


@pytest.mark.parametrize("spread", [2.0, 0.5])
def test_boxes_are_those_of_the_raw_maps(spread):
    raw = {name: np.abs(array) for name, array in maps(0, 2, 4 + CLASSES, SIZE, spread=spread).items()}
    raw = {name: np.concatenate([array[:, :4], -array[:, 4:] * 4], axis=1) for name, array in raw.items()}
    for sample, one in enumerate(ADAPTER.decode(head().run(raw, ["output0"]), SIZE)):
        expected = np.array(plain(raw, sample))
        assert len(one) == len(expected) == KEPT
        assert np.abs(one.boxes - expected[:, 2:]).max() < 0.01
        assert np.abs(one.scores - expected[:, 0]).max() < 1e-6
        assert one.classes.tolist() == expected[:, 1].tolist()


def test_rows_without_a_detection_are_not_found():
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, :6] = [
        [0, 0, 9, 9, 0.3, 2],
        [0, 0, 9, 9, 0.9, -1],
        [0, 0, 9, np.nan, 0.9, 1],
        [0, 0, 9, 9, np.nan, 1],
        [0, 0, 9, 9, 0.9, np.nan],
        [1, 2, 3, 4, 0.5, 6.9],
    ]
    (found,) = ADAPTER.decode({"output0": rows}, (640, 640))
    assert found.scores.tolist() == pytest.approx([0.5, 0.3])
    assert found.classes.tolist() == [7, 2], "rounded: a quantized class number is not quite whole"
    assert found.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]
    assert len(ADAPTER.decode({"output0": np.full_like(rows, np.nan)}, (640, 640))[0]) == 0


def test_which_outputs_fit():
    assert ADAPTER.overlap is None
    assert ADAPTER.misfit({"output0": (1, 300, 6)}, (640, 640)) == ""
    assert ADAPTER.misfit({"output0": (1, 300, 6)}, (240, 320)) == "", "as many as a grid of stride 16 has cells"
    assert ADAPTER.misfit({"output0": (1, 100, 6)}, (160, 320)) == ""
    for anchors in (8400, 25200):
        why = ADAPTER.misfit({"output0": (1, anchors, 6)}, (640, 640))
        assert why == f"one output of (N, detections, 6), not output0 (N, {anchors}, 6)"
    assert ADAPTER.misfit({"output0": (1, 300, 84)}, (640, 640))


def test_parts():
    parts = [(part.name, part.axis, part.first, part.last) for part in ADAPTER.parts({"output0": (1, 300, 6)})]
    assert parts == [("boxes", 2, 0, 3), ("scores", 2, 4, 4), ("classes", 2, 5, 5)]
