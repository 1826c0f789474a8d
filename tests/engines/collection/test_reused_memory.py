"""Activations in memory that is used again."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from engines.collection.activation_sessions import Fetch
from engines.collection.reused_memory import ALIGNMENT, Bound, Layout
from tests.engines.networks import Net

RNG = np.random.default_rng(0)


def opened(net: Net, *outputs: str) -> Fetch:
    model = net.model(*outputs)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return Fetch(session, {f"activation {name}": name for name in outputs})


def chain() -> Fetch:
    net = Net()
    net.input("x", ("N", "M"))
    net.node("Relu", "x", "y")
    net.node("Tanh", "y", "z")
    return opened(net, "y", "z")


def sample(*shape: int) -> dict[str, Any]:
    return {"x": RNG.standard_normal(shape).astype(np.float32)}


def expected(inputs: dict[str, Any]) -> dict[str, Any]:
    y = np.maximum(inputs["x"], 0)
    return {"activation y": y, "activation z": np.tanh(y)}


def assert_right(bound: Bound, inputs: dict[str, Any]) -> None:
    found = bound.run(inputs)
    assert list(found) == ["activation y", "activation z"]
    for name, values in expected(inputs).items():
        assert found[name].shape == values.shape
        assert np.allclose(found[name], values, atol=1e-6)


def test_runs_share_their_memory() -> None:
    inputs = sample(1, 5)
    bound = Bound(chain(), Layout.of(inputs, expected(inputs)))
    first = bound.run(inputs)
    places = {name: array.ctypes.data for name, array in first.items()}
    for _ in range(3):
        inputs = sample(1, 5)
        assert_right(bound, inputs)
        assert {name: array.ctypes.data for name, array in bound.run(inputs).items()} == places
    assert all(place % ALIGNMENT == 0 for place in places.values())


def test_tensors_do_not_overlap() -> None:
    inputs = sample(3, 77)
    found = Bound(chain(), Layout.of(inputs, expected(inputs))).run(inputs)
    assert not np.shares_memory(found["activation y"], found["activation z"])


def test_another_shape_takes_memory_of_its_own_and_the_next_is_as_before() -> None:
    inputs = sample(1, 5)
    bound = Bound(chain(), Layout.of(inputs, expected(inputs)))
    for shape in ((1, 5), (1, 9), (2, 5), (1, 5)):
        assert_right(bound, sample(*shape))


def test_nothing_needs_to_be_known() -> None:
    assert_right(Bound(chain(), None), sample(2, 3))


def test_a_layout_that_is_wrong_is_given_up() -> None:
    inputs = sample(1, 5)
    wrong = expected(inputs) | {"activation z": np.zeros((1, 6), np.float32)}
    bound = Bound(chain(), Layout.of(inputs, wrong))
    assert_right(bound, inputs)
    assert_right(bound, inputs)


def test_shapes_that_depend_on_values() -> None:
    net = Net()
    net.input("x", ("N",))
    net.node("NonZero", "x", "places")
    net.node("Cast", "places", "y", to=TensorProto.FLOAT)
    fetch = opened(net, "y")
    first = {"x": np.array([1, 0, 2], np.float32)}
    bound = Bound(fetch, Layout.of(first, {"activation y": np.zeros((1, 2), np.float32)}))
    assert bound.run(first)["activation y"].tolist() == [[0.0, 2.0]]
    assert bound.run({"x": np.array([0, 0, 2], np.float32)})["activation y"].tolist() == [[2.0]]


def test_an_empty_tensor_needs_no_memory() -> None:
    inputs = sample(0, 5)
    assert_right(Bound(chain(), Layout.of(inputs, expected(inputs))), inputs)


def test_what_onnx_runtime_refuses_comes_out() -> None:
    inputs = sample(1, 5)
    bound = Bound(chain(), Layout.of(inputs, expected(inputs)))
    with pytest.raises(Exception, match="x"):
        bound.run({"x": np.zeros((1, 5), np.int64)})


def test_another_session_takes_the_memory_over() -> None:
    inputs = sample(1, 5)
    bound = Bound(chain(), Layout.of(inputs, expected(inputs)))
    before = {name: array.ctypes.data for name, array in bound.run(inputs).items()}
    moved = bound.moved_to(chain())
    assert_right(moved, inputs)
    assert {name: array.ctypes.data for name, array in moved.run(inputs).items()} == before


def test_memory_that_nobody_knows_yet_is_not_taken_over() -> None:
    assert_right(Bound(chain()).moved_to(chain()), sample(2, 3))


def test_shapes_are_expected_by_the_names_of_their_sizes() -> None:
    inputs = sample(4, 7)
    assert Layout.expected(chain(), inputs) == Layout.of(inputs, expected(inputs))


def test_shapes_that_onnx_runtime_does_not_know_are_not_expected() -> None:
    net = Net()
    net.input("x", ("N",))
    net.node("NonZero", "x", "places")
    net.node("Cast", "places", "y", to=TensorProto.FLOAT)
    assert Layout.expected(opened(net, "y"), {"x": np.ones(3, np.float32)}) is None
