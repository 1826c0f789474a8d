from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.structure.findings import Finding
from engines.structure.lint import Structure, structure_of


def only(structure: Structure) -> Finding:
    (finding,) = structure.findings
    return finding


def test_a_well_quantized_model_has_no_findings(convolutions: onnx.ModelProto) -> None:
    structure = structure_of(convolutions)
    assert structure.findings == ()
    assert [(operator.node, operator.quantized) for operator in structure.operators] == [("c1", True), ("c2", True)]
    activation, weight = structure.operators[0].inputs
    assert activation is not None
    assert weight is not None
    assert (activation.node, activation.quantize, activation.tensor) == ("c1_in_DQ", "c1_in_Q", "x")
    assert (str(activation), activation.constant) == ("INT8 0.05", False)
    assert (weight.node, weight.quantize, weight.tensor) == ("c1_w_DQ", None, "c1_w_int8")
    assert (str(weight), weight.constant, weight.axis) == ("INT8 per channel (32, axis 0)", True, 0)
    assert activation.to_dict()["scales"] == pytest.approx([0.05])


def test_a_float_model_has_operators_and_no_findings(float_convolutions: onnx.ModelProto) -> None:
    structure = structure_of(float_convolutions)
    assert not structure.quantized
    assert structure.findings == ()
    assert [operator.inputs for operator in structure.operators] == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"activations": False}, "Conv c runs in float: c_w_int8 is quantized, x is not; quantize both or neither"),
        ({"weights": False}, "Conv c runs in float: x is quantized, c_w is not; quantize both or neither"),
    ],
)
def test_an_operator_quantized_on_one_side(network: Any, options: dict[str, Any], said: str) -> None:
    built = network("N", 16, 8, 8)
    finding = only(structure_of(built.model(built.conv("x", "c", (16, 16), **options))))
    assert (finding.severity, finding.rule, finding.nodes, finding.message) == (
        "warning",
        "half-quantized",
        ("c",),
        said,
    )


def test_an_activation_quantized_per_channel(network: Any) -> None:
    built = network("N", 16, 8, 8)
    finding = only(structure_of(built.model(built.conv("x", "c", (16, 16), scale=np.full(16, 0.1), axis=1))))
    assert (finding.severity, finding.rule) == ("warning", "per-channel-activation")
    assert "c_in_DQ (x) quantizes an activation per channel" in finding.message


@pytest.mark.parametrize(
    ("options", "severity", "rule", "said"),
    [
        ({"zero_point": np.uint8(0)}, "error", "uint8", "is UINT8, which TensorRT reads as INT8"),
        ({"zero_point": np.uint8(128)}, "error", "uint8", "is UINT8"),
        ({"zero_point": np.int8(3)}, "error", "zero-point", "a zero point other than 0"),
        ({"zero_point": None}, "warning", "no-zero-point", "ONNX means UINT8 by that, TensorRT INT8"),
        ({"scale": 0}, "error", "scale", "not positive and finite"),
        ({"scale": -1}, "error", "scale", "not positive and finite"),
        ({"scale": np.inf}, "error", "scale", "not positive and finite"),
        ({"scale": np.nan}, "error", "scale", "not positive and finite"),
    ],
)
def test_what_tensorrt_refuses_or_misreads(
    network: Any, options: dict[str, Any], severity: str, rule: str, said: str
) -> None:
    built = network("N", 16)
    finding = only(structure_of(built.model(built.quantized("x", "pair", **options))))
    assert (finding.severity, finding.rule, finding.nodes) == (severity, rule, ("pair_Q", "pair_DQ"))
    assert said in finding.message


def test_a_bias_in_int32(network: Any) -> None:
    built = network("N", 16, 8, 8)
    operands = [built.constant("b_int32", np.zeros(16, np.int32)), built.constant("b_scale", np.float32(0.01))]
    bias = built.node("DequantizeLinear", operands, "b_DQ")
    activation = built.quantized("x", "in")
    conv = built.node("Conv", [activation, built.weights("w", (16, 16, 3, 3)), bias], "c")
    finding = only(structure_of(built.model(conv)))
    assert (finding.severity, finding.rule, finding.nodes) == ("error", "int32-bias", ("b_DQ",))


def test_a_scale_that_is_computed(network: Any) -> None:
    built = network("N", 16)
    scale = built.node("ReduceMax", ["x"], "largest", keepdims=0)
    zero = built.constant("zero", np.int8(0))
    integers = built.node("QuantizeLinear", ["x", scale, zero], "Q")
    model = built.model(built.node("DequantizeLinear", [integers, scale, zero], "DQ"))
    assert only(structure_of(model)).rule == "computed-scale"


def test_scales_behind_constant_nodes_and_casts(network: Any) -> None:
    built = network("N", 16)
    value = onnx.numpy_helper.from_array(np.float16(0.25))
    scale = built.node("Cast", [built.node("Constant", [], "stored", value=value)], "scale", to=TensorProto.FLOAT)
    zero = built.constant("zero", np.int8(0))
    integers = built.node("QuantizeLinear", ["x", scale, zero], "Q")
    structure = structure_of(built.model(built.node("DequantizeLinear", [integers, scale, zero], "DQ")))
    assert structure.findings == ()
    assert str(structure.quantizers[0]) == "INT8 0.25"


