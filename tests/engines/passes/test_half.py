from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError
from engines.passes.half import to_half
from engines.sessions.onnxruntime import OnnxRuntimeSession

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def sqnr(reference: np.ndarray, other: np.ndarray) -> float:
    reference = reference.astype(np.float64)
    noise = np.square(reference - other).sum()
    return float(10 * np.log10(np.square(reference).sum() / max(noise, 1e-300)))


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    before = model.SerializeToString(deterministic=True)
    half = to_half(model).model
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(half, full_check=True)
    assert [(value.name, value.type) for value in half.graph.input] == [
        (value.name, value.type) for value in model.graph.input if value.name not in constants(model)
    ]
    assert [(value.name, value.type.tensor_type.elem_type) for value in half.graph.output] == [
        (value.name, value.type.tensor_type.elem_type) for value in model.graph.output
    ]
    return half


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = inferred.graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    values = (*graph.input, *graph.value_info, *graph.output)
    return found | {value.name: value.type.tensor_type.elem_type for value in values}


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(item for item in model.graph.node if item.name == name)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """By the reference evaluator, which rounds every FP16 result to FP16, as ONNX Runtime on a CPU does not."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def real_images(data: Path, model: str) -> np.ndarray:
    if model == "mlperf_tiny_kws_dscnn":
        return np.load(data / "images/kws01_1000.npz")["features"][:64].astype(np.float32)
    if model in ("lenet_mnist", "mnist_cnn"):
        digits = np.load(data / "images/mnist_test_2000.npz")["images"][:64, None].astype(np.float32)
        return digits / 255 if model == "lenet_mnist" else digits
    if model == "ultraface_rfb_320":
        return np.random.default_rng(0).uniform(-1, 1, (4, 3, 240, 320)).astype(np.float32)
    pixels = np.load(data / "images/cifar10_test_2000.npz")["images"][:64].transpose(0, 3, 1, 2).astype(np.float32)
    return pixels if model == "mlperf_tiny_resnet8" else (pixels / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION


@pytest.mark.parametrize(
    "name",
    [
        "cifar10_resnet20",
        "mlperf_tiny_resnet8",
        "mlperf_tiny_kws_dscnn",
        "lenet_mnist",
        "mnist_cnn",
        "ultraface_rfb_320",
    ],
)
def test_real_models_decide_the_same(shared_data: Path, name: str) -> None:
    model = onnx.load(shared_data / "models" / f"{name}.onnx")
    half = converted(model)
    kinds = constants(half)
    assert {kinds[item.input[1]].data_type for item in half.graph.node if item.op_type == "Conv"} == {HALF}
    images = real_images(shared_data, name)
    before, after = OnnxRuntimeSession(model), OnnxRuntimeSession(half)
    batch = {before.inputs[0].name: images}
    for reference, other in zip(before.run(batch).values(), after.run(batch).values(), strict=True):
        assert other.dtype == np.float32
        assert sqnr(reference, other) > 40
        if name != "ultraface_rfb_320":
            differing = reference[reference.argmax(1) != other.argmax(1)]
            margins = np.diff(np.sort(differing, axis=1)[:, -2:]) / np.abs(reference).max()
            assert len(differing) <= 1  # a tie but for a hundredth
            assert (margins < 0.01).all()


def test_a_float_model_is_half_throughout(float_convolutions: onnx.ModelProto) -> None:
    half = converted(float_convolutions)
    assert [item.op_type for item in half.graph.node] == ["Cast", "Conv", "Relu", "Conv", "Relu", "Cast"]
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds == dict.fromkeys(("c1_w", "c1_b", "c2_w", "c2_b"), HALF)
    x = np.random.default_rng(1).normal(0, 1, (2, 16, 16, 16)).astype(np.float32)
    assert 40 < sqnr(run(float_convolutions, x), run(half, x)) < 90


def test_quantizers_stay_float_and_exact(convolutions: onnx.ModelProto) -> None:
    half = converted(convolutions)
    kinds, kept = types(half), constants(half)
    for item in half.graph.node:
        if item.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert kinds[item.input[1]] == FLOAT
            assert kept[item.input[1]].raw_data == constants(convolutions)[item.input[1]].raw_data
        if item.op_type in ("Conv", "Relu"):
            assert {kinds[name] for name in (*item.input, *item.output)} == {HALF}


def test_the_same_int8_kernels_as_with_a_float_rest(network: Any, rtx: Any) -> None:
    from engines.backends.backend import Log
    from engines.backends.kernel_log import read_kernels
    from engines.backends.shapes import Profile
    from engines.backends.tensorrt_rtx import TensorRTRTX

    built = network("N", 16, 16, 16)
    stem = built.node("MaxPool", [built.conv("x", "stem", (16, 32))], "pool", kernel_shape=[2, 2])
    skip = built.quantized(stem, "skip")
    branch = built.conv(stem, "branch", (32, 32), groups=32)
    total = built.node("Relu", [built.node("Add", [branch, skip], "add")], "total")
    pooled = built.node("Flatten", [built.node("GlobalAveragePool", [total], "mean")], "flat")
    dense = built.node(
        "Gemm", [built.quantized(pooled, "dense_in"), built.weights("dense_w", (10, 32))], "dense", transB=1
    )
    model = built.model(dense)

    def int8(graph: onnx.ModelProto) -> list[tuple[str, ...]]:
        log: Log = []
        profile = Profile(*((batch, 16, 16, 16) for batch in (1, 8, 32)))
        TensorRTRTX().build(graph, profiles={"x": profile}, compute_capabilities=(), log=log, progress=None)
        return [kernel.nodes for kernel in read_kernels(text for _, text in log) if kernel.precision == "INT8"]

    assert int8(converted(model)) == int8(model)
    assert {"stem", "branch", "dense", "pool"} <= {name for nodes in int8(model) for name in nodes}


def test_what_the_operator_wants_in_float_stays_float(network: Any) -> None:
    built = network("N", 3, 8, 8)
    scales = built.constant("scales", np.array([1, 1, 2, 2], np.float32))
    model = built.model(built.node("Resize", ["x", "", scales], "up", mode="linear"))
    half = converted(model)
    assert types(half)["scales"] == FLOAT
    assert types(half)[node(half, "up").output[0]] == HALF


def test_shape_arithmetic_stays_float(network: Any) -> None:
    """4,099 has more than FP16's 11 bits: halved, the size would be 4,096 or 4,100."""
    built = network("N", 1, "H", 4)
    shape = built.node("Cast", [built.node("Shape", ["x"], "shape")], "sizes", to=FLOAT)
    double = built.node("Mul", [shape, built.constant("one", np.ones(4, np.float32))], "scaled")
    sizes = built.node("Cast", [double], "integers", to=TensorProto.INT64)
    model = built.model(built.node("Reshape", [built.node("Relu", ["x"], "relu"), sizes], "reshaped"))
    half = converted(model)
    assert types(half)["scaled_out"] == FLOAT
    assert types(half)["relu_out"] == HALF
    assert run(half, np.ones((1, 1, 4099, 4), np.float32)).shape == (1, 1, 4099, 4)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
