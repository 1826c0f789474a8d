"""Layers with weights that are never quantized: each is named, with the reason, and counted."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError
from engines.qdq.dynamic import quantize_dynamic
from engines.qdq.write import quantize
from engines.structure.lint import float_layers, structure_of
from tests.engines.networks import Net

ONNX_RUNTIME = "com.microsoft"


def weights(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def network(operator, constants, *, domain="", shape=("N", 6, 16), outputs="last", **attributes):
    """A MatMul, and behind it one operator more."""
    net = Net()
    net.input("x", shape)
    net.node("MatMul", f"x {net.weight('w', 16, 16)}", "m")
    for name, value in constants.items():
        net.constant(name, value)
    read = ["m", *constants]
    net.nodes.append(helper.make_node(operator, read, outputs.split(), "layer", domain=domain, **attributes))
    model = net.model(outputs.split()[0])
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def recurrent(operator, gates):
    constants = {"W": weights(1, gates * 4, 16), "R": weights(1, gates * 4, 4)}
    return network(operator, constants, shape=(3, "N", 16), hidden_size=4)


CASES = {
    "LSTM": lambda: recurrent("LSTM", 4),
    "GRU": lambda: recurrent("GRU", 3),
    "RNN": lambda: recurrent("RNN", 1),
    "Einsum": lambda: network("Einsum", {"k": weights(16, 4)}, equation="abc,cd->abd"),
    "FusedMatMul": lambda: network("FusedMatMul", {"k": weights(4, 16)}, domain=ONNX_RUNTIME, transB=1),
    "Attention": lambda: network(
        "Attention", {"k": weights(16, 24), "b": weights(24)}, domain=ONNX_RUNTIME, num_heads=2
    ),
}


def quantized(model):
    return quantize(model, {"x": 0.03})


@pytest.mark.parametrize("operator", CASES)
def test_it_is_named_with_the_reason(operator):
    model = CASES[operator]()
    (why,) = (why for name, why in quantized(model).left_float.items() if name == "layer")
    assert operator in why and "Conv, ConvTranspose, Gemm and MatMul" in why
    assert ("ONNX Runtime" in why) == bool(model.graph.node[1].domain)
    assert quantize_dynamic(model).left_float["layer"] == why


@pytest.mark.parametrize("operator", CASES)
def test_it_is_counted_among_the_weighted_operators(operator):
    result = quantized(CASES[operator]()).model
    for model in (CASES[operator](), result):
        found = structure_of(model)
        assert [(each.node, each.op_type) for each in found.operators] == [("m/MatMul", "MatMul"), ("layer", operator)]
        assert not found.operators[1].quantized
        assert float_layers(model).keys() == {"layer"}


def test_deformable_convolutions():
    net = Net(opset=19)
    net.input("x", ("N", 4, 8, 8))
    net.conv("x", "offset", 18, 4, 3, 3)
    net.node("DeformConv", f"x {net.weight('w', 4, 4, 3, 3)} offset", "y", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    assert "DeformConv" in quantize(net.model("y"), {"x": 0.03}).left_float["y/DeformConv"]


@pytest.mark.parametrize(
    "operator, constant, named",
    [
        ("MyConv", weights(4, 8, 3, 3), True),
        ("MyBias", weights(8), False),
        ("MyInt8", weights(8, 8).astype(np.int8), False),
    ],
)
def test_any_operator_of_onnx_runtime_with_a_matrix_of_floats(operator, constant, named):
    model = network(operator, {"k": constant}, domain=ONNX_RUNTIME)
    assert list(float_layers(model)) == (["layer"] if named else [])
    left = quantize(model, {"x": 0.03}).left_float
    assert ("ONNX Runtime's MyConv" in left["layer"]) if named else (left == {})


def test_what_multiplies_nothing_or_depends_on_no_input_is_not_named():
    sum_ = network("Einsum", {}, equation="abc->ab")
    assert quantize(sum_, {"x": 0.03}).left_float == {} == float_layers(sum_)
    table = network("EmbedLayerNormalization", {"k": weights(8, 8)}, domain=ONNX_RUNTIME)
    assert float_layers(table) == {}
    apart = network("Relu", {})
    apart.graph.initializer.append(numpy_helper.from_array(weights(2, 2), "c"))
    apart.graph.node.append(helper.make_node("Einsum", ["c", "c"], ["e"], "constant", equation="ab,bc->ac"))
    apart.graph.output.append(helper.make_tensor_value_info("e", TensorProto.FLOAT, [2, 2]))
    assert float_layers(apart) == {}
    assert "constant" not in quantize(apart, {"x": 0.03}).left_float


def test_a_model_of_such_layers_alone_is_refused_by_their_name():
    net = Net()
    net.input("x", (3, "N", 8))
    for name, gates in (("W", 8), ("R", 4)):
        net.constant(name, weights(1, 16, gates))
    net.nodes.append(helper.make_node("LSTM", ["x", "W", "R"], ["y"], "only", hidden_size=4))
    with pytest.raises(ModelError, match="only is not one, for its operator is LSTM"):
        quantize(net.model("y"), {"x": 0.03})


def compressed():
    codes = np.random.default_rng(0).integers(0, 256, (16, 1, 8), dtype=np.uint8)
    constants = {"k": codes, "s": np.full(16, 0.05, np.float32)}
    return network("MatMulNBits", constants, domain=ONNX_RUNTIME, K=16, N=16, bits=4, block_size=16)


def test_weights_that_are_compressed_already():
    model = compressed()
    (why,) = (why for name, why in quantized(model).left_float.items() if name == "layer")
    assert "compressed already, for ONNX Runtime's MatMulNBits" in why
    assert float_layers(quantized(model).model) == {"layer": why}
    assert [each.node for each in structure_of(model).operators] == ["m/MatMul", "layer"]


def with_branches():
    """An If with a MatMul in one branch, and an LSTM within another If in the other."""
    net = Net()
    net.input("x", (3, "N", 16))
    net.node("MatMul", f"x {net.weight('w', 16, 16)}", "m")
    for name, value in (("zero", np.float32(0)), ("W", weights(1, 16, 16)), ("R", weights(1, 16, 4))):
        net.constant(name, value)
    net.node("ReduceSum", "m", "sum", keepdims=0)
    net.node("Greater", "sum zero", "positive")
    product = helper.make_node("MatMul", ["m", net.weight("v", 16, 16)], ["product"], "inner")
    lstm = helper.make_node("LSTM", ["m", "W", "R"], ["state"], "recurrent", hidden_size=4)
    kept = helper.make_node("Neg", ["m"], ["kept"])
    branches = [
        helper.make_graph([node], node.output[0], [], [helper.make_tensor_value_info(node.output[0], 1, None)])
        for node in (product, lstm, kept)
    ]
    nested = helper.make_node("If", ["positive"], ["chosen"], then_branch=branches[1], else_branch=branches[2])
    outer = helper.make_graph([nested], "outer", [], [helper.make_tensor_value_info("chosen", 1, None)])
    net.node("If", "positive", "y", then_branch=branches[0], else_branch=outer)
    return net.model("y")


def test_layers_in_branches_are_named_before_and_after():
    model = with_branches()
    left = quantized(model).left_float
    assert left.keys() == {"inner", "recurrent"}
    assert "inside a branch" in left["inner"] and "LSTM" in left["recurrent"]
    for each in (model, quantized(model).model):
        assert float_layers(each) == left
        assert {layer.node for layer in structure_of(each).operators} == {"m/MatMul", "inner", "recurrent"}
