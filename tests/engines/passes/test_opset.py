"""Raising the opset keeps what the operators meant; lowering it takes no more than a new label."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from calibrators.errors import ModelError
from engines.passes.prepare import UNPROVED, prepared
from engines.qdq.write import quantize, save
from tests.engines.networks import Net


def run(model, feed):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feed)


def the_same(model, shape):
    """Prepare a model of one input and compare; return what was made."""
    graph = prepared(model)
    assert graph.meta[UNPROVED] == ""
    made = ir.to_proto(graph)
    onnx.checker.check_model(made, full_check=True)
    feed = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    for expected, actual in zip(run(model, feed), run(made, feed), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    return made


def behind_a_convolution(operator, opset, *, inputs="", constants=(), shape=("N", 4, 8, 8), **attributes):
    net = Net(opset=opset, ir_version=6)
    for name, value in constants:
        net.constant(name, value)
    net.conv(net.input("x", shape), "c", 4, 4, 1, 1)
    net.node(operator, f"c {inputs}".strip(), "y", **attributes)
    return net.model("y")


SCALES = {"whole": [1, 1, 2, 3], "broken": [1, 1, 1.6, 2.7], "shrinking": [1, 1, 0.6, 0.5]}


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("opset", [7, 9, 10, 11])
def test_enlarged_and_shrunk_images(opset, kind, mode):
    scales = np.array(SCALES[kind], np.float32)
    if opset < 10 and kind == "shrinking":
        pytest.skip("Upsample only enlarges")
    if opset == 7:
        model = behind_a_convolution("Upsample", 7, mode=mode, scales=scales.tolist())
    elif opset == 11:
        roi = np.zeros(0, np.float32)
        constants = [("roi", roi), ("s", scales)]
        model = behind_a_convolution("Resize", 11, inputs="roi s", constants=constants, mode=mode)
    else:
        operator = "Upsample" if opset == 9 else "Resize"
        model = behind_a_convolution(operator, opset, inputs="s", constants=[("s", scales)], mode=mode)
    made = the_same(model, (2, 4, 8, 8))
    assert [node.op_type for node in made.graph.node] == ["Conv", "Resize"]


@pytest.mark.parametrize("axis", [None, 1, 2, 3])
@pytest.mark.parametrize("operator", ["Hardmax", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [9, 12])
def test_the_largest_over_all_axes_from_one_on(opset, operator, axis):
    attributes = {} if axis is None else {"axis": axis}
    made = the_same(behind_a_convolution(operator, opset, **attributes), (2, 4, 8, 8))
    assert made.graph.node[-1].output[0] == "y"
    assert next(entry.version for entry in made.opset_import) == 13


def test_the_largest_in_the_middle_of_a_network():
    net = Net(opset=11, ir_version=6)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node("Hardmax", "c", "h")
    net.node("Mul", "h c", "picked")
    net.conv("picked", "y", 4, 4, 1, 1)
    the_same(net.model("h", "y"), (2, 4, 8, 8))


@pytest.mark.parametrize(
    "operator, opset, lowered",
    [("Relu", 28, 21), ("DepthToSpace", 28, 21), ("Flatten", 25, 21), ("Mish", 24, 21)],
)
def test_an_opset_ahead_of_runtimes_is_lowered(operator, opset, lowered):
    attributes = {"blocksize": 2} if operator == "DepthToSpace" else {}
    net = Net(opset=opset, ir_version=13)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node(operator, "c", "y", **attributes)
    made = the_same(net.model("y"), (2, 4, 8, 8))
    assert next(entry.version for entry in made.opset_import) == lowered


def test_an_attribute_that_an_older_opset_lacks_keeps_the_opset():
    net = Net(opset=25, ir_version=13)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node("Cast", "c", "y", to=TensorProto.FLOAT, round_mode="up")
    made = ir.to_proto(prepared(net.model("y")))
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 24)]


def test_operators_of_others_do_not_hinder_lowering():
    net = Net(opset=28, ir_version=13)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node("Nonsense", "c", "y", domain="com.example")
    graph = prepared(net.model("y"))
    assert graph.opset_imports[""] == 21
    assert "com.example" in graph.meta[UNPROVED]
    assert helper.find_min_ir_version_for([helper.make_opsetid("", 21)]) <= graph.ir_version <= 10


def test_an_operator_that_came_late_keeps_its_opset():
    net = Net(opset=28, ir_version=13)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node("Swish", "c", "y")
    assert prepared(net.model("y")).opset_imports[""] == 24


def of_type(operator, element, inputs=1, **attributes):
    """An operator of opset 28 on values of a type, beside a convolution."""
    net = Net(opset=28, ir_version=13)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.node("Cast", "c", "t", to=element)
    net.node(operator, " ".join(["t"] * inputs), "o", **attributes)
    net.node("Cast", "o", "y", to=TensorProto.FLOAT)
    return net.model("y")


@pytest.mark.parametrize(
    "operator, element, inputs, attributes, lowered",
    [
        ("BitShift", TensorProto.UINT8, 2, {"direction": "LEFT"}, 21),
        ("BitShift", TensorProto.INT8, 2, {"direction": "LEFT"}, 28),
        ("Celu", TensorProto.FLOAT, 1, {}, 21),
        ("Celu", TensorProto.DOUBLE, 1, {}, 28),
        ("Mod", TensorProto.INT32, 2, {}, 21),
        ("Mod", TensorProto.FLOAT, 2, {"fmod": 1}, 21),
        ("Mod", TensorProto.FLOAT, 2, {}, 28),
    ],
)
def test_types_and_meanings_that_an_older_opset_lacks_keep_the_opset(operator, element, inputs, attributes, lowered):
    graph = prepared(of_type(operator, element, inputs, **attributes), light=True)
    assert graph.opset_imports[""] == lowered


def test_a_model_that_needs_a_newer_quantizelinear_than_there_is(tmp_path):
    model = of_type("Mod", TensorProto.FLOAT, 2)
    quantized = quantize(model, dict.fromkeys(("x", "c", "t", "o", "y"), 0.1))
    with pytest.raises(ModelError, match=r"QuantizeLinear\(28\).*export it with opset 21$"):
        save(quantized, tmp_path / "model.onnx")