def test_an_unfused_layer_normalization_does_not_overflow(network: Any, epsilon: float) -> None:
    """300 squared is beyond 65504, and the smaller epsilon is 0 in FP16."""
    built = network("N", 64)
    mean = built.node("ReduceMean", ["x"], "mean", axes=[-1])
    centred = built.node("Sub", ["x", mean], "centred")
    square = built.node("Pow", [centred, built.constant("two", np.float32(2))], "square")
    variance = built.node("ReduceMean", [square], "variance", axes=[-1])
    shifted = built.node("Add", [variance, built.constant("epsilon", np.float32(epsilon))], "shifted")
    model = built.model(built.node("Div", [centred, built.node("Sqrt", [shifted], "root")], "normal"))
    half = converted(model)
    assert {types(half)[f"{name}_out"] for name in ("square", "variance", "shifted", "root")} == {FLOAT}
    assert types(half)[node(half, "normal").output[0]] == HALF
    x = np.random.default_rng(0).normal(0, 300, (4, 64)).astype(np.float32)
    assert sqnr(run(model, x), run(half, x)) > 50
    flat = np.full((1, 64), 3, np.float32)
    assert np.isfinite(run(half, flat)).all()


def test_a_softmax_by_hand_does_not_overflow(network: Any) -> None:
    built = network("N", 16)
    powers = built.node("Exp", ["x"], "powers")
    total = built.node("ReduceSum", [powers, built.constant("axes", np.array([1], np.int64))], "total")
    model = built.model(built.node("Div", [powers, total], "shares"))
    half = converted(model)
    x = np.linspace(0, 20, 16, dtype=np.float32)[None]
    assert sqnr(run(model, x), run(half, x)) > 40


