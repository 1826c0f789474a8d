"""Weights that are computed from constants are constants, however large they are."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.passes.prepare import UNPROVED, prepared
from engines.qdq.write import quantizable_tensors, quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net

WIDE = 96
"""96 x 96 numbers are more than onnxscript folds."""


def product(*nodes, size=WIDE, **constants):
    """x times a matrix "w" that is computed from constants."""
    net = Net(opset=17)
    for name, value in constants.items():
        net.constant(name, np.asarray(value))
    for operator, inputs, outputs, attributes in nodes:
        net.node(operator, inputs, outputs, **attributes)
    net.node("MatMul", net.input("x", ("N", 8, size)) + " w", "y")
    return net.model("y")


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


FUSED = numbers(WIDE, 3 * WIDE)
COMPUTED = {
    "cast": (("Cast", "v", "w", {"to": TensorProto.FLOAT}), {"v": numbers(WIDE, WIDE, dtype=np.float16)}),
    "scaled": (("Mul", "v g", "w", {}), {"v": numbers(WIDE, WIDE), "g": numbers(1, WIDE)}),
    "reshaped": (("Reshape", "v s", "w", {}), {"v": numbers(WIDE * WIDE), "s": np.array([WIDE, WIDE])}),
    "joined": (("Concat", "v v", "w", {"axis": 1}), {"v": numbers(WIDE, WIDE // 2)}),
    "sliced": (
        ("Slice", "v b e a", "w", {}),
        {"v": FUSED, "b": np.array([WIDE]), "e": np.array([2 * WIDE]), "a": np.array([1])},
    ),
    "split": (("Split", "v", "unread w other", {"axis": 1}), {"v": FUSED}),
    "gathered": (("Gather", "v i", "w", {}), {"v": numbers(2 * WIDE, WIDE), "i": np.arange(WIDE)}),
    "squeezed": (("Squeeze", "v a", "w", {}), {"v": numbers(1, WIDE, WIDE), "a": np.array([0])}),
    "filled": (("ConstantOfShape", "s", "w", {}), {"s": np.array([WIDE, WIDE])}),
    "expanded": (("Expand", "v s", "w", {}), {"v": numbers(WIDE, 1), "s": np.array([WIDE, WIDE])}),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_weight_is_quantized(kind):
    node, constants = COMPUTED[kind]
    if kind == "filled":
        node = (*node[:3], {"value": onnx.numpy_helper.from_array(np.array([0.5], np.float32))})
    model = product(node, **constants)
    graph = prepared(model)
    assert [each.op_type for each in graph.graph] == ["MatMul"]
    assert graph.meta[UNPROVED] == ""
    result = quantize(model, {"x": 0.02})
    assert not result.left_float
    assert [tensor.name for tensor in result.model.graph.initializer if tensor.dims == [WIDE, WIDE]] == ["w_quantized"]


def test_a_chain_of_any_length():
    """Weight normalization: v * g / |v|, and a fused one cut apart behind it."""
    net = Net(opset=17)
    net.constant("v", numbers(WIDE, 3 * WIDE))
    net.constant("g", numbers(1, 3 * WIDE))
    net.node("ReduceL2", "v", "length", axes=[0], keepdims=1)
    net.node("Div", "g length", "factor")
    net.node("Mul", "v factor", "whole")
    net.node("Split", "whole", "q k v_", axis=1)
    x = net.input("x", ("N", 8, WIDE))
    for name in ("q", "k", "v_"):
        net.node("MatMul", f"{x} {name}", f"{name}_out")
    model = net.model("q_out", "k_out", "v__out")
    assert [each.op_type for each in prepared(model).graph] == ["MatMul"] * 3
    assert not quantize(model, {"x": 0.02}).left_float


def test_a_file_is_folded_as_what_is_in_memory(tmp_path):
    node, constants = COMPUTED["cast"]
    path = tmp_path / "model.onnx"
    onnx.save(product(node, **constants), path)
    assert quantizable_tensors(path, light=True) == ("x",)


def test_what_is_random_or_too_large_stays():
    net = Net(opset=17)
    net.node("RandomNormal", "", "noise", shape=[8, WIDE])
    net.constant("shape", np.array([600, 8, WIDE], np.int64))
    net.node("ConstantOfShape", "shape", "mask")
    net.constant("w", numbers(WIDE, WIDE))
    net.node("Add", net.input("x", ("N", 8, WIDE)) + " mask", "a")
    net.node("MatMul", "a w", "b")
    net.node("Add", "b noise", "y")
    assert [each.op_type for each in prepared(net.model("y"), light=True).graph] == [
        "RandomNormal", "ConstantOfShape", "Add", "MatMul", "Add",
    ]  # fmt: skip


def test_an_output_that_is_constant_stays_an_output():
    net = Net(opset=17)
    net.constant("v", numbers(WIDE, WIDE, dtype=np.float16))
    net.node("Cast", "v", "w", to=TensorProto.FLOAT)
    net.node("MatMul", net.input("x", ("N", 8, WIDE)) + " w", "y")
    made = ir.to_proto(prepared(net.model("y", "w")))
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.output] == ["y", "w"]
    assert not quantize(net.model("y", "w"), {"x": 0.02}).left_float


def halved_twice():
    """The body of a Loop that halves what it carries, by a constant from outside of it."""
    scalars = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("go", 9), ("gone", 9))]
    carried = [helper.make_tensor_value_info(name, 1, None) for name in ("h", "half_h")]
    nodes = [helper.make_node("Mul", ["h", "half"], ["half_h"]), helper.make_node("Identity", ["go"], ["gone"])]
    return helper.make_graph(nodes, "body", [*scalars[:2], carried[0]], [scalars[2], carried[1]])


FILL = onnx.numpy_helper.from_array(np.array([0.5], np.float32))
THROUGH_SHAPES = {
    "filled like a weight": [
        ("Shape", "v", "s", {}), ("ConstantOfShape", "s", "c", {"value": FILL}), ("Mul", "c v", "w", {}),
    ],
    "reshaped like another": [
        ("Identity", "v", "u", {}), ("Shape", "u", "s", {}), ("Reshape", "v s", "r", {}), ("Neg", "r", "w", {}),
    ],
    "in a loop": [("Loop", "two yes v", "w", {"body": halved_twice()})],
}  # fmt: skip


@pytest.mark.parametrize("size", [32, WIDE])
@pytest.mark.parametrize("kind", THROUGH_SHAPES)
def test_what_depends_on_no_input_is_a_constant(kind, size):
    outside = {"two": np.array(2), "yes": np.array(True), "half": np.float32(0.5)} if kind == "in a loop" else {}
    graph = prepared(product(*THROUGH_SHAPES[kind], size=size, v=numbers(size, size), **outside))
    assert [each.op_type for each in graph.graph] == ["MatMul"]
    assert graph.meta[UNPROVED] == ""


def test_an_operator_of_onnx_runtime_on_a_constant():
    model = product(("Gelu", "v", "w", {"domain": "com.microsoft"}), v=numbers(WIDE, WIDE))
    graph = prepared(model)
    assert [each.op_type for each in graph.graph] == ["MatMul"]
    assert set(graph.opset_imports) == {""}


def test_what_is_no_constant_is_told_why():
    noise = product(("RandomNormal", "", "r", {"shape": [WIDE, WIDE]}), ("Neg", "r", "w", {}))
    with pytest.raises(ModelError, match="its weights are random numbers, which RandomNormal makes at run time"):
        quantize(noise, {"x": 0.02})
    like = product(("Shape", "x", "s", {}), ("Reshape", "v s", "r", {}), ("Squeeze", "r", "w", {}), v=numbers(1, 8, 96))
    with pytest.raises(ModelError, match="computed at run time, from an input's shape"):
        quantize(like, {"x": 0.02})


def test_weights_that_a_pad_makes_are_quantized_and_the_model_runs():
    """ONNX Runtime's fusion takes that Pad for one of the convolution's input."""
    net = Net(opset=17)
    net.constant("v", numbers(16, 16, 1, 1))
    net.constant("around", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    net.node("Pad", "v around", "w")
    net.node("Conv", net.input("x", ("N", 16, 8, 8)) + " w", "y", pads=[1] * 4)
    model, batch = net.model("y"), {"x": numbers(4, 16, 8, 8)}
    quantized = quantize(model, calibrate(collect(model, [batch]), "minmax"))
    with OnnxRuntimeSession(model) as floats, OnnxRuntimeSession(quantized.model) as session:
        expected, actual = (each.run(batch)["y"] for each in (floats, session))
    assert 10 * np.log10(np.sum(expected**2) / np.sum((expected - actual) ** 2)) > 30
