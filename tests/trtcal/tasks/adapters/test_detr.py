"""Queries: DETR's softmax with "no object" and the sigmoid of its heirs, beside plain loops after their formulas."""

import math

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.exact import ran, same
from trtcal.tasks.adapters import detr, rtdetr
from trtcal.tasks.decoding.nms import LEAST, MOST

SIZE = (60, 100)


def placed(box):
    x, y, w, h = (float(value) for value in box)
    return (x - w / 2) * SIZE[1], (y - h / 2) * SIZE[0], (x + w / 2) * SIZE[1], (y + h / 2) * SIZE[0]


def by_softmax(boxes, logits):
    found = []
    for box, row in zip(boxes, logits, strict=True):
        largest = max(map(float, row))
        powers = [math.exp(float(value) - largest) for value in row]
        chances = [power / sum(powers) for power in powers][:-1]
        best = chances.index(max(chances))
        if chances[best] > LEAST:
            found.append((chances[best], best, *placed(box)))
    return found


def by_sigmoid(boxes, logits):
    found = []
    for box, row in zip(boxes, logits, strict=True):
        for number, value in enumerate(row):
            chance = 1 / (1 + math.exp(-float(value)))
            if chance > LEAST:
                found.append((chance, number, *placed(box)))
    return sorted(found, reverse=True)[:MOST]


def tables(queries, classes, dtype=np.float32, names=("pred_boxes", "pred_logits"), samples=3):
    rng = np.random.default_rng(queries)
    boxes = np.concatenate([rng.random((samples, queries, 2)), rng.uniform(0.01, 0.4, (samples, queries, 2))], axis=2)
    return {names[0]: boxes.astype(dtype), names[1]: rng.normal(-3, 3, (samples, queries, classes)).astype(dtype)}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", [1, -1])
def test_a_hundred_queries_have_a_softmax_and_no_object_is_nothing(dtype, order):
    made = tables(100, 12, dtype)
    outputs = dict(list(ran(made, [2, 0, 1], SIZE).items())[::order])
    for found, row in zip(detr.ADAPTER.decode(outputs, SIZE), [2, 0, 1], strict=True):
        same(found, by_softmax(made["pred_boxes"][row], made["pred_logits"][row]))
    assert detr.ADAPTER.classes({name: array.shape for name, array in outputs.items()}) == 11


@pytest.mark.parametrize("adapter", [detr.ADAPTER, rtdetr.ADAPTER])
def test_three_hundred_queries_have_a_sigmoid_for_every_class(adapter):
    made = tables(300, 5)
    outputs = ran(made, [1, 2], SIZE)
    for found, row in zip(adapter.decode(outputs, SIZE), [1, 2], strict=True):
        same(found, by_sigmoid(made["pred_boxes"][row], made["pred_logits"][row]))
        assert len(found) == MOST
    assert adapter.classes({name: array.shape for name, array in outputs.items()}) == 5


def test_the_names_of_rf_detr_mean_a_sigmoid_whatever_the_queries():
    made = tables(100, 3, names=("dets", "labels"))
    for found, row in zip(detr.ADAPTER.decode(ran(made, [0, 2], SIZE), SIZE), [0, 2], strict=True):
        same(found, by_sigmoid(made["dets"][row], made["labels"][row]))


def test_rtdetr_has_a_sigmoid_where_queries_are_few():
    made = tables(20, 3)
    (found,) = rtdetr.ADAPTER.decode(ran(made, [0], SIZE), SIZE)
    same(found, by_sigmoid(made["pred_boxes"][0], made["pred_logits"][0]))
    (other,) = detr.ADAPTER.decode(ran(made, [0], SIZE), SIZE)
    same(other, by_softmax(made["pred_boxes"][0], made["pred_logits"][0]))


def test_probabilities_are_taken_as_they_are():
    made = tables(300, 2)
    chances = 1 / (1 + np.exp(-made["pred_logits"].astype(np.float64)))
    (found,) = rtdetr.ADAPTER.decode({"scores": chances[:1], "boxes": made["pred_boxes"][:1]}, SIZE)
    same(found, by_sigmoid(made["pred_boxes"][0], made["pred_logits"][0]))


def test_ultralytics_has_boxes_and_scores_in_one_output():
    made = tables(300, 3)
    chances = 1 / (1 + np.exp(-made["pred_logits"].astype(np.float64)))
    whole = np.concatenate([made["pred_boxes"], chances], axis=2).astype(np.float32)
    for row, found in enumerate(rtdetr.ADAPTER.decode(ran({"output0": whole}, [0, 1], SIZE), SIZE)):
        same(found, by_sigmoid(made["pred_boxes"][row], made["pred_logits"][row]))
    shapes = {"output0": (None, 300, 7)}
    assert rtdetr.ADAPTER.classes(shapes) == 3
    assert [(part.name, part.axis, part.first, part.last) for part in rtdetr.ADAPTER.parts(shapes)] == [
        ("boxes", 2, 0, 3),
        ("scores", 2, 4, 6),
    ]


def test_four_classes_are_told_from_boxes_by_names():
    made = tables(300, 4)
    (found,) = detr.ADAPTER.decode({name: made[name][:1] for name in ("pred_logits", "pred_boxes")}, SIZE)
    same(found, by_sigmoid(made["pred_boxes"][0], made["pred_logits"][0]))


@pytest.mark.parametrize("queries", [100, 300])
def test_what_is_not_a_number_is_never_found(queries):
    made = tables(queries, 6)
    made["pred_logits"][0, :5] = np.nan
    made["pred_boxes"][0, 5] = np.nan
    made["pred_logits"][1] = np.nan
    made["pred_logits"][2] = [-30.0] * 5 + [30.0 if queries == 100 else -30.0]
    some, nothing, quiet = detr.ADAPTER.decode(ran(made, [0, 1, 2], SIZE), SIZE)
    loops = by_softmax if queries == 100 else by_sigmoid
    same(some, loops(made["pred_boxes"][0, 6:], made["pred_logits"][0, 6:]))
    assert len(nothing) == len(quiet) == 0


def test_a_dead_detector_finds_nothing_sure():
    """Logits that are all 0, as those of a broken model, are no probabilities of one half."""
    boxes = np.full((1, 300, 4), 0.5)
    assert all(len(found) == 0 for found in detr.ADAPTER.decode({"b": boxes, "l": np.zeros((1, 300, 9))}, SIZE))


@pytest.mark.parametrize("adapter", [detr.ADAPTER, rtdetr.ADAPTER])
@pytest.mark.parametrize("shapes", [{"probs": (1, 1000)}, {"boxes": (1, 9, 4)}, {"b": (1, 9, 4), "s": (1, 8, 3)}])
def test_other_outputs_are_told_in_a_line(adapter, shapes):
    reason = adapter.misfit(shapes, SIZE)
    assert reason.startswith("outputs boxes (N, queries, 4) and scores (N, queries, classes)")
    assert f"not {next(iter(shapes))} (N" in reason
    with pytest.raises(ModelError, match="queries"):
        adapter.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)


def test_no_object_and_the_classes_are_parts_of_the_scores():
    shapes = {"pred_logits": (1, 100, 92), "pred_boxes": (1, 100, 4)}
    parts = [(part.name, part.output, part.axis, part.first, part.last) for part in detr.ADAPTER.parts(shapes)]
    assert parts == [("classes", "pred_logits", 2, 0, 90), ("no object", "pred_logits", 2, 91, 91)]
    assert not detr.ADAPTER.parts({"dets": (1, 300, 4), "labels": (1, 300, 91)})
