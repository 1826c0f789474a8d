"""Lists after the graph's own removal: TensorFlow's order, MLPerf's and torchvision's, beside plain loops."""

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.exact import ran, same
from trtcal.tasks.adapters.detections import ADAPTER
from trtcal.tasks.decoding.nms import LEAST

SIZE = (50, 90)
ROWS = 6


def by_hand(boxes, scores, classes, *, count=ROWS, vertical_first=False, scale=True):
    found = []
    for row in range(count):
        one, two, three, four = (float(value) for value in boxes[row])
        left, top, right, bottom = (two, one, four, three) if vertical_first else (one, two, three, four)
        if scale:
            left, top, right, bottom = left * SIZE[1], top * SIZE[0], right * SIZE[1], bottom * SIZE[0]
        if scores[row] > LEAST:
            found.append((float(scores[row]), round(float(classes[row])) - 1, left, top, right, bottom))
    return found


def lists(samples=3, floats=np.float32, classes=np.float32):
    rng = np.random.default_rng(5)
    corners = np.sort(rng.random((samples, ROWS, 2, 2)), axis=2).reshape(samples, ROWS, 4).astype(floats)
    scores = -np.sort(-rng.uniform(0.01, 1, (samples, ROWS)), axis=1).astype(floats)
    return corners, scores, rng.integers(1, 91, (samples, ROWS)).astype(classes)


@pytest.mark.parametrize("floats", [np.float32, np.float16])
@pytest.mark.parametrize("classes", [np.float32, np.int64])
def test_tensorflows_boxes_begin_at_the_top_and_are_as_many_as_it_says(floats, classes):
    boxes, scores, numbers = lists(3, floats, classes)
    made = {
        "detection_boxes": boxes,
        "detection_classes": numbers,
        "detection_scores": scores,
        "num_detections": np.array([2, 0, ROWS], np.float32),
    }
    for found, row in zip(ADAPTER.decode(ran(made, [2, 1, 0], SIZE), SIZE), [2, 1, 0], strict=True):
        count = int(made["num_detections"][row])
        same(found, by_hand(boxes[row], scores[row], numbers[row], count=count, vertical_first=True))


def test_mlperfs_lists_are_not_counted():
    boxes, scores, numbers = lists(2, classes=np.int64)
    scores[1, 3:] = 0
    found = ADAPTER.decode(ran({"bboxes": boxes, "labels": numbers, "scores": scores}, [0, 1], SIZE), SIZE)
    for row, each in enumerate(found):
        same(each, by_hand(boxes[row], scores[row], numbers[row]))
    assert len(found[1]) == 3


@pytest.mark.parametrize("order", [("boxes", "scores", "labels"), ("boxes", "labels", "scores")])
@pytest.mark.parametrize("rows", [ROWS, 0])
def test_torchvisions_lists_are_of_one_image_in_pixels(order, rows):
    boxes, scores, numbers = (each[0, :rows] for each in lists(1, classes=np.int64))
    outputs = {"boxes": boxes * 40, "scores": scores, "labels": numbers}
    (found,) = ADAPTER.decode({name: outputs[name] for name in order}, SIZE)
    same(found, by_hand(boxes * 40, scores, numbers, count=rows, scale=False))


def test_what_is_not_a_number_is_never_found():
    boxes, scores, numbers = lists(1)
    scores[0, 1], boxes[0, 2, 3], numbers[0, 3] = np.nan, np.inf, 0  # class 0 would be the background
    (found,) = ADAPTER.decode({"bboxes": boxes, "labels": numbers, "scores": scores}, SIZE)
    left = [0, 4, 5]
    same(found, by_hand(boxes[0, left], scores[0, left], numbers[0, left], count=3))


@pytest.mark.parametrize(
    "shapes",
    [
        {"probs": (1, 1000)},
        {"boxes": (1, 9, 4), "scores": (1, 9, 3)},
        {"boxes": (1, 9, 4), "scores": (1, 9)},
        {"boxes": (9, 4), "scores": (9,), "labels": (8,)},
    ],
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    assert reason.startswith("outputs of (N, rows, 4) boxes, (N, rows) scores, (N, rows) classes")
    assert next(iter(shapes)) in reason
    with pytest.raises(ModelError, match="perhaps"):
        ADAPTER.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)