@pytest.mark.parametrize(
    ("op_type", "shape", "axis", "attributes", "right"),
    [
        ("Conv", (8, 16, 3, 3), 1, {}, 0),
        ("Conv", (8, 16, 3, 3), -3, {}, 0),
        ("ConvTranspose", (16, 8, 2, 2), 0, {}, 1),
        ("Gemm", (8, 16), 1, {"transB": 1}, 0),
        ("Gemm", (16, 8), 0, {}, 1),
        ("MatMul", (16, 8), 0, {}, 1),
    ],
)
def test_weights_scaled_along_another_axis_than_the_output_channels(
    network: Any, op_type: str, shape: tuple[int, ...], *, axis: int, attributes: dict[str, int], right: int
) -> None:
    for chosen in (axis, right):
        built = network("N", 16, *([8, 8] if len(shape) == 4 else []))
        operands = [built.quantized("x", "in"), built.weights("w", shape, axis=chosen)]
        findings = structure_of(built.model(built.node(op_type, operands, "op", **attributes))).findings
        assert [finding.rule for finding in findings] == (["weight-axis"] if chosen == axis else [])
        assert all(f"one per output channel: axis {right}" in finding.message for finding in findings)


def test_an_axis_counted_from_the_end(network: Any) -> None:
    built = network("N", 16, 8, 8)
    operands = [built.quantized("x", "in"), built.weights("w", (8, 16, 3, 3), axis=-4)]
    structure = structure_of(built.model(built.node("Conv", operands, "op")))
    assert structure.findings == ()
    assert str(structure.operators[0].inputs[1]) == "INT8 per channel (8, axis 0)"


@pytest.mark.parametrize("follower", ["Relu", "Sigmoid", "BatchNormalization"])
def test_a_pair_between_a_convolution_and_what_is_fused_with_it(network: Any, follower: str) -> None:
    built = network("N", 16, 8, 8)
    pair = built.quantized(built.conv("x", "c", (16, 16), relu=False), "out")
    last = (
        built.batch_normalization(pair, "f", 16)
        if follower == "BatchNormalization"
        else built.node(follower, [pair], "f")
    )
    finding = only(structure_of(built.model(last)))
    assert (finding.severity, finding.rule, finding.nodes) == ("warning", "between-fused", ("out_Q", "c", "f"))


@pytest.mark.parametrize("operator", ["Add", "Sum"])
def test_a_residual_addition_that_reads_its_skip_input_in_float(network: Any, operator: str) -> None:
    for quantized in (False, True):
        built = network("N", 16, 8, 8)
        stem = built.conv("x", "stem", (16, 16))
        branch = built.conv(stem, "branch", (16, 16), relu=False)
        skip = built.quantized(stem, "skip") if quantized else stem
        findings = structure_of(built.model(built.node(operator, [branch, skip], "add"))).findings
        assert [(finding.severity, finding.rule) for finding in findings] == (
            [] if quantized else [("hint", "residual")]
        )
        assert all(f"{operator} add reads stem_relu_out in float" in finding.message for finding in findings)


def test_a_skip_quantized_before_operators_that_only_move_it_is_no_finding(network: Any) -> None:
    for value, hinted in ((0, False), (1, True)):
        built = network("N", 16, 8, 8)
        stem = built.conv("x", "stem", (16, 16))
        branch = built.conv(stem, "branch", (16, 16), relu=False)
        pads, filling = np.zeros(8, np.int64), np.float32(value)
        operands = [built.quantized(stem, "skip"), built.constant("pads", pads), built.constant("filling", filling)]
        skip = built.node("Identity", [built.node("Pad", operands, "pad")], "same")
        findings = structure_of(built.model(built.node("Add", [branch, skip], "add"))).findings
        assert [finding.rule for finding in findings] == (["residual"] if hinted else [])


def test_no_pair_is_asked_for_where_the_addition_cannot_be_fused(network: Any) -> None:
    """As `engines.qdq.placement` leaves these alone: a product, and a convolution that something else reads too."""
    built = network("N", 16)
    operands = [built.quantized("x", "in"), built.weights("w", (16, 16), axis=1)]
    assert (
        structure_of(built.model(built.node("Add", [built.node("MatMul", operands, "m"), "x"], "add"))).findings == ()
    )
    built = network("N", 16, 8, 8)
    branch = built.conv("x", "branch", (16, 16), relu=False)
    total = built.node("Add", [branch, built.node("Relu", ["x"], "r")], "add")
    assert structure_of(built.model(built.node("Mul", [total, branch], "twice"))).findings == ()


def test_an_add_of_a_bias_is_no_residual(network: Any) -> None:
    built = network("N", 16, 8, 8)
    shift = built.constant("shift", np.ones((16, 1, 1), np.float32))
    model = built.model(built.node("Add", [built.conv("x", "c", (16, 16), relu=False), shift], "add"))
    assert structure_of(model).findings == ()


def test_grouped_convolutions_are_one_finding(network: Any) -> None:
    built = network("N", 16, 8, 8)
    first = built.conv("x", "deep1", (16, 16), groups=16)
    model = built.model(built.conv(built.conv(first, "deep2", (16, 16), groups=16), "four", (16, 16), groups=4))
    finding = only(structure_of(model))
    assert (finding.severity, finding.rule, finding.nodes) == ("hint", "padded-groups", ("deep1", "deep2"))


def test_errors_come_first_and_unnamed_nodes_have_labels(network: Any) -> None:
    built = network("N", 16, 8, 8)
    result = built.conv("x", "c", (16, 16), weights=False)
    model = built.model(built.quantized(result, "pair", scale=0))
    for node in model.graph.node:
        node.name = ""
    findings = structure_of(model).findings
    assert [finding.severity for finding in findings] == ["error", "warning"]
    assert findings[1].nodes == ("Conv -> c_out",)


def test_a_deep_model(network: Any) -> None:
    built = network("N", 4)
    tensor = "x"
    for index in range(3000):
        tensor = built.node("Relu", [tensor], f"relu_{index}")
    model = helper.make_model(
        helper.make_graph(
            built.nodes, "deep", built.inputs, [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)]
        )
    )
    assert structure_of(model) == Structure((), (), (), {})
