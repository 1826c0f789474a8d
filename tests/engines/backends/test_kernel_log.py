"""The log of real builds, made here and now."""

from typing import Any

import numpy as np
import onnx
import pytest

from engines.backends.backend import Log
from engines.backends.kernel_log import UnknownLogError, read_kernels
from engines.backends.shapes import Profile
from engines.backends.tensorrt_rtx import TensorRTRTX
from engines.inspection.kernels import Kernel, KernelTensor
from engines.passes.half import to_half

pytestmark = pytest.mark.usefixtures("rtx")


def messages(model: onnx.ModelProto, capabilities: tuple[str, ...] = ()) -> list[str]:
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim][1:]
    profiles = {"x": Profile(*((batch, *shape) for batch in (1, 8, 32)))}
    log: Log = []
    TensorRTRTX().build(model, profiles=profiles, compute_capabilities=capabilities, log=log, progress=None)
    return [message for _, message in log]


def covering(kernels: tuple[Kernel, ...], node: str) -> list[Kernel]:
    return [kernel for kernel in kernels if node in kernel.nodes and not kernel.generated]


def layer_list(log: list[str]) -> str:
    (found,) = [message for message in log if message.startswith("Layers:")]
    return found.split("\n\n")[0]


def test_an_int8_convolution_with_everything_it_reads_and_writes(convolutions: onnx.ModelProto) -> None:
    (kernel,) = covering(read_kernels(messages(convolutions)), "c1")
    assert kernel.kind == "correlation"
    assert kernel.precision == "INT8"
    assert kernel.nodes == ("c1", "c1_in_DQ", "c1_w_DQ")
    assert [(tensor.type, tensor.shape) for tensor in kernel.inputs] == [("Int8", (-1, 16, 16, 16))]
    assert ("Int8", (32, 16, 3, 3)) in [(tensor.type, tensor.shape) for tensor in kernel.constants]
    assert [(tensor.type, tensor.shape) for tensor in kernel.outputs] == [("Float", (-1, 32, 16, 16))]


def test_every_line_and_every_tensor_is_read(network: Any) -> None:
    built = network("N", 16, 16, 16)
    stem = built.node("MaxPool", [built.conv("x", "stem", (16, 32))], "pool", kernel_shape=[2, 2], strides=[2, 2])
    branches = [built.conv(stem, "left", (32, 32)), built.conv(stem, "right", (32, 32))]
    log = messages(built.model(built.conv(built.node("Concat", branches, "joined", axis=1), "last", (64, 32))))
    kernels = read_kernels(log)
    lines = layer_list(log).split("\n")[1:]
    assert len(kernels) == len(lines)
    for kernel, line in zip(kernels, lines, strict=True):
        assert len(kernel.inputs) + len(kernel.constants) + len(kernel.outputs) == line.count("Datatype:")
        assert line.startswith(f"Name: {kernel.name}, LayerType: {kernel.kind}, ")
    assert any(not kernel.inputs and not kernel.outputs for kernel in kernels)  # streams waiting for each other
    assert [kernel.precision for kernel in kernels if "pool" in kernel.nodes] == ["INT8"]


@pytest.mark.parametrize("half", [False, True])
def test_float_convolutions_run_in_the_type_of_the_graph(float_convolutions: onnx.ModelProto, half: bool) -> None:
    kernels = read_kernels(messages(to_half(float_convolutions).model if half else float_convolutions))
    assert [kernel.precision for node in ("c1", "c2") for kernel in covering(kernels, node)] == [
        "FP16" if half else "FP32"
    ] * 2


@pytest.mark.parametrize("capabilities", [(), ("8.0",), ("8.6", "8.9"), ("12.0",), ("12.1",)])
def test_int8_kernels_for_every_gpu_from_ampere_on(
    convolutions: onnx.ModelProto, capabilities: tuple[str, ...]
) -> None:
    kernels = read_kernels(messages(convolutions, capabilities))
    assert [kernel.precision for node in ("c1", "c2") for kernel in covering(kernels, node)] == ["INT8", "INT8"]


def test_no_int8_kernels_for_turing(convolutions: onnx.ModelProto) -> None:
    kernels = read_kernels(messages(convolutions, ("7.5",)))
    assert [kernel.precision for node in ("c1", "c2") for kernel in covering(kernels, node)] == ["FP32", "FP32"]


@pytest.mark.parametrize(
    "name", ["a] [ONNX Layer: b, Metadata: }", "Inputs: [ { Name: q, Datatype: Half }], Outputs: é", "a -> b (2)", "0"]
)
def test_names_that_look_like_the_log_itself(convolutions: onnx.ModelProto, name: str) -> None:
    for node in convolutions.graph.node:
        node.name = name if node.name == "c1" else node.name
    kernels = read_kernels(messages(convolutions))
    assert [kernel.precision for kernel in covering(kernels, name)] == ["INT8"]


def test_nodes_in_branches_and_jumps(network: Any) -> None:
    from onnx import TensorProto, helper

    def branch(operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(f"{operator}_out", TensorProto.FLOAT, [4, 8])
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [f"{operator}_out"], name=operator)], operator, [], [result]
        )

    built = network(4, 8)
    total = built.node("ReduceSum", ["x"], "total", keepdims=0)
    condition = built.node("Greater", [total, built.constant("zero", np.float32(0))], "positive")
    result = built.node("If", [condition], "choice", then_branch=branch("Relu"), else_branch=branch("Neg"))
    log: Log = []
    TensorRTRTX().build(built.model(result), profiles={}, compute_capabilities=(), log=log, progress=None)
    kernels = read_kernels(message for _, message in log)
    assert {"Relu", "Neg", "choice"} <= {name for kernel in kernels for name in kernel.nodes}


