"""Samples in the groups that a model takes."""

import numpy as np
import pytest

from calibrators.batches import Batch, TensorSpec
from engines.graph.samples import group_size, grouped, split, turned
from tests.engines.networks import Net

SPECS = (TensorSpec("x", (None, 2), np.dtype(np.float32)),)


def batch(*firsts):
    return {"x": np.array([[first, -first] for first in firsts], np.float32)}


@pytest.mark.parametrize("shape, size", [((4, 2), 4), (("N", 2), 1), ((None, 2), 1), ((), 1)])
def test_how_many_samples_a_model_takes(shape, size):
    assert group_size([TensorSpec("x", shape, np.dtype(np.float32))]) == size


def test_one_at_a_time():
    groups = list(grouped([batch(1, 2), Batch(batch(3), names=["cat.png"])], SPECS, 1))
    assert [group.names for group in groups] == [("sample 0",), ("sample 1",), ("cat.png",)]
    assert [group.arrays["x"].tolist() for group in groups] == [[[1, -1]], [[2, -2]], [[3, -3]]]


def test_the_last_group_is_filled_up_with_its_last_sample():
    first, last = grouped([batch(1, 2, 3), batch(4, 5)], SPECS, 3)
    assert first.arrays["x"][:, 0].tolist() == [1, 2, 3]
    assert last.arrays["x"][:, 0].tolist() == [4, 5, 5]
    assert last.names == ("sample 3", "sample 4")


def test_a_tensor_is_cut_into_its_samples():
    assert [part.tolist() for part in split(np.arange(6).reshape(3, 2), 3)] == [[[0, 1]], [[2, 3]], [[4, 5]]]


@pytest.mark.parametrize("values", [np.float32(1), np.zeros(4, np.float32), np.zeros((5, 2), np.float32)])
def test_a_tensor_that_does_not_divide_is_one(values):
    assert len(split(np.asarray(values), 3)) == 1


def test_tensors_whose_samples_lie_on_another_axis():
    net = Net()
    net.node("Transpose", net.input(shape=(2, 3, 4)), "a", perm=[1, 0, 2])
    net.node("Neg", "a", "b")
    net.node("Transpose", "b", "y", perm=[1, 0, 2])
    assert turned(net.model("y")) == {"a", "b"}