def test_a_product_of_powers_is_reported(network: Any) -> None:
    built = network("N", 16)
    square = built.node("Mul", ["x", "x"], "square")
    result = to_half(
        built.model(built.node("MatMul", [square, built.weights("w", (16, 4), quantized=False)], "product"))
    )
    assert result.notes == (
        "MatMul product reads square_out in FP16, which a power or an exponential may take beyond 65504",
    )


def test_a_constant_beyond_fp16_keeps_its_operator_in_float(network: Any) -> None:
    built = network("N", 4)
    built.node("Mul", ["x", built.constant("large", np.full(4, 70000, np.float32))], "stretched")
    model = built.model(built.node("Relu", ["stretched_out"], "relu"))
    result = to_half(model)
    assert result.notes == ("Mul stretched stays in FP32: the constant large reaches 70000, beyond FP16's 65504",)
    assert types(converted(model))["large"] == FLOAT


def test_dequantized_weights_beyond_fp16_keep_their_operator_in_float(network: Any) -> None:
    built = network("N", 4)
    weight = [
        built.constant("w_int8", np.full((4, 4), 127, np.int8)),
        built.constant("w_scale", np.full(4, 1000, np.float32)),
        built.constant("w_zero", np.zeros(4, np.int8)),
    ]
    dense = built.node("MatMul", ["x", built.node("DequantizeLinear", weight, "w_DQ", axis=1)], "dense")
    result = to_half(built.model(dense))
    assert result.notes == ("MatMul dense stays in FP32: the constant w_DQ_out reaches 128000, beyond FP16's 65504",)


def test_a_constant_that_would_vanish_keeps_its_operator_in_float(network: Any) -> None:
    built = network("N", 4)
    model = built.model(built.node("Add", ["x", built.constant("epsilon", np.float32(1e-9))], "shifted"))
    result = to_half(model)
    assert result.notes == (
        "Add shifted stays in FP32: the constant epsilon is at most 1e-09, below FP16's smallest normal number",
    )
    x = np.zeros((1, 4), np.float32)
    assert (run(result.model, x) == np.float32(1e-9)).all()


def test_a_bias_that_vanishes_is_no_obstacle(network: Any) -> None:
    built = network("N", 3, 8, 8)
    bias = built.constant("bias", np.full(4, 1e-9, np.float32))
    conv = built.node("Conv", ["x", built.weights("w", (4, 3, 3, 3), quantized=False), bias], "conv")
    result = to_half(built.model(conv))
    assert result.notes == ()
    assert types(result.model)["bias"] == HALF


def test_the_open_bound_of_a_clip_becomes_infinite(network: Any) -> None:
    built = network("N", 4)
    bounds = [built.constant("low", np.float32(0)), built.constant("high", np.finfo(np.float32).max)]
    result = to_half(built.model(built.node("Clip", ["x", *bounds], "relu")))
    assert result.notes == ()
    assert np.isposinf(numpy_helper.to_array(constants(result.model)["high"]))
    assert run(result.model, np.array([[-1, 0, 2, 60000]], np.float32)).tolist() == [[0, 0, 2, 60000]]


