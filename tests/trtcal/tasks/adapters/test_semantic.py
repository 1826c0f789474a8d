"""Class maps: scores, one binary map and labels, beside plain loops over pixels."""

import numpy as np
import pytest

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.exact import ran
from trtcal.tasks.adapters.semantic import ADAPTER, resized
from trtcal.tasks.found import ClassMap

SIZE = (12, 20)


def between(plane, row, column, size):
    """The value of a small map at a pixel of a large one: between the four nearest centres."""
    y = min(max((row + 0.5) * plane.shape[0] / size[0] - 0.5, 0), plane.shape[0] - 1)
    x = min(max((column + 0.5) * plane.shape[1] / size[1] - 0.5, 0), plane.shape[1] - 1)
    top, left = int(y), int(x)
    low, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
    v, u = y - top, x - left
    upper = float(plane[top, left]) * (1 - u) + float(plane[top, right]) * u
    lower = float(plane[low, left]) * (1 - u) + float(plane[low, right]) * u
    return upper * (1 - v) + lower * v


def by_hand(maps, size):
    found = np.zeros(size, int)
    for row in range(size[0]):
        for column in range(size[1]):
            scores = [between(plane, row, column, size) for plane in maps]
            found[row, column] = scores.index(max(scores))
    return found


@pytest.mark.parametrize("plane", [(3, 5), (6, 10), (12, 20), (2, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_small_maps_of_scores_are_enlarged_before_the_largest_is_taken(plane, dtype):
    maps = np.random.default_rng(6).normal(0, 2, (3, 4, *plane)).astype(dtype)
    for found, row in zip(ADAPTER.decode(ran({"logits": maps}, [2, 0], SIZE), SIZE), [2, 0], strict=True):
        assert (found.classes == by_hand(maps[row], SIZE)).all()
        assert found.classes.dtype == np.int64


def test_what_is_larger_than_the_input_stays_so():
    maps = np.random.default_rng(7).normal(0, 2, (1, 3, 24, 40)).astype(np.float32)
    (found,) = ADAPTER.decode({"out": maps}, SIZE)
    assert (found.classes == maps[0].argmax(axis=0)).all()


def test_channels_may_be_last():
    maps = np.random.default_rng(8).normal(0, 2, (2, 3, 6, 10)).astype(np.float32)
    first = ADAPTER.decode({"out": maps}, SIZE)
    last = ADAPTER.decode({"out": np.ascontiguousarray(maps.transpose(0, 2, 3, 1))}, SIZE)
    assert all((one.classes == other.classes).all() for one, other in zip(first, last, strict=True))


@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_one_map_is_binary(axes, kind):
    logits = np.random.default_rng(9).normal(0, 2, (3, 1, 6, 10)).astype(np.float32)
    values, bound = (logits, 0) if kind == "logits" else (1 / (1 + np.exp(-logits)), 0.5)
    made = values if axes == 4 else values[:, 0]
    for row, found in enumerate(ADAPTER.decode(ran({"mask": made}, [0, 1, 2], SIZE), SIZE)):
        expected = [[between(values[row, 0], y, x, SIZE) > bound for x in range(SIZE[1])] for y in range(SIZE[0])]
        assert (found.classes == np.array(expected)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(2, 6, 10), (2, 1, 6, 10), (2, 6, 10, 1)])
def test_labels_are_the_classes(dtype, shape):
    labels = np.random.default_rng(10).integers(0, 19, (2, 6, 10))
    outputs = ran({"labels": labels.reshape(shape).astype(dtype)}, [1, 0], SIZE)
    first, second = ADAPTER.decode(outputs, SIZE)
    assert (first.classes == labels[1]).all()
    assert (second.classes == labels[0]).all()


def test_pixels_that_are_not_a_number_have_no_class():
    maps = np.random.default_rng(11).normal(0, 2, (3, 12, 20)).astype(np.float32)
    maps[1, 4, 5] = np.nan
    (found,) = ADAPTER.decode({"out": maps[None]}, SIZE)
    (binary,) = ADAPTER.decode({"out": maps[None, 1:2]}, SIZE)
    for each in (found, binary):
        assert each.classes[4, 5] == -1
        assert (each.classes == -1).sum() == 1
    (nothing,) = ADAPTER.decode({"out": np.full((1, 3, 12, 20), np.nan)}, SIZE)
    assert (nothing.classes == -1).all()


def test_of_two_maps_the_first_is_taken():
    maps = np.random.default_rng(12).normal(0, 2, (2, 3, 12, 20))
    (found,) = ADAPTER.decode({"features": np.zeros((1, 8)), "out": maps[:1], "aux": maps[1:]}, SIZE)
    assert (found.classes == maps[0].argmax(axis=0)).all()


def test_a_map_is_resized_by_the_nearest_centre():
    classes = np.arange(6).reshape(2, 3)
    large = resized(ClassMap(classes), (5, 7)).classes
    for row in range(5):
        for column in range(7):
            assert large[row, column] == classes[int((row + 0.5) * 2 / 5), int((column + 0.5) * 3 / 7)]
    assert (resized(ClassMap(large), (2, 3)).classes == classes).all()
    assert (resized(ClassMap(classes), (2, 3)).classes == classes).all()


def test_classes_are_told_by_channels():
    assert ADAPTER.classes({"out": (1, 21, 65, 65)}) == 21
    assert ADAPTER.classes({"out": (1, 1, 65, 65)}) is None
    assert ADAPTER.classes({"out": (1, 150, 16, 16)}) is None
    assert ADAPTER.classes({"labels": (1, 65, 65)}) is None


@pytest.mark.parametrize(
    "shapes",
    [
        {"probs": (1, 1000)},
        {"probs": (1, 1000, 1, 1)},
        {"boxes": (1, 4420, 4), "scores": (1, 4420, 2)},
        {"out": (1, 3, 12, 12)},
        {"output0": (1, 300, 38), "output1": (1, 32, 3, 5)},
    ],
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    assert reason.startswith("output of (N, classes, rows, columns) or (N, rows, columns), rows to columns as 12 to 20")
    with pytest.raises(ModelError, match="rows to columns"):
        ADAPTER.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)
