"""YOLOv8's layout: a head with DFL in its graph, against plain loops over its raw maps."""

import math

import numpy as np
import pytest

from calibrators.errors import DataError
from tests.trtcal.tasks.adapters.heads import Head, cell_corners, flat, maps
from trtcal.tasks.adapters.yolov8 import ADAPTER

SIZE = (64, 96)
STRIDES = (8, 16, 32)
BINS, CLASSES = 16, 3


def head() -> Head:
    """Ultralytics' Detect head behind its convolutions: `output0` of (N, 4 + classes, anchors)."""
    graph = Head()
    rows = [flat(graph, f"map{s}", 4 * BINS + CLASSES) for s in STRIDES]
    raw = graph.add("Concat", *rows, axis=2)
    boxes, scores = graph.add("Split", raw, np.array([4 * BINS, CLASSES]), outputs=2, axis=1)
    chances = graph.add("Softmax", graph.add("Reshape", boxes, np.array([0, 4, BINS, -1])), axis=2)
    weighted = graph.add("Mul", chances, np.arange(BINS, dtype=np.float32).reshape(1, 1, BINS, 1))
    sides = graph.add("ReduceSum", weighted, np.array([2]), keepdims=0)
    before, after = graph.add("Split", sides, np.array([2, 2]), outputs=2, axis=1)
    corners, strides = cell_corners(SIZE, STRIDES)
    first, last = graph.add("Sub", corners + 0.5, before), graph.add("Add", corners + 0.5, after)
    centre = graph.add("Mul", graph.add("Add", first, last), np.float32(0.5))
    cells = graph.add("Concat", centre, graph.add("Sub", last, first), axis=1)
    pixels = graph.add("Mul", cells, strides)
    graph.add("Concat", pixels, graph.add("Sigmoid", scores), name="output0", axis=1)
    return graph


def plain(raw, sample):
    """Every box that is found, cell by cell: (score, class, left, top, right, bottom)."""
    found = []
    for stride in STRIDES:
        values = raw[f"map{stride}"][sample].astype(float)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                sides = [plain_distance(values[BINS * k : BINS * (k + 1), y, x]) * stride for k in range(4)]
                middle = (x + 0.5) * stride, (y + 0.5) * stride
                box = middle[0] - sides[0], middle[1] - sides[1], middle[0] + sides[2], middle[1] + sides[3]
                for number, value in enumerate(values[4 * BINS :, y, x]):
                    score = 1 / (1 + math.exp(-value))
                    if score > 0.001:
                        found.append((score, number, *box))
    return sorted(found, key=lambda one: -one[0])


def plain_distance(logits):
    powers = [math.exp(value) for value in logits]
    return sum(number * power for number, power in enumerate(powers)) / sum(powers)


@pytest.fixture(scope="module")
def raw():
    return maps(0, 2, 4 * BINS + CLASSES, SIZE, spread=4.0)


@pytest.fixture(scope="module")
def outputs(raw):
    return head().run(raw, ["output0"])


def test_boxes_are_those_of_the_raw_maps(raw, outputs):
    found = ADAPTER.decode(outputs, SIZE)
    assert len(found) == 2
    for sample, one in enumerate(found):
        expected = np.array(plain(raw, sample))
        assert 100 < len(one) == len(expected) < 126 * CLASSES
        assert np.abs(one.boxes - expected[:, 2:]).max() < 0.01
        assert np.abs(one.scores - expected[:, 0]).max() < 1e-6
        assert one.classes.tolist() == expected[:, 1].tolist()


def test_a_sample_is_the_same_alone(outputs):
    both = ADAPTER.decode(outputs, SIZE)
    alone = ADAPTER.decode({"output0": outputs["output0"][1:]}, SIZE)
    assert np.array_equal(alone[0].boxes, both[1].boxes)


def test_a_model_that_gives_no_numbers_finds_nothing(outputs):
    nothing = {"output0": np.full_like(outputs["output0"], np.nan)}
    assert [len(one) for one in ADAPTER.decode(nothing, SIZE)] == [0, 0]


def test_which_outputs_fit():
    assert ADAPTER.misfit({"output0": (1, 84, 8400)}, (640, 640)) == ""
    assert ADAPTER.misfit({"output0": (None, None, None)}, (640, 640)) == ""
    assert ADAPTER.misfit({"output0": (1, 84, 34000), "scale": (1, 2)}, (1280, 1280)) == "", "strides 8 to 64"
    assert ADAPTER.misfit({"output0": (1, 5, 2535)}, (416, 416)).startswith("one output of"), "three anchors a cell"
    why = ADAPTER.misfit({"output": (1, 10)}, (640, 480))
    assert why == "one output of (N, 4 + classes, 6300) for an input of 640x480, not output (N, 10)"
    assert ADAPTER.misfit({"a": (1, 84, 8400), "b": (1, 84, 8400)}, (640, 640)).endswith(
        "not a (N, 84, 8400), b (N, 84, 8400)"
    )
    assert ADAPTER.misfit({"output0": (1, 8400, 84)}, (640, 640)).endswith("not output0 (N, 8400, 84)")


def test_prototypes_of_masks_do_not_fit():
    why = ADAPTER.misfit({"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}, (640, 640))
    assert why.endswith("without prototypes of masks, not with output1 (N, 32, 160, 160)")


def test_points_are_not_taken_for_scores():
    points = np.full((1, 56, 8400), 0.5, np.float32)
    points[:, 5:] = 431
    with pytest.raises(DataError, match="from 0 to 1 behind the boxes, not up to 431: a model of keypoints needs"):
        ADAPTER.decode({"output0": points}, (640, 640))


def test_outputs_of_another_layout_are_refused():
    with pytest.raises(DataError, match=r"^what would fit is one output of \(N, 4 \+ classes, 8400\)"):
        ADAPTER.decode({"output0": np.zeros((1, 10))}, (640, 640))


def test_parts_and_classes():
    shapes = {"scale": (1, 2), "output0": (1, 84, 8400)}
    parts = [(part.name, part.output, part.axis, part.first, part.last) for part in ADAPTER.parts(shapes)]
    assert parts == [("boxes", "output0", 1, 0, 3), ("scores", "output0", 1, 4, 83)]
    assert ADAPTER.classes(shapes) == 80
    assert ADAPTER.classes({"output0": (1, None, 8400)}) is None
    assert ADAPTER.parts({"output0": (1, None, 8400)}) == ()
