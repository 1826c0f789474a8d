"""YOLOv8's segmentation layout: a head in ONNX, against plain loops over its raw maps, cells and pixels."""

import math

import numpy as np
import pytest
from hotcoco import mask as rle

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.heads import Head, cell_corners, flat, maps
from trtcal.tasks.adapters.yolo.segment import ADAPTER
from trtcal.tasks.adapters.yolo.yolov8 import ADAPTER as DETECT

SIZE = (64, 96)
STRIDES = (8, 16, 32)
CLASSES, COEFFICIENTS = 2, 4


def head() -> Head:
    """Ultralytics' Segment head, of plain distances: `output0`, and prototypes as `output1`."""
    graph = Head()
    raw = graph.add("Concat", *[flat(graph, f"map{s}", 4 + CLASSES + COEFFICIENTS) for s in STRIDES], axis=2)
    parts = graph.add("Split", raw, np.array([2, 2, CLASSES, COEFFICIENTS]), outputs=4, axis=1)
    corners, strides = cell_corners(SIZE, STRIDES)
    first = graph.add("Sub", corners + 0.5, graph.add("Exp", parts[0]))
    last = graph.add("Add", corners + 0.5, graph.add("Exp", parts[1]))
    centre = graph.add("Mul", graph.add("Add", first, last), np.float32(0.5))
    boxes = graph.add("Mul", graph.add("Concat", centre, graph.add("Sub", last, first), axis=1), strides)
    graph.add("Concat", boxes, graph.add("Sigmoid", parts[2]), parts[3], name="output0", axis=1)
    graph.add("Tanh", "prototypes", name="output1")
    return graph


def plain(raw, sample):
    """What stays, best first: (score, class, box, coefficients)."""
    found = []
    for stride in STRIDES:
        values = raw[f"map{stride}"][sample].astype(float)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                sides = np.exp(values[:4, y, x])
                box = (x + 0.5 - sides[0], y + 0.5 - sides[1], x + 0.5 + sides[2], y + 0.5 + sides[3])
                for number in range(CLASSES):
                    score = 1 / (1 + math.exp(-values[4 + number, y, x]))
                    found.append((score, number, [side * stride for side in box], values[4 + CLASSES :, y, x]))
    kept = []
    for one in sorted((one for one in found if one[0] > 0.001), key=lambda one: -one[0]):
        if all(one[1] != other[1] or iou(one[2], other[2]) <= 0.7 for other in kept):
            kept.append(one)
    return kept


def iou(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def plain_mask(coefficients, prototypes, box):
    """Pixel by pixel: between the centres of four cells, above 0, and within the box."""
    sums = sum(c * p for c, p in zip(coefficients, prototypes.astype(float), strict=True))
    mask = np.zeros(SIZE, np.uint8)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            if box[0] <= x < box[2] and box[1] <= y < box[3]:
                down, right = max((y + 0.5) / 4 - 0.5, 0), max((x + 0.5) / 4 - 0.5, 0)
                rows, columns = (int(down), min(int(down) + 1, 15)), (int(right), min(int(right) + 1, 23))
                shares = (1 - down % 1, down % 1), (1 - right % 1, right % 1)
                value = sum(sums[rows[i], columns[j]] * shares[0][i] * shares[1][j] for i in (0, 1) for j in (0, 1))
                mask[y, x] = value > 0
    return mask


@pytest.fixture(scope="module")
def raw():
    seeded = maps(0, 2, 4 + CLASSES + COEFFICIENTS, SIZE)
    return {
        name: np.concatenate([array[:, :4], array[:, 4:6] * 4 - 6, array[:, 6:]], axis=1)
        for name, array in seeded.items()
    }


@pytest.fixture(scope="module")
def outputs(raw):
    prototypes = np.random.default_rng(1).normal(size=(2, COEFFICIENTS, 16, 24)).astype(np.float32)
    return head().run({**raw, "prototypes": prototypes}, ["output0", "output1"])


def test_boxes_and_masks_are_those_of_the_raw_maps(raw, outputs):
    for sample, found in enumerate(ADAPTER.decode(outputs, SIZE)):
        expected = plain(raw, sample)
        assert 50 < len(found) == len(expected) <= 300
        assert np.abs(found.boxes - [one[2] for one in expected]).max() < 0.01
        assert np.abs(found.scores - [one[0] for one in expected]).max() < 1e-6
        assert found.classes.tolist() == [one[1] for one in expected]
        for number in range(0, 40, 4):
            mask = plain_mask(expected[number][3], outputs["output1"][sample], expected[number][2])
            assert found.masks[number]["size"] == list(SIZE)
            assert np.array_equal(rle.decode(found.masks[number]), mask)
        assert sum(rle.area(list(found.masks)) > 0) > 50


def test_boxes_outside_of_the_input_have_empty_masks(outputs):
    moved = outputs["output0"].copy()
    moved[:, 0] += 1e6
    found = ADAPTER.decode({"output0": moved, "output1": outputs["output1"]}, SIZE)[0]
    assert len(found) > 50
    assert not rle.area(list(found.masks)).any()


def test_what_is_not_a_number_is_not_found(outputs):
    nothing = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
    assert [len(one) for one in ADAPTER.decode(nothing, SIZE)] == [0, 0]
    broken = outputs["output0"].copy()
    broken[:, -1] = np.nan
    assert [len(one) for one in ADAPTER.decode({**outputs, "output0": broken}, SIZE)] == [0, 0]
    assert ADAPTER.decode({**outputs, "output0": broken}, SIZE)[0].masks == ()


def test_which_outputs_fit():
    both = {"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}
    assert ADAPTER.misfit(both, (640, 640)) == ""
    assert DETECT.misfit(both, (640, 640))
    assert ADAPTER.misfit({"output0": (None, 116, None), "output1": (None, 32, None, None)}, (640, 640)) == ""
    why = ADAPTER.misfit({"output0": (1, 116, 8400)}, (640, 640))
    assert why == (
        "one output of prototypes of (N, coefficients, 160, 160) beside that of boxes, not output0 (N, 116, 8400)"
    )
    assert ADAPTER.misfit({"output": (1, 10)}, (640, 640)) == (
        "one output of (N, 4 + classes + coefficients, 8400) for an input of 640x640 and prototypes of "
        "(N, coefficients, 160, 160), not output (N, 10)"
    )
    assert ADAPTER.misfit({**both, "output0": (1, 36, 8400)}, (640, 640)).startswith("more channels than 4 + 32 coeff")
    with pytest.raises(ModelError, match="do not fit: one output of prototypes"):
        ADAPTER.decode({"output0": np.zeros((1, 116, 8400))}, (640, 640))


def test_parts_and_classes():
    shapes = {"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}
    parts = [(part.name, part.axis, part.first, part.last) for part in ADAPTER.parts(shapes)]
    assert parts == [("boxes", 1, 0, 3), ("scores", 1, 4, 83), ("coefficients", 1, 84, 115)]
    assert ADAPTER.classes(shapes) == 80
