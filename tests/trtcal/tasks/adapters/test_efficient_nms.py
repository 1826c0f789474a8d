"""The four outputs of TensorRT's plugins: as many rows as they say, whatever the types and the order of outputs."""

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.exact import ran, same
from trtcal.tasks.adapters.efficient_nms import ADAPTER
from trtcal.tasks.decoding.nms import LEAST

SIZE = (64, 80)
ROWS = 7
NAMES = ("num_dets", "det_boxes", "det_scores", "det_classes")


def by_hand(count, boxes, scores, classes):
    found = []
    for row in range(int(count[0])):
        if scores[row] > LEAST:
            found.append((float(scores[row]), int(classes[row]), *(float(value) for value in boxes[row])))
    return found


def tables(count=np.int32, floats=np.float32, classes=np.int32, samples=3):
    rng = np.random.default_rng(4)
    corners = np.sort(rng.uniform(0, 60, (samples, ROWS, 2, 2)), axis=2).reshape(samples, ROWS, 4)
    scores = -np.sort(-rng.uniform(0.01, 1, (samples, ROWS)), axis=1)
    return {
        NAMES[0]: np.array([[4], [0], [ROWS]])[:samples].astype(count),
        NAMES[1]: corners.astype(floats),
        NAMES[2]: scores.astype(floats),
        NAMES[3]: rng.integers(0, 80, (samples, ROWS)).astype(classes),
    }


@pytest.mark.parametrize("count", [np.int32, np.int64, np.float32])
@pytest.mark.parametrize("classes", [np.int32, np.int64, np.float32])
@pytest.mark.parametrize("floats", [np.float32, np.float16])
def test_rows_of_a_batch_are_those_that_count(count, classes, floats):
    made = tables(count, floats, classes)
    for found, row in zip(ADAPTER.decode(ran(made, [2, 1, 0], SIZE), SIZE), [2, 1, 0], strict=True):
        same(found, by_hand(*(made[name][row] for name in NAMES)))


@pytest.mark.parametrize(
    "names",
    [
        ("num_detections", "nmsed_boxes", "nmsed_scores", "nmsed_classes"),
        ("num_detections", "detection_boxes", "detection_scores", "detection_classes"),
        ("num", "boxes", "scores", "labels"),
        ("a", "b", "c", "d"),
    ],
)
def test_names_of_other_exports_are_understood(names):
    made = tables()
    outputs = dict(zip(names, ran(made, [0], SIZE).values(), strict=True))
    (found,) = ADAPTER.decode(outputs, SIZE)
    same(found, by_hand(*(made[name][0] for name in NAMES)))


def test_the_order_of_outputs_is_free_where_names_or_types_tell():
    made = tables(classes=np.int64)
    expected = by_hand(*(made[name][0] for name in NAMES))
    outputs = ran(made, [0], SIZE)
    (found,) = ADAPTER.decode({name: outputs[name] for name in reversed(NAMES)}, SIZE)
    same(found, expected)
    unnamed = {
        "w": outputs["det_classes"],
        "x": outputs["det_scores"],
        "y": outputs["det_boxes"],
        "z": outputs[NAMES[0]],
    }
    (found,) = ADAPTER.decode(unnamed, SIZE)
    same(found, expected)


def test_a_single_row_is_told_from_the_count():
    outputs = {
        "num_dets": np.array([[1]], np.int32),
        "det_boxes": np.array([[[1, 2, 30, 40]]], np.float32),
        "det_scores": np.array([[0.5]], np.float32),
        "det_classes": np.array([[3]], np.int32),
    }
    for names in (tuple(outputs), tuple(reversed(outputs))):
        (found,) = ADAPTER.decode({name: outputs[name] for name in names}, SIZE)
        same(found, [(0.5, 3, 1, 2, 30, 40)])


def test_what_is_not_a_number_is_never_found():
    made = tables(count=np.float32, classes=np.float32)
    made["det_scores"][0, 0] = np.nan
    made["det_classes"][0, 1] = -1  # as BatchedNMS fills up
    made["det_classes"][2] = np.nan
    made["num_dets"][1] = np.nan
    some, nothing, unclassed = ADAPTER.decode(ran(made, [0, 1, 2], SIZE), SIZE)
    same(some, by_hand([2], made["det_boxes"][0, 2:], made["det_scores"][0, 2:], made["det_classes"][0, 2:]))
    assert len(nothing) == len(unclassed) == 0


@pytest.mark.parametrize(
    "shapes",
    [
        {"probs": (1, 1000)},
        {"boxes": (1, 9, 4), "scores": (1, 9, 3)},
        {"selected_indices": (None, 3)},
        {"num": (1,), "boxes": (1, 9, 4), "scores": (1, 9), "classes": (1, 9)},
        {"num": (1, 1), "boxes": (1, 9, 4), "scores": (1, 8), "classes": (1, 9)},
        {"num": (1, 1), "boxes": (1, 9, 5), "scores": (1, 9), "classes": (1, 9)},
    ],
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    assert reason.startswith("four outputs, of (N, 1) a count, (N, rows, 4) boxes")
    assert f"not {next(iter(shapes))} (N" in reason
    with pytest.raises(ModelError, match="four outputs"):
        ADAPTER.decode({name: np.zeros([size or 1 for size in shape]) for name, shape in shapes.items()}, SIZE)


def test_overlaps_are_not_removed_once_more():
    assert ADAPTER.overlap is None
    assert ADAPTER.classes({"num": (1, 1), "boxes": (1, 9, 4), "scores": (1, 9), "classes": (1, 9)}) is None