def test_control_flow_stays_float_and_reads_float(network: Any) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(f"{operator}_out", FLOAT, [4, 8])
        nodes = [helper.make_node(operator, ["relu_out"], [f"{operator}_out"], name=operator)]
        return helper.make_graph(nodes, operator, [], [result])

    built = network(4, 8)
    built.node("Relu", ["x"], "relu")
    condition = built.node(
        "Greater",
        [built.node("ReduceMax", ["relu_out"], "top", keepdims=0), built.constant("zero", np.float32(0))],
        "positive",
    )
    result = built.node("If", [condition], "choice", then_branch=branch("Sqrt"), else_branch=branch("Neg"))
    model = built.model(built.node("Sigmoid", [result], "sigmoid"))
    half = to_half(model)
    assert half.notes == ("If choice stays in FP32: it holds a graph of its own",)
    x = np.random.default_rng(0).normal(0, 1, (4, 8)).astype(np.float32)
    assert sqnr(run(model, x), run(converted(model), x)) > 40


def test_one_constant_for_an_operator_in_half_and_one_in_float(network: Any) -> None:
    built = network("N", 4)
    two = built.constant("two", np.full(4, 2, np.float32))
    halved = built.node("Mul", ["x", two], "double")
    model = built.model(halved, built.node("Pow", ["x", two], "square"))
    half = converted(model)
    x = np.array([[1, 2, 3, 300]], np.float32)
    doubles, squares = OnnxRuntimeSession(half).run({"x": x}).values()
    assert doubles.tolist() == [[2, 4, 6, 600]]
    assert squares.tolist() == [[1, 4, 9, 90000]]
    assert Counter(tensor.data_type for tensor in half.graph.initializer) == {FLOAT: 1, HALF: 1}


def test_integer_inputs_and_constant_nodes(network: Any) -> None:
    built = network("N", 3, 4, 4, input_type=TensorProto.UINT8)
    pixels = built.node("Cast", ["x"], "pixels", to=FLOAT)
    scale = built.node("Constant", [], "scale", value=numpy_helper.from_array(np.float32(1 / 255)))
    model = built.model(built.node("Mul", [pixels, scale], "unit"))
    half = converted(model)
    assert types(half)[node(half, "unit").output[0]] == HALF
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)
    assert sqnr(run(model, x), run(half, x)) > 60


def test_an_intermediate_that_is_an_output_too(network: Any) -> None:
    built = network("N", 4)
    built.node("Relu", ["x"], "relu")
    model = built.model("relu_out", built.node("Neg", ["relu_out"], "negative"))
    half = converted(model)
    values = OnnxRuntimeSession(half).run({"x": np.array([[-1, 0, 1, 2]], np.float32)})
    assert {name: value.tolist() for name, value in values.items()} == {
        "relu_out": [[0, 0, 1, 2]],
        "negative_out": [[0, 0, -1, -2]],
    }


def test_names_that_are_taken(network: Any) -> None:
    built = network("N", 4)
    built.node("Relu", ["x"], "relu")
    built.nodes[-1].output[0] = "x_fp16"
    model = built.model(built.node("Neg", ["x_fp16"], "negative"))
    x = np.array([[-1, 0, 1, 2]], np.float32)
    assert (run(converted(model), x) == run(model, x)).all()


def test_a_model_that_lists_its_weights_as_inputs(network: Any) -> None:
    built = network("N", 4)
    model = built.model(built.node("Add", ["x", built.constant("one", np.ones(4, np.float32))], "sum"))
    model.graph.input.append(helper.make_tensor_value_info("one", FLOAT, [4]))
    model.ir_version = 3
    half = converted(model)
    assert [value.name for value in half.graph.input] == ["x"]
    assert half.ir_version >= 4


def test_a_tensor_of_unknown_type_is_refused(network: Any) -> None:
    built = network("N", 4)
    built.nodes.append(helper.make_node("Mystery", ["x"], ["mystery_out"], name="mystery", domain="com.example"))
    model = built.model(built.node("Relu", ["mystery_out"], "relu"), domains=["com.example"])
    with pytest.raises(ModelError, match="type of mystery_out, which Mystery mystery gives, is unknown"):
        to_half(model)