def test_a_log_without_a_list_is_not_guessed_at(convolutions: onnx.ModelProto) -> None:
    log = [message for message in messages(convolutions) if not message.startswith("Layers:")]
    with pytest.raises(UnknownLogError, match="no list of layers"):
        read_kernels(log)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", LayerType: ", ", Kind: ", "a line .* reads differently"),
        (", Outputs: [", ", Results: [", "a line .* reads differently"),
        ("Datatype: Int8", "Type: Int8", "a tensor .* reads differently"),
        (", Metadata: ", ", From: ", "a line .* reads differently"),
    ],
)
def test_a_list_that_reads_differently_is_not_guessed_at(
    convolutions: onnx.ModelProto, old: str, new: str, said: str
) -> None:
    changed = layer_list(messages(convolutions)).replace(old, new)
    with pytest.raises(UnknownLogError, match=said):
        read_kernels([changed])


def test_a_kernel_comes_back_from_json(convolutions: onnx.ModelProto) -> None:
    for kernel in read_kernels(messages(convolutions)):
        assert Kernel.from_dict(kernel.to_dict()) == kernel
        assert kernel.to_dict()["precision"] == kernel.precision


def kernel_of(kind: str, inputs: str = "", constants: str = "", outputs: str = "") -> Kernel:
    sides = ([KernelTensor("", word, (1,)) for word in text.split()] for text in (inputs, constants, outputs))
    return Kernel("", kind, (), *map(tuple, sides))


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        (kernel_of("correlation", "Int8", "Int8 Float Float", "Float"), "INT8"),
        (kernel_of("gemm", "Int8 Int8", "Float", "Half"), "INT8"),
        (kernel_of("gemm", "Half", "Int8 Half", "Half"), "FP16"),  # weights alone in INT8
        (kernel_of("correlation", "Float Float", "Int8", "Float"), "FP32"),
        (kernel_of("runtime_fusion", "BFloat16", "BFloat16", "Float"), "BF16"),
        (kernel_of("maxpool", "Int8", "Float", "Int8"), "INT8"),
        (kernel_of("kgen", "Int8 Int8", "Float", "Int8"), "FP32"),
        (kernel_of("kgen", "Half", "", "Int8"), "FP16"),
        (kernel_of("memset", "", "", "Float"), "FP32"),
        (kernel_of("reshape", "Int64", "", "Int64"), None),
        (kernel_of("wait"), None),
    ],
)
def test_the_precision_of_a_kernel(kernel: Kernel, precision: str | None) -> None:
    assert kernel.precision == precision


SIZES = ("a shape that is an output", "arithmetic on a shape", "a condition on a size")


def with_sizes(built: Any, convolved: str, name: str) -> onnx.ModelProto:
    """A factor that operators make of a tensor's shape, or the shape as an output."""
    shape = built.node("Shape", [convolved], "shape")
    if name == "a shape that is an output":
        model = built.model(convolved, shape)
        model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
        return model
    if name == "arithmetic on a shape":
        floats = built.node("Cast", [shape], "floats", to=onnx.TensorProto.FLOAT)
        factor = built.node("ReduceProd", [floats], "factor", keepdims=0)
    else:
        first, one = (built.constant(name, np.int64(value)) for name, value in (("first", 0), ("one", 1)))
        many = built.node("Greater", [built.node("Gather", [shape, first], "batch"), one], "many")
        factor = built.node("Cast", [many], "factor", to=onnx.TensorProto.FLOAT)
    return built.model(built.node("Mul", [convolved, factor], "scaled"))


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_handed_to_the_device(network: Any, name: str) -> None:
    built = network("N", 16, 16, 16)
    kernels = read_kernels(messages(with_sizes(built, built.conv("x", "c", (16, 32)), name)))
    handed = [kernel for kernel in kernels if kernel.kind == "ShapeHostToDevice"]
    assert len(handed) == 1
    assert len(handed[0].outputs) == 1
    assert not handed[0].inputs
    assert handed[0].precision is None
    assert [kernel.precision for kernel in covering(kernels, "c")] == ["INT8"]


def test_sizes_that_come_from_the_device(network: Any) -> None:
    """TopK's k is computed from the data: the host has to wait for it."""
    built = network("N", 16, 16, 16)
    one, axis = built.constant("one", np.int64(1)), built.constant("axis", np.int64([0]))
    convolved = built.conv("x", "c", (16, 32))
    highest = built.node("ReduceMax", [convolved], "highest", axes=[0, 1, 2, 3], keepdims=0)
    whole = built.node("Cast", [highest], "whole", to=onnx.TensorProto.INT64)
    k = built.node("Unsqueeze", [built.node("Min", [whole, one], "least"), axis], "k")
    built.nodes.append(onnx.helper.make_node("TopK", [convolved, k], ["best", "places"], name="top", axis=1))
    kernels = read_kernels(messages(built.model("best")))
    steps = [kernel for kernel in kernels if kernel.kind in ("DeviceToShapeHost", "TrainStation")]
    assert {kernel.kind for kernel in steps} == {"DeviceToShapeHost", "TrainStation"}
    assert all(kernel.precision is None for kernel in steps)


def test_a_line_of_another_form_is_still_refused() -> None:
    line = "Name: a, LayerType: Shape, Inputs: [], Outputs: [], Novelty: 3, TacticValue: 0x0, StreamId: 0, Metadata: "
    with pytest.raises(UnknownLogError, match="reads differently"):
        read_kernels([f"Layers:\n{line}"])
