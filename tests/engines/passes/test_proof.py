"""What preparation makes is run beside the original; where they part, the node is named."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibrators.errors import ModelError
from engines.passes import proof
from engines.passes.prepare import UNPROVED, prepared
from engines.passes.proof import proved
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


def two_steps(last="Relu"):
    net = Net()
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node("Softmax", "c", "s", axis=1)
    net.node(last, "s", "y")
    return net.model("y")


def changed(model, change):
    graph = ir.from_proto(model)
    change({node.op_type: node for node in graph.graph})
    return graph


def other_axis(nodes):
    nodes["Softmax"].attributes.add(ir.AttrInt64("axis", 3))


@pytest.mark.parametrize("last", ["Relu", "Sqrt"])
def test_the_node_that_changed_is_named(last):
    model = two_steps(last)
    with pytest.raises(ModelError, match=r"at s/Softmax.*export it with opset 13 or more") as raised:
        proved(model, changed(model, other_axis))
    assert "\n" not in str(raised.value)


def test_the_file_is_proved_as_what_is_in_memory(tmp_path):
    path = tmp_path / "model.onnx"
    model = two_steps()
    onnx.save(model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    with pytest.raises(ModelError, match="at s/Softmax"):
        proved(path, changed(two_steps(), other_axis))


def test_rounding_is_no_change():
    model = two_steps()
    graph = ir.from_proto(model)
    weight = graph.graph.initializers["c_w"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1 + 1e-6), name="c_w")
    graph.graph.sort()
    assert proved(model, graph) == ""


def test_rounding_that_a_network_amplifies_is_no_change():
    net = Net()
    net.node("Mul", net.input("x", ("N", 4, 8, 8)) + " " + net.constant("one", np.ones(1, np.float32)), "m")
    net.node("Mul", "m " + net.constant("steep", np.array([1e6], np.float32)), "s")
    net.node("Sin", "s", "y")
    model = net.model("y")
    graph = ir.from_proto(model)
    graph.graph.initializers["one"].const_value = ir.tensor(np.array([1 + 1e-6], np.float32), name="one")
    assert proved(model, graph) == ""


def test_an_index_that_rounding_moves_is_no_change():
    """Two channels that are the same but for the last digit: which is the largest is chance."""
    net = Net()
    net.node("Mul", net.input("x", ("N", 2, 8, 8)) + " " + net.constant("one", np.ones((2, 1, 1), np.float32)), "m")
    net.node("ReduceSum", "m", "s", keepdims=0)
    net.node("Concat", "m m", "both", axis=1)
    net.node("Mul", "both " + net.constant("even", np.ones((4, 1, 1), np.float32)), "z")
    net.node("ArgMax", "z", "y", axis=1, keepdims=1)
    model = net.model("y", "s")
    graph = ir.from_proto(model)
    less = np.array([1 - 1e-7, 1 - 1e-7, 1, 1], np.float32).reshape(4, 1, 1)
    graph.graph.initializers["even"].const_value = ir.tensor(less, name="even")
    assert proved(model, graph) == ""


@pytest.mark.parametrize("shape", [("N", 3, "H", "W"), ("N", 3, 224, "W"), (4, 3, "S", "S"), (1, 3, 17, 31)])
def test_free_axes_are_tried(shape):
    net = Net(opset=11)
    net.conv(net.input("x", shape), "c", 4, 3, 3, 3)
    net.batch_norm("c", "y", 4)
    assert prepared(net.model("y")).meta[UNPROVED] == ""


def test_what_the_runtime_does_not_know_is_said():
    net = Net(opset=11)
    net.conv(net.input(), "c", 8, 8, 3, 3)
    net.node("Nonsense", "c", "y", domain="com.example")
    assert "ONNX Runtime cannot run the model as it was" in prepared(net.model("y")).meta[UNPROVED]


def test_a_large_model_is_not_run(monkeypatch):
    monkeypatch.setattr(proof, "MOST_WEIGHTS", 100)
    assert "too many" in prepared(ZOO["conv_bn_relu"]().model).meta[UNPROVED]


def test_what_nothing_was_done_to_is_not_run(monkeypatch):
    monkeypatch.setattr(proof, "Judge", None)
    assert prepared(two_steps()).meta[UNPROVED] == ""


def test_a_model_is_proved_once(monkeypatch):
    model = ZOO["conv_bn_relu"]().model
    prepared(model)
    monkeypatch.setattr(proof, "Judge", None)
    assert prepared(model).meta[UNPROVED] == ""
