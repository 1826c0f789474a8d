"""Peaks in heat maps, beside plain loops over places after CenterNet's steps."""

import math

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.exact import ran, same
from trtcal.tasks.adapters.centernet import ADAPTER
from trtcal.tasks.decoding.nms import LEAST, MOST

SIZE, PLANE = (64, 96), (16, 24)


def by_hand(heat, sizes, offsets=None, stride=4):
    found = []
    count, height, width = heat.shape
    for number in range(count):
        for row in range(height):
            for column in range(width):
                value = float(heat[number, row, column])
                near = [
                    float(heat[number, y, x])
                    for y in range(max(row - 1, 0), min(row + 2, height))
                    for x in range(max(column - 1, 0), min(column + 2, width))
                ]
                if any(other > value for other in near) or not value > LEAST:
                    continue
                x = column + (0.5 if offsets is None else float(offsets[0, row, column]))
                y = row + (0.5 if offsets is None else float(offsets[1, row, column]))
                w, h = float(sizes[0, row, column]), float(sizes[1, row, column])
                box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                found.append((value, number, *(stride * side for side in box)))
    return sorted(found, reverse=True)[:MOST]


def tables(classes=3, dtype=np.float32, names=("hm", "wh", "reg"), samples=3):
    rng = np.random.default_rng(14)
    heat = rng.random((samples, classes, *PLANE)) ** 4
    heat[:, :, 3, 3:5] = 0.97  # two of one height, side by side
    return {
        names[0]: heat.astype(dtype),
        names[1]: rng.uniform(1, 8, (samples, 2, *PLANE)).astype(dtype),
        names[2]: rng.random((samples, 2, *PLANE)).astype(dtype),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", [1, -1])
def test_peaks_of_a_batch_are_those_of_plain_loops(dtype, order):
    made = tables(dtype=dtype)
    outputs = dict(list(ran(made, [1, 0, 2], SIZE).items())[::order])
    for found, row in zip(ADAPTER.decode(outputs, SIZE), [1, 0, 2], strict=True):
        same(found, by_hand(made["hm"][row], made["wh"][row], made["reg"][row]))
    assert ADAPTER.classes({name: array.shape for name, array in outputs.items()}) == 3
    assert ADAPTER.overlap is None


@pytest.mark.parametrize("names", [("hm", "wh", "reg"), ("heatmap", "wh_pred", "offset_pred"), ("a", "b", "c")])
def test_two_classes_are_told_by_names_or_order(names):
    made = tables(2, names=names)
    orders = [names] if names[0] == "a" else [names, names[::-1], (names[1], names[0], names[2])]
    for order in orders:
        (found,) = ADAPTER.decode({name: made[name][:1] for name in order}, SIZE)
        same(found, by_hand(*(made[name][0] for name in names)))


def test_without_offsets_objects_are_in_the_middle_of_their_places():
    made = tables(1)
    (found,) = ADAPTER.decode({"wh": made["wh"][:1], "hm": made["hm"][:1]}, SIZE)
    same(found, by_hand(made["hm"][0], made["wh"][0]))


def test_logits_become_probabilities():
    made = tables()
    logits = np.log(made["hm"] + 1e-9) - np.log1p(1e-9 - made["hm"])
    chances = np.array([1 / (1 + math.exp(-value)) for value in logits[0].ravel().tolist()]).reshape(3, *PLANE)
    (found,) = ADAPTER.decode({"hm": logits[:1], "wh": made["wh"][:1], "reg": made["reg"][:1]}, SIZE)
    same(found, by_hand(chances, made["wh"][0], made["reg"][0]))


def test_a_map_of_another_scale_is_brought_to_the_inputs_pixels():
    made = tables()
    (found,) = ADAPTER.decode({name: each[:1] for name, each in made.items()}, (32, 48))
    same(found, by_hand(made["hm"][0], made["wh"][0], made["reg"][0], stride=2))


def test_what_is_not_a_number_is_never_found_and_hides_nothing():
    made = tables()
    made["hm"][0, 0, 3, 3] = np.nan
    made["wh"][0, 0, 3, 4] = np.inf
    made["hm"][1] = np.nan
    made["hm"][2] = 0
    some, nothing, quiet = ADAPTER.decode(ran(made, [0, 1, 2], SIZE), SIZE)
    heat = made["hm"][0].copy()
    heat[0, 3, 3] = -1
    expected = by_hand(heat, made["wh"][0], made["reg"][0])
    same(some, [row for row in expected if math.isfinite(row[2])])
    assert len(nothing) == len(quiet) == 0


@pytest.mark.parametrize(
    "shapes",
    [
        {"probs": (1, 1000)},
        {"hm": (1, 3, 9, 9)},
        {"hm": (1, 3, 9, 9), "wh": (1, 2, 9, 8)},
        {"hm": (1, 3, 9, 9), "wh": (1, 4, 9, 9)},
        {"a": (1, 2, 9, 9), "b": (1, 2, 9, 9), "c": (1, 2, 9, 9), "d": (1, 2, 9, 9)},
    ],
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    assert reason.startswith("maps of one size: (N, classes, rows, columns) heat, (N, 2, rows, columns) sizes")
    with pytest.raises(ModelError, match="maps of one size"):
        ADAPTER.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)
