"""What engines run, by the logs of builds made here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from engines.backends.backend import Log
from engines.backends.kernel_log import read_kernels
from engines.backends.shapes import Profile
from engines.backends.tensorrt_rtx import TensorRTRTX
from engines.inspection.inspect import Operator, counted, findings_of, operators_of, rescaling
from engines.inspection.kernels import Kernel, KernelTensor
from engines.passes.half import to_half
from engines.structure.findings import Finding

pytestmark = pytest.mark.usefixtures("rtx")

Built = tuple[onnx.ModelProto, tuple[Kernel, ...]]


@pytest.fixture(params=["fp32", "fp16"])
def built(request: pytest.FixtureRequest) -> Callable[[onnx.ModelProto], Built]:
    """Builds a model, the rest of it in FP32 or FP16."""

    def build(model: onnx.ModelProto) -> Built:
        graph = to_half(model).model if request.param == "fp16" else model
        shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim][1:]
        profiles = {"x": Profile(*((batch, *shape) for batch in (1, 8, 32)))}
        log: Log = []
        TensorRTRTX().build(graph, profiles=profiles, compute_capabilities=(), log=log, progress=None)
        return graph, read_kernels(message for _, message in log)

    build.rest = request.param.upper()  # type: ignore[attr-defined]
    return build


def precisions(found: Built) -> dict[str, str | None]:
    return {operator.node: operator.precision for operator in operators_of(*found)}


def rules(found: Built) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.rule, finding.nodes) for finding in findings_of(*found) if finding.rule != "lone-quantize"]


def after_int8(kernels: tuple[Kernel, ...]) -> set[str]:
    """What INT8 convolutions write in FP32."""
    return {kernel.outputs[0].name for kernel in kernels if kernel.kind == "correlation" and kernel.precision == "INT8"}


def hints(found: Built) -> list[Finding]:
    return [finding for finding in findings_of(*found) if finding.rule == "lone-quantize"]


def test_quantized_convolutions_run_in_int8(built: Any, convolutions: onnx.ModelProto) -> None:
    found = built(convolutions)
    assert precisions(found) == {"c1": "INT8", "c2": "INT8"}
    assert rules(found) == []
    assert [finding.nodes for finding in hints(found)] == [("c1_in_Q",)]
    assert "quantizes an input of the engine" in hints(found)[0].message
    assert all(operator.quantized for operator in operators_of(*found))
    finishing = [kernel for kernel in found[1] if kernel.generated and kernel.inputs[0].name in after_int8(found[1])]
    assert rescaling(found[1]) == sum(kernel.precision == "FP32" for kernel in finishing) > 0


def test_float_convolutions_run_in_float_and_that_is_no_finding(
    built: Any, float_convolutions: onnx.ModelProto
) -> None:
    found = built(float_convolutions)
    assert precisions(found) == {"c1": built.rest, "c2": built.rest}
    assert findings_of(*found) == ()
    assert rescaling(found[1]) == 0
    assert not any(operator.quantized for operator in operators_of(*found))


def test_weights_alone_in_int8_are_dequantized_at_every_run(built: Any, network: Any) -> None:
    one = network("N", 16, 8, 8)
    found = built(one.model(one.conv("x", "c", (16, 32), activations=False)))
    assert precisions(found) == {"c": built.rest}
    assert rules(found) == [("float-despite-qdq", ("c",)), ("weights-dequantized", ("c_w_DQ",))]


def test_activations_alone_in_int8_are_a_round_trip(built: Any, network: Any) -> None:
    one = network("N", 16, 8, 8)
    found = built(one.model(one.conv("x", "c", (16, 32), weights=False)))
    assert precisions(found) == {"c": built.rest}
    assert rules(found) == [("float-despite-qdq", ("c",)), ("round-trip", ("c_in_Q", "c_in_DQ"))]


def test_an_activation_per_channel_silently_runs_in_float(built: Any, network: Any) -> None:
    one = network("N", 16, 8, 8)
    found = built(one.model(one.conv("x", "c", (16, 32), scale=np.full(16, 0.05), axis=1)))
    assert precisions(found) == {"c": built.rest}
    assert ("float-despite-qdq", ("c",)) in rules(found)


def test_a_pair_that_serves_no_int8_operator(built: Any, network: Any) -> None:
    one = network("N", 16, 8, 8)
    middle = one.node("Sigmoid", [one.quantized("x", "lone")], "sigmoid")
    found = built(one.model(one.conv(middle, "c", (16, 32), activations=False, weights=False)))
    assert rules(found) == [("round-trip", ("lone_Q", "lone_DQ"))]
    (finding,) = (finding for finding in findings_of(*found) if finding.rule == "round-trip")
    assert finding.severity == "note"
    assert finding.message.endswith("harmless otherwise")


def test_a_transposed_convolution_is_float_whatever_its_quantizers(built: Any, network: Any) -> None:
    one = network("N", 16, 8, 8)
    operands = [one.quantized(one.conv("x", "c", (16, 32)), "up_in"), one.weights("up_w", (32, 16, 2, 2), axis=1)]
    found = built(one.model(one.node("ConvTranspose", operands, "up", strides=[2, 2])))
    assert precisions(found) == {"c": "INT8", "up": built.rest}
    assert ("float-despite-qdq", ("up",)) in rules(found)


def test_a_residual_block_with_depthwise_and_dense_layers(built: Any, network: Any) -> None:
    one = network("N", 16, 8, 8)
    stem = one.conv("x", "stem", (16, 32))
    shared = one.quantized(stem, "shared")
    branch = one.node("Conv", [shared, one.weights("branch_w", (32, 32, 3, 3))], "branch", pads=[1] * 4)
    total = one.node("Relu", [one.node("Add", [branch, shared], "add")], "total")
    deep = one.conv(total, "deep", (32, 32), groups=32)
    pooled = one.node("Flatten", [one.node("GlobalAveragePool", [deep], "mean")], "flat")
    operands = [
        one.quantized(pooled, "dense_in"),
        one.weights("dense_w", (10, 32)),
        one.constant("dense_b", np.ones(10, np.float32)),
    ]
    found = built(one.model(one.node("Gemm", operands, "dense", transB=1)))
    assert precisions(found) == {"stem": "INT8", "branch": "INT8", "deep": "INT8", "dense": "INT8"}
    assert rules(found) == []


def test_a_product_with_one_row_is_found_in_a_generated_kernel(built: Any, network: Any) -> None:
    one = network(1, 256)
    found_graph = one.model(one.node("MatMul", ["x", one.weights("w", (256, 10), quantized=False)], "product"))
    graph = to_half(found_graph).model if built.rest == "FP16" else found_graph
    log: Log = []
    TensorRTRTX().build(graph, profiles={}, compute_capabilities=(), log=log, progress=None)
    (operator,) = operators_of(graph, read_kernels(message for _, message in log))
    assert operator.kernel is not None
    assert operator.precision in (built.rest, "FP32")  # the generated kernel takes in the Cast to the FP32 output


def test_an_operator_that_no_kernel_names(convolutions: onnx.ModelProto) -> None:
    assert [(operator.precision, operator.kernel) for operator in operators_of(convolutions, ())] == [(None, None)] * 2
    assert findings_of(convolutions, ()) == ()


def test_operators_whose_names_the_builder_forgot(convolutions: onnx.ModelProto) -> None:
    def nameless(word: str) -> Kernel:
        tensor = (KernelTensor("", word, (1,)),)
        return Kernel("", "runtime_fusion", (), tensor, tensor, tensor)

    def precisions_with(*kernels: Kernel) -> list[str | None]:
        return [operator.precision for operator in operators_of(convolutions, kernels)]

    assert precisions_with(nameless("Half"), nameless("Half")) == ["FP16", "FP16"]
    assert precisions_with(nameless("Half"), nameless("Float")) == [None, None]
    assert precisions_with(nameless("Half")) == [None, None]


def test_a_residual_in_fp32_does_not_make_its_convolution_fp32() -> None:
    """As TensorRT-RTX fuses an addition in FP32 into a convolution in FP16, or the other way round."""

    def fused(word: str, residual: str) -> str | None:
        read = tuple(KernelTensor("", each, (1, 8, 4, 4)) for each in (residual, word))
        held = (KernelTensor("", word, (8, 8, 3, 3)), KernelTensor("", "Float", (8,)))
        return Kernel("", "runtime_fusion", (), read, held, read[:1]).precision

    assert [fused("Half", "Float"), fused("Float", "Half"), fused("Int8", "Float")] == ["FP16", "FP32", "INT8"]


def test_counts_are_narrowest_first() -> None:
    assert list(counted(["FP32", None, "INT8", "FP16", "INT8"]).items()) == [("INT8", 2), ("FP16", 1), ("FP32", 1)]


def test_an_operator_comes_back_from_json() -> None:
    operator = Operator("c", "Conv", "INT8", "c_kernel", True)
    assert Operator.from_dict(operator.to_dict()) == operator
