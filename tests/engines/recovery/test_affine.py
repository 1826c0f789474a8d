"""Layers as y = W x + b, wherever the graph keeps b."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from engines.graph.writer import GraphWriter
from engines.passes.prepare import prepared
from engines.recovery.affine import (
    affines,
    bias_name,
    bias_of,
    floats_of,
    give_biases,
    matrices,
    set_bias,
    set_weight,
    weight_of,
)
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of


def conv(*shape, channels=8, operator="Conv", bias=True, **attributes):
    net = Net()
    net.conv(net.input(shape=("N", channels, 6, 6)), "y", *shape, operator=operator, bias=bias, **attributes)
    return net


def added(*sizes, bias=False):
    """A convolution and an Add of a constant of this shape."""
    net = conv(6, 8, 3, 3, bias=bias)
    net.constant("c", net.random.standard_normal(sizes).astype(np.float32))
    net.node("Add", "c y", "z")
    return net.model("z")


def product(operator="MatMul", *, shape=("N", 8), bias=None, named=True, adds=None, **attributes):
    net = Net(named=named)
    net.weight("w", *((6, 8) if attributes.get("transB") else (8, 6)))
    names = f"{net.input(shape=shape)} w"
    if bias is not None:
        names += " " + net.constant("b", net.random.standard_normal(bias).astype(np.float32))
    output = net.node(operator, names, "y", **attributes)
    if adds is not None:
        net.constant("c", net.random.standard_normal(adds).astype(np.float32))
        output = net.node("Add", "y c", "z")
    return net.model(output)


def the(model):
    graph = prepared(model)
    found, others = affines(graph)
    assert others == {}
    (layer,) = found.values()
    return graph, layer


def run(model, batch):
    with OnnxRuntimeSession(model) as session:
        (output,) = session.run(batch).values()
    return output


LAYERS = {
    "a convolution": (conv(6, 8, 3, 3).model("y"), 6),
    "without bias": (conv(6, 8, 3, 3, bias=False).model("y"), None),
    "grouped": (conv(6, 4, 3, 3, group=2).model("y"), 6),
    "transposed": (conv(8, 3, 3, 3, operator="ConvTranspose", group=2).model("y"), 6),
    "transposed, without bias": (conv(8, 3, 3, 3, operator="ConvTranspose", group=2, bias=False).model("y"), None),
    "its bias in an Add": (added(6, 1, 1), 6),
    "its bias in an Add, all axes": (added(1, 6, 1, 1), 6),
    "one bias for all channels": (added(1), 6),
    "a product": (product(), None),
    "a product without a name": (product(named=False), None),
    "rows of products": (product(shape=("N", 5, 8)), None),
    "a product and an Add": (product(adds=(6,)), 6),
    "a product and an Add of one number": (product(adds=()), 6),
    "rows and an Add": (product(shape=("N", 5, 8), adds=(1, 1, 6)), 6),
    "Gemm": (product("Gemm", bias=(6,)), 6),
    "Gemm, its bias a row": (product("Gemm", bias=(1, 6)), 6),
    "Gemm, one bias": (product("Gemm", bias=(1,)), 6),
    "Gemm, scaled": (product("Gemm", bias=(6,), alpha=0.5, beta=3.0, transB=1), 6),
    "Gemm without bias": (product("Gemm", alpha=0.5, transB=1), None),
    "Gemm and an Add": (product("Gemm", adds=(6,), beta=2.0), 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_bias_that_is_set_is_what_the_model_adds(name):
    model, known = LAYERS[name]
    batch = samples_of(model, 2, batch=2)[0]
    before, shift = run(model, batch), np.arange(1.0, 7.0)
    graph, layer = the(model)
    bias = bias_of(layer)
    assert (None if bias is None else len(bias)) == known
    assert (layer.outputs, layer.inputs) == (6, 8)
    names = layer.name, layer.output.name
    set_bias(layer, (0 if bias is None else bias) + shift, GraphWriter(graph.graph))
    changed = ir.to_proto(graph)
    onnx.checker.check_model(changed, full_check=True)
    after = run(changed, batch)
    wide = [1, 6, 1, 1] if after.ndim == 4 else [6]
    np.testing.assert_allclose(after, before + shift.reshape(wide), rtol=1e-4, atol=1e-5)
    assert [value.name for value in changed.graph.output] == [value.name for value in model.graph.output]
    _, again = the(changed)
    assert (again.name, again.output.name) == names
    np.testing.assert_allclose(bias_of(again), (0 if bias is None else bias) + shift, rtol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_matrices_and_back(name):
    graph, layer = the(LAYERS[name][0])
    weight = floats_of(layer)
    rows = matrices(weight, layer)
    assert rows.shape == layer.shape
    np.testing.assert_array_equal(weight_of(rows, layer), weight)
    set_weight(layer, weight_of(2 * rows, layer))
    _, changed = the(ir.to_proto(graph))
    np.testing.assert_array_equal(floats_of(changed), 2 * weight)


@pytest.mark.parametrize("sizes", [(6, 6, 6), (1, 6, 6, 6), (6,), (1, 1, 6, 1, 1)])
def test_what_is_no_bias_stays_an_addition(sizes):
    _, layer = the(added(*sizes))
    assert (layer.adding, bias_of(layer), layer.output.name) == (None, None, "y")


def test_a_second_bias_stays_an_addition():
    _, layer = the(added(6, 1, 1, bias=True))
    assert layer.adding is None
    assert layer.output.name == "y"


def test_an_output_of_the_model_is_read_before_the_addition():
    net = conv(6, 8, 3, 3, bias=False)
    net.constant("c", np.ones((6, 1, 1), np.float32))
    net.node("Add", "c y", "z")
    _, layer = the(net.model("z", "y"))
    assert layer.adding is None


def test_biases_that_layers_share_become_their_own():
    net = Net()
    net.constant("b", np.ones(8, np.float32))
    x = net.input()
    for name in ("p", "q", "r"):
        net.weight(f"{name}_w", 8, 8, 1, 1)
        x = net.node("Conv", f"{x} {name}_w b", name)
    net.weight("w", 8, 4)
    net.node("MatMul", "r w", "y")
    net.node("MatMul", "r w", "z")
    graph = ir.from_proto(net.model("y", "z"))
    layers, _ = affines(graph)
    layers = give_biases(graph, layers.values())
    names = [bias_name(layer) for layer in layers.values()]
    assert len(set(names)) == 5
    assert [layer.shared for layer in layers.values()] == [False, False, False, True, True]
    np.testing.assert_array_equal(bias_of(layers["q/Conv"]), np.ones(8))
    np.testing.assert_array_equal(bias_of(layers["y/MatMul"]), np.zeros(4))


@pytest.mark.parametrize("kind", ["computed", "by row", "of float64"])
def test_what_has_another_bias_is_named(kind):
    net = Net()
    net.input("rows", (3, 8))
    net.weight("w", 8, 6)
    net.constant("c", np.ones((3, 1) if kind == "by row" else 6, np.float32))
    if kind == "computed":
        net.node("Mul", "scale c", "b")
        net.input("scale", (1,))
    net.node("Gemm", f"rows w {'b' if kind == 'computed' else 'c'}", "y")
    net.weight("v", 6, 2)
    net.node("MatMul", "y v", "z")
    model = net.model("z")
    if kind == "of float64":
        (tensor,) = (each for each in model.graph.initializer if each.name == "c")
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(6), "c"))
    found, others = affines(ir.from_proto(model))
    assert list(found) == ["z/MatMul"]
    wanted = "its bias is no constant" if kind == "computed" else "its bias is not one number per channel"
    assert others == {"y/Gemm": wanted}
