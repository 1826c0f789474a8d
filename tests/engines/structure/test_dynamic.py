"""What a dynamically quantized model shows, and who refuses it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calibrators.errors import BuildError
from engines.build.builder import build_engine
from engines.graph.model import is_quantized
from engines.qdq.dynamic import quantize_dynamic
from engines.qdq.write import quantize
from engines.structure.dynamic import dynamic_refusal
from engines.structure.lint import structure_of
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


@pytest.fixture
def dynamic():
    return quantize_dynamic(ZOO["two_inputs"]().model).model


def test_its_operators_are_described(dynamic):
    structure = structure_of(dynamic)
    convolution, product = structure.operators
    assert (convolution.node, convolution.op_type, convolution.dynamic) == ("a/Conv", "ConvInteger", True)
    assert (product.node, product.op_type, product.dynamic) == ("y/MatMul", "MatMulInteger", True)
    assert [str(each) for each in convolution.inputs] == ["UINT8, scale computed", "INT8 per channel (8, axis 0)"]
    assert [str(each) for each in product.inputs] == ["UINT8, scale computed", "INT8 per channel (16, axis 1)"]
    assert [each.tensor for each in convolution.inputs] == ["image", "a_w_quantized"]
    assert structure.dynamic
    assert not structure.quantizers


def test_one_scale_is_described():
    model = quantize_dynamic(ZOO["gemm"]().model, granularity="tensor").model
    weight = structure_of(model).operators[0].inputs[1]
    assert weight is not None
    assert str(weight).startswith("INT8 0.0")
    assert not weight.per_channel


def test_tensorrt_is_said_not_to_take_it(dynamic):
    (finding,) = structure_of(dynamic).findings
    assert (finding.severity, finding.rule) == ("error", "dynamic")
    assert "TensorRT has no dynamic INT8: quantize the float model with a calibration cache" in finding.message
    assert {"a/Conv", "y/MatMul"} <= set(finding.nodes)


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_no_engine_is_built(dynamic, precision, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    with pytest.raises(BuildError, match=r"the model is quantized dynamically .*, and TensorRT has no dynamic INT8"):
        build_engine(dynamic, output=tmp_path / "y.engine", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_other_models_are_not_refused():
    model = ZOO["conv_bn_relu"]().model
    for other in (model, quantize(model, {"x": 0.1, "a_relu": 0.1}).model):
        assert dynamic_refusal(other) == ""
        assert not structure_of(other).dynamic


@pytest.mark.parametrize("kind, domain", [("MatMulInteger", ""), ("DynamicQuantizeMatMul", "com.microsoft")])
def test_other_tools_models_are_known(kind, domain):
    """Integer activations from outside, and what ONNX Runtime makes of a matrix product."""
    net = Net()
    net.input(element=TensorProto.UINT8 if not domain else TensorProto.FLOAT, shape=("N", 8))
    net.constant("w", np.ones((8, 4), np.int8))
    net.constant("s", np.float32(0.5))
    net.nodes.append(
        helper.make_node(kind, ["x", "w", "s"][: 2 + bool(domain)], ["y"], name="y/Product", domain=domain)
    )
    model = net.model("y", element=TensorProto.INT32 if not domain else TensorProto.FLOAT)
    assert f"({kind} y/Product)" in dynamic_refusal(model)
    assert is_quantized(model) == (not domain)
    (operator,) = structure_of(model).operators if not domain else (None,)
    if operator is not None:
        assert operator.inputs[0] is None
        assert str(operator.inputs[1]) == "INT8, scale computed"


def test_the_name_of_a_node_is_that_of_the_float_operator(dynamic):
    assert [node.name for node in dynamic.graph.node if node.op_type.endswith("Integer")] == ["a/Conv", "y/MatMul"]
    onnx.checker.check_model(dynamic)
