"""Models that ONNX Runtime has optimized, without the nodes that put blocks into plain order."""

import pytest
from onnx import TensorProto, helper

from engines.collection.blocked_layout import BLOCKED, without_reordering


def optimized(channels, *nodes, outputs=("a", "b")):
    """x, in blocks, through a convolution; then what `nodes` do with its result, which is `blocked` and in plain order
    `a`."""
    convolution = helper.make_node("Conv", ["x", "w"], ["blocked"], domain=BLOCKED)
    plain = helper.make_node("ReorderOutput", ["blocked"], ["a"], domain=BLOCKED, channels=channels)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 4, 4])
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    return helper.make_model(helper.make_graph([convolution, plain, *nodes], "optimized", [value], results))


def operators(model):
    return [node.op_type for node in model.graph.node]


def test_a_blocked_tensor_is_handed_out_as_it_is():
    model = optimized(32, outputs=["a"])
    assert without_reordering(model) == {"a": "blocked"}
    assert operators(model) == ["Conv"]
    assert [value.name for value in model.graph.output] == ["blocked"]


@pytest.mark.parametrize("channels", [8, 24, 3])
def test_blocks_that_are_not_full_stay_as_they_were(channels):
    """Padding would get among the values."""
    model = optimized(channels, outputs=["a"])
    assert without_reordering(model) == {}
    assert operators(model) == ["Conv", "ReorderOutput"]


def test_pointwise_operators_stay_in_blocks():
    rectified = helper.make_node("Relu", ["a"], ["b"])
    again = helper.make_node("ReorderInput", ["b"], ["b_blocked"], domain=BLOCKED)
    then = helper.make_node("Conv", ["b_blocked", "v"], ["c"], domain=BLOCKED)
    model = optimized(16, rectified, again, then, outputs=["a", "b", "c"])
    assert without_reordering(model) == {"a": "blocked", "b": "b_blocked"}
    assert operators(model) == ["Conv", "Relu", "Conv"]
    assert list(model.graph.node[1].input) == ["blocked"]
    assert [value.name for value in model.graph.output] == ["blocked", "b_blocked", "c"]


def test_other_operators_keep_their_plain_input():
    softmax = helper.make_node("Softmax", ["a"], ["b"])
    model = optimized(16, softmax)
    assert without_reordering(model) == {"a": "blocked"}
    assert operators(model) == ["Conv", "ReorderOutput", "Softmax"]


def test_nothing_in_blocks():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "plain", [value], [])
    graph.output.append(helper.make_empty_tensor_value_info("y"))
    assert without_reordering(helper.make_model(graph)) == {}
