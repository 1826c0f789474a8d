"""Layers taken apart into matrix products, against ONNX Runtime."""

import numpy as np
import onnx_ir as ir
import pytest

from calibrators.errors import ModelError
from engines.recovery.affine import affines, bias_of, floats_of, matrices
from engines.recovery.patches import columns, given, places_of
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of


def conv(*shape, channels=8, operator="Conv", size=(9, 7), **attributes):
    net = Net()
    net.conv(net.input(shape=("N", channels, *size)), "y", *shape, operator=operator, **attributes)
    return net.model("y")


def product(operator="MatMul", shape=("N", 5, 8), **attributes):
    net = Net()
    transposed = attributes.get("transB", 0)
    net.weight("w", *((6, 8) if transposed else (8, 6)))
    net.node(operator, f"{net.input(shape=shape)} w", "y", **attributes)
    return net.model("y")


CASES = {
    "plain": conv(6, 8, 3, 3),
    "strides": conv(6, 8, 3, 2, strides=[2, 3], pads=[1, 0, 2, 1]),
    "dilated": conv(6, 8, 3, 3, dilations=[2, 1], pads=[2, 1, 2, 1]),
    "grouped": conv(6, 4, 3, 3, group=2),
    "depthwise": conv(8, 1, 3, 3, group=8),
    "depthwise, twice": conv(16, 1, 3, 3, group=8),
    "one axis": conv(6, 8, 3, size=(9,), pads=[1, 1]),
    "three axes": conv(6, 8, 2, 3, 2, size=(4, 5, 3), pads=[1, 1, 0, 0, 1, 1]),
    "same upper": conv(6, 8, 4, 2, auto_pad="SAME_UPPER", strides=[2, 1], pads=None),
    "same lower": conv(6, 8, 4, 2, auto_pad="SAME_LOWER", strides=[2, 1], pads=None),
    "valid": conv(6, 8, 3, 3, auto_pad="VALID", pads=None),
    "transposed": conv(8, 6, 3, 3, operator="ConvTranspose"),
    "transposed, strides": conv(
        8, 6, 3, 2, operator="ConvTranspose", strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2]
    ),
    "transposed, dilated": conv(8, 6, 3, 3, operator="ConvTranspose", dilations=[2, 1], strides=[3, 1]),
    "transposed, grouped": conv(8, 3, 3, 3, operator="ConvTranspose", group=2, strides=[2, 2]),
    "product": product(),
    "product of rows": product(shape=("N", 8)),
    "Gemm": product("Gemm", shape=("N", 8)),
    "Gemm, transposed": product("Gemm", shape=("N", 8), transB=1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_its_matrix_times_its_columns(name):
    model = CASES[name]
    (batch,) = samples_of(model, 3, batch=3)
    with OnnxRuntimeSession(model) as session:
        y = session.run(batch)["y"]
    (layer,) = affines(ir.from_proto(model))[0].values()
    places = np.random.default_rng(0).permutation(places_of(layer, y.shape))
    x, expected = columns(layer, batch["x"], y.shape, places), given(layer, y, places)
    rows = matrices(floats_of(layer), layer)
    bias = bias_of(layer)
    product = np.matmul(rows.reshape(*rows.shape[:2], -1), x)
    computed = product + (0 if bias is None else bias.reshape(*rows.shape[:2], 1))
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5)
    assert expected.size == y.size


def test_a_size_of_the_output_is_refused():
    model = conv(8, 6, 3, 3, operator="ConvTranspose", output_shape=[10, 8], pads=None)
    (layer,) = affines(ir.from_proto(model))[0].values()
    with pytest.raises(ModelError, match="y/ConvTranspose states its output's size"):
        columns(layer, np.zeros((1, 8, 9, 7)), (1, 6, 10, 8), np.array([0]))
