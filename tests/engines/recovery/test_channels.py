"""Which operators keep channels apart and to scale, and which do not."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from engines.passes.prepare import prepared
from engines.recovery.affine import affines
from engines.recovery.channels import way_from
from tests.engines.networks import Net


def between(build, *, outputs=("y",), samples="N", wide=8):
    """The way from a convolution of 8 channels, 6x6, through what `build` puts behind it; it reads `a`, gives `y`."""
    net = Net()
    net.conv(net.input(shape=(samples, 3, 6, 6)), "a", 8, 3, 3, 3)
    build(net)
    if wide:
        net.conv("f", "y", 4, wide, 1, 1)
    graph = prepared(net.model(*outputs))
    layers, _ = affines(graph)
    return way_from(layers["a/Conv"], {layer.node: layer for layer in layers.values()})


def put(operator, inputs="a", to="f", **attributes):
    def build(net):
        net.constant("slope", np.full((8, 1, 1), 0.1, np.float32))
        net.constant("zero", np.float32(0))
        net.constant("one", np.float32(1))
        net.constant("six", np.float32(6))
        net.constant("space", np.array([2, 3], np.int64))
        net.constant("channels", np.array([1], np.int64))
        net.constant("ends", np.array([0, 0, 1, 2, 0, 0, 1, 0], np.int64))
        net.constant("wider", np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64))
        net.node(operator, inputs, to, **attributes)

    return build


PASSES = {
    "nothing": put("Identity"),
    "Relu": put("Relu"),
    "LeakyRelu": put("LeakyRelu", alpha=0.2),
    "PRelu": put("PRelu", "a slope"),
    "Clip from 0 on": put("Clip", "a zero"),
    "MaxPool": put("MaxPool", kernel_shape=[2, 2]),
    "AveragePool": put("AveragePool", kernel_shape=[2, 2]),
    "GlobalAveragePool": put("GlobalAveragePool"),
    "GlobalMaxPool": put("GlobalMaxPool"),
    "ReduceMean": put("ReduceMean", axes=[-1, 2]),
    "Pad": put("Pad", "a ends zero"),
    "Pad by reflection": put("Pad", "a ends", mode="reflect"),
    "Dropout": put("Dropout"),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_keeps_channels_to_scale(name):
    way = between(PASSES[name])
    assert [(reader.layer.name, reader.repeat) for reader in way.readers] == [("y/Conv", 1)]
    assert way.clips == ()


STOPS = {
    "Sigmoid": (put("Sigmoid"), "f/Sigmoid (Sigmoid) reads a, and does not keep"),
    "Softmax": (put("Softmax", axis=1), "does not keep channels apart"),
    "Add": (put("Add", "a a"), "f/Add (Add) reads a"),
    "Mul": (put("Mul", "a slope"), "does not keep"),
    "Transpose": (put("Transpose", perm=[0, 1, 3, 2]), "does not keep"),
    "Clip from 1 on": (put("Clip", "a one"), "in a way that may mix"),
    "Pad of channels": (put("Pad", "a wider zero"), "in a way that may mix"),
    "Pad with ones": (put("Pad", "a ends one"), "in a way that may mix"),
    "ReduceMean of channels": (put("ReduceMean", axes=[1]), "in a way that may mix"),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_does_not(name):
    build, words = STOPS[name]
    wide = {"Pad of channels": 9, "ReduceMean of channels": 1}.get(name, 8)
    way = between(build, wide=wide)
    assert isinstance(way, str)
    assert words in way


def test_a_clip_below_a_constant_without_a_lower_end():
    def build(net):
        net.constant("six", np.float32(6))
        net.nodes.append(helper.make_node("Clip", ["a", "", "six"], ["f"], name="f/Clip"))

    assert "f/Clip (Clip) reads a in a way that may mix" in between(build)


def test_a_slope_that_is_computed():
    def build(net):
        net.input("slope", (1,))
        net.node("PRelu", "a slope", "f")

    assert "f/PRelu (PRelu) reads a in a way that may mix" in between(build)


def test_relu6_is_on_the_way_and_told():
    way = between(put("Clip", "a zero six"))
    (clip,) = way.clips
    assert (clip.node.name, clip.highest, clip.behind, len(way.readers)) == ("f/Clip", 6.0, 2, 1)


def test_all_that_reads_the_channels():
    def build(net):
        net.node("Relu", "a", "f")
        net.conv("f", "z", 4, 8, 3, 3)
        net.conv("a", "x2", 8, 1, 3, 3, group=8)

    way = between(build, outputs=("y", "z", "x2"))
    assert {reader.layer.name for reader in way.readers} == {"z/Conv", "y/Conv", "x2/Conv"}


def test_one_reader_that_mixes_stops_all():
    def build(net):
        net.node("Relu", "a", "f")
        net.node("Add", "f a", "z")

    assert "z/Add (Add) reads" in between(build, outputs=("y", "z"))


@pytest.mark.parametrize("outputs", [("y", "a"), ("y", "f")])
def test_an_output_of_the_model_stops(outputs):
    assert f"its output {outputs[1]} is the model's too" in between(put("Relu"), outputs=outputs)


def flatten(net, operator="Flatten", *sizes, **attributes):
    inputs = "p"
    if sizes:
        inputs += " " + net.constant("shape", np.array(sizes, np.int64))
    net.node("MaxPool", "a", "p", kernel_shape=[2, 2], strides=[2, 2])
    net.node(operator, inputs, "f", **attributes)
    net.weight("w", 72, 4)
    net.node("MatMul", "f w", "y")


FLAT = {
    "Flatten": ("N", flatten),
    "Reshape 0, -1": ("N", lambda net: flatten(net, "Reshape", 0, -1)),
    "Reshape -1, 72": ("N", lambda net: flatten(net, "Reshape", -1, 72)),
    "Reshape 1, 72 of one sample": (1, lambda net: flatten(net, "Reshape", 1, 72)),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_map_that_is_flattened(name):
    samples, build = FLAT[name]
    way = between(build, samples=samples, wide=0)
    assert [(reader.layer.name, reader.repeat) for reader in way.readers] == [("y/MatMul", 9)]


def cut(net, operator, width, *sizes, **attributes):
    flatten(net, operator, *sizes, **attributes)
    net.nodes[-1].input[1] = net.weight("v", width, 4)


CUT = {
    "two rows of each sample": lambda net: cut(net, "Reshape", 36, -1, 36),
    "rows of channels": lambda net: cut(net, "Flatten", 9, axis=2),
    "three axes": lambda net: cut(net, "Reshape", 8, -1, 9, 8),
}


@pytest.mark.parametrize("name", CUT)
def test_a_map_that_is_cut_otherwise(name):
    assert " reads p in a way that may mix channels" in between(CUT[name], wide=0)


def test_rows_of_products_and_their_last_axis():
    net = Net()
    net.weight("w", 8, 6)
    net.weight("v", 6, 4)
    net.node("MatMul", f"{net.input(shape=('N', 5, 8))} w", "a")
    net.node("Relu", "a", "f")
    net.node("MatMul", "f v", "y")
    layers, _ = affines(prepared(net.model("y")))
    way = way_from(layers["a/MatMul"], {layer.node: layer for layer in layers.values()})
    assert [reader.layer.name for reader in way.readers] == ["y/MatMul"]


def test_channels_on_another_axis_than_the_product_sums_over():
    net = Net()
    net.conv(net.input(shape=("N", 3, 6, 8)), "a", 8, 3, 3, 3)
    net.weight("w", 8, 4)
    net.node("MatMul", "a w", "y")
    layers, _ = affines(prepared(net.model("y")))
    way = way_from(layers["a/Conv"], {layer.node: layer for layer in layers.values()})
    assert way == "y/MatMul reads its channels on another axis"


def test_a_branch_of_control_flow_that_reads_it():
    net = Net()
    net.conv(net.input(shape=("N", 3, 6, 6)), "a", 8, 3, 3, 3)
    net.conv("a", "y", 4, 8, 1, 1)
    net.input("choice", (), TensorProto.BOOL)
    branches = [
        helper.make_graph(
            [helper.make_node("Relu", ["a"], [f"{name}_out"], name=f"{name}/Relu")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name in ("then", "other")
    ]
    net.nodes.append(
        helper.make_node("If", ["choice"], ["z"], name="z/If", then_branch=branches[0], else_branch=branches[1])
    )
    layers, _ = affines(ir.from_proto(net.model("y", "z")))
    way = way_from(layers["a/Conv"], {layer.node: layer for layer in layers.values()})
    assert "reads a inside a branch of control flow" in way
