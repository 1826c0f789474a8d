"""Layers that switch together: those that share a quantized tensor, a scale, or a fused addition; and no others."""

import pytest

from engines.simulation.simulated_model import Simulation
from engines.simulation.switching_groups import switch_groups
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


def groups(model, *, without=()):
    simulation = Simulation(model)
    layers = [layer for layer in simulation.layers if layer.name not in without]
    found = switch_groups(simulation.floats, layers)
    assert sorted(name for group in found for name in group.layers) == sorted(layer.name for layer in layers)
    assert all(group.ties for group in found if len(group.layers) > 1)
    return [set(group.layers) for group in found]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("conv_bn_relu", [{"a/Conv"}, {"y/Conv"}]),
        ("depthwise", [{"a/Conv"}, {"b/Conv"}, {"y/Conv"}]),
        ("identity_skip", [{"stem/Conv"}, {"a/Conv", "b/Conv", "sum/Add"}, {"y/Conv"}]),
        # The shortcut's convolution reads what the block's first one reads; the addition is fused into the last one.
        ("downsample_skip", [{"stem/Conv"}, {"a/Conv", "down/Conv"}, {"b/Conv", "sum/Add"}, {"y/Conv"}]),
        ("padded_skip", [{"stem/Conv"}, {"a/Conv", "b/Conv", "sliced/Slice"}, {"y/Conv"}]),
    ],
)
def test_blocks(name, expected):
    assert groups(ZOO[name]().model) == expected


def test_an_inverted_residual_switches_its_ends_and_leaves_its_depthwise_middle():
    net = Net()
    net.conv(net.input(), "stem", 8, 8, 1, 1)
    net.conv("stem", "expand", 16, 8, 1, 1)
    net.node("Relu", "expand", "expanded")
    net.conv("expanded", "depth", 16, 1, 3, 3, group=16)
    net.node("Relu", "depth", "filtered")
    net.conv("filtered", "project", 8, 16, 1, 1)
    net.node("Add", "project stem", "sum")
    net.conv("sum", "y", 8, 8, 1, 1)
    assert groups(net.model("y")) == [
        {"stem/Conv"},
        {"expand/Conv", "project/Conv", "sum/Add"},
        {"depth/Conv"},
        {"y/Conv"},
    ]


def test_projections_of_one_input_switch_together():
    net = Net()
    net.input(shape=("N", 4, 8))
    for name in ("query", "key", "value"):
        net.weight(f"{name}_w", 8, 8, fan_in=8)
        net.node("MatMul", f"x {name}_w", name)
    net.node("Transpose", "key", "turned", perm=[0, 2, 1])
    net.node("MatMul", "query turned", "weights")
    net.node("Softmax", "weights", "attention", axis=-1)
    net.node("MatMul", "attention value", "mixed")
    net.weight("out_w", 8, 8, fan_in=8)
    net.node("MatMul", "mixed out_w", "y")
    assert groups(net.model("y")) == [{"query/MatMul", "key/MatMul", "value/MatMul"}, {"y/MatMul"}]


def test_a_pooled_tensor_and_the_one_before_it_have_one_scale():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("MaxPool", "a", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "b", 8, 8, 3, 3)
    net.conv("a", "c", 8, 8, 3, 3)
    net.node("GlobalAveragePool", "a", "average")
    net.conv("average", "d", 8, 8, 1, 1)
    assert groups(net.model("b", "c", "d")) == [{"a/Conv"}, {"b/Conv", "c/Conv"}, {"d/Conv"}]


def test_readers_of_a_concatenation_and_of_its_parts_have_one_scale():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.conv("a", "b", 8, 8, 3, 3)
    net.node("Concat", "a b", "joined", axis=1)
    net.conv("joined", "c", 8, 16, 3, 3)
    net.node("Relu", "joined", "positive")
    net.conv("positive", "d", 8, 16, 3, 3)
    assert groups(net.model("c", "d")) == [{"a/Conv"}, {"b/Conv", "c/Conv"}, {"d/Conv"}]


def test_a_layer_that_may_not_switch_ties_no_others():
    model = ZOO["identity_skip"]().model
    assert groups(model, without=["b/Conv"]) == [{"stem/Conv"}, {"a/Conv", "sum/Add"}, {"y/Conv"}]
    assert groups(model, without=["sum/Add"]) == [{"stem/Conv"}, {"a/Conv"}, {"b/Conv"}, {"y/Conv"}]


def test_ties_say_why():
    simulation = Simulation(ZOO["identity_skip"]().model)
    (block,) = [group for group in switch_groups(simulation.floats, simulation.layers) if len(group.layers) > 1]
    assert block.ties == (
        "a/Conv and sum/Add read stem_relu",
        "sum/Add is a residual addition's skip, fused into b/Conv",
    )


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_network_is_divided(name):
    groups(ZOO[name]().model)
