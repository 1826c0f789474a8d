"""New nodes and constants under free names."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from engines.graph.writer import GraphWriter
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


@pytest.fixture
def graph():
    net = Net()
    net.constant("half", np.float32(0.5))
    net.node("Mul", net.input() + " half", "y")
    return ir.from_proto(net.model("y"))


def test_a_node_stands_before_its_reader(graph):
    writer = GraphWriter(graph.graph)
    (reader,) = graph.graph
    (made,) = writer.node("Relu", [reader.inputs[0]], name="relu", outputs=["positive"], before=reader)
    reader.replace_input_with(0, made)
    model = ir.to_proto(graph)
    onnx.checker.check_model(model)
    assert [(node.op_type, node.name, list(node.output)) for node in model.graph.node] == [
        ("Relu", "relu", ["positive"]),
        ("Mul", "y/Mul", ["y"]),
    ]


def test_several_outputs_and_attributes(graph):
    writer = GraphWriter(graph.graph)
    (reader,) = graph.graph
    made = writer.node("Split", [reader.inputs[0]], name="n", outputs=["a", "b"], before=reader, attributes={"axis": 1})
    assert [value.name for value in made] == ["a", "b"]
    assert made[0].producer().attributes["axis"].as_int() == 1


def test_taken_names_get_a_number(graph):
    writer = GraphWriter(graph.graph)
    assert [writer.free(name) for name in ("x", "y", "half", "y/Mul", "new", "new", "new")] == [
        "x_1",
        "y_1",
        "half_1",
        "y/Mul_1",
        "new",
        "new_1",
        "new_2",
    ]


def test_names_inside_branches_are_taken():
    writer = GraphWriter(ir.from_proto(ZOO["branch"]().model).graph)
    assert [writer.free(name) for name in ("inner", "x_scale", "inner/Conv")] == [
        "inner_1",
        "x_scale_1",
        "inner/Conv_1",
    ]


def test_a_constant_is_made_once(graph):
    writer = GraphWriter(graph.graph)
    ones = np.ones(3, np.float32)
    first = writer.constant("ones", ones)
    assert writer.constant("ones", ones.copy()) is first
    others = [writer.constant("ones", other) for other in (ones * 2, ones.astype(np.int8), np.ones((3, 1), np.float32))]
    assert [value.name for value in others] == ["ones_1", "ones_2", "ones_3"]
    assert {"ones", "ones_1", "ones_2", "ones_3"} <= set(graph.graph.initializers)
    assert np.array_equal(first.const_value.numpy(), ones)
