"""How fine the scales of a Q/DQ model's weights are, and by which method they are found."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import trtcal
from calibrators.errors import BuildError, ModelError, RangeError
from calibrators.grid import Grid
from calibrators.ranges import calibrate
from calibrators.weights import weight_encoding
from engines.build.builder import build_engine
from engines.collection.collect import collect
from engines.graph.model import load_model
from engines.qdq.weights import Granularity, WeightOptions
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.structure.lint import structure_of
from tests.engines.networks import Net, samples_of
from tests.engines.qdq.test_dynamic import run, sqnr
from tests.engines.zoo import ZOO
from tests.trtcal.gathering import collect_images


def quantized(model, **options):
    return quantize(model, calibrate(collect(model, samples_of(model, 16)), "minmax"), **options)


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def dequantized(result, name):
    """The DequantizeLinear of a weight: levels, scale and attributes."""
    node = next(node for node in result.model.graph.node if node.input[0] == f"{name}_quantized")
    arrays = constants(result.model)
    return arrays[node.input[0]], arrays[node.input[1]], {each.name: each.i for each in node.attribute}


@pytest.mark.parametrize("method", ["absmax", "mse"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("network, name, axis", [("conv_bn_relu", "y_w", 0), ("gemm", "k_n", 1), ("gemm", "n_k", 0)])
def test_levels_and_scales_are_the_encodings(network, name, axis, granularity, method):
    model = ZOO[network]().model
    result = quantized(model, weights=method, granularity=granularity)
    weight = constants(model)[name]
    encoding = weight_encoding(weight, axis=axis if granularity == "channel" else None, method=method)
    levels, scale, attributes = dequantized(result, name)
    assert np.array_equal(levels, encoding.quantize(weight))
    assert np.array_equal(scale, encoding.scale)
    assert attributes == ({"axis": axis} if granularity == "channel" else {})
    assert result.weights == WeightOptions(method, Granularity.parse(granularity))


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_stays_close_to_float(name, granularity):
    model = ZOO[name]().model
    result = quantized(model, weights="mse", granularity=granularity)
    onnx.checker.check_model(result.model, full_check=True)
    assert sqnr(model, result.model, samples_of(model, 16)) > 23


def product(*, inner=64, outer=32, transposed=False, rank=2, then="Relu", opset=17):
    """A matrix product that reads x, and another behind it."""
    net = Net(opset=opset)
    net.input(shape=("N", inner) if rank == 2 else ("N", 5, inner))
    net.weight("w", *((outer, inner) if transposed else (inner, outer)), fan_in=inner)
    net.weight("v", outer, 16, fan_in=outer)
    net.node("Gemm" if transposed else "MatMul", "x w", "a", **({"transB": 1} if transposed else {}))
    net.node(then, "a", "b")
    net.node("MatMul", "b v", "y")
    return net.model("y")


BLOCKS = {
    "even": ({}, 16),
    "short_last": ({"inner": 70}, 16),
    "one": ({}, 1),
    "whole": ({}, 64),
    "more_than_whole": ({"inner": 20}, 64),
    "transposed": ({"transposed": True, "inner": 70}, 16),
    "rank_3": ({"rank": 3}, 16),
    "one_output": ({"outer": 1}, 16),
    "next_to_each_other": ({"then": "Identity", "transposed": True}, 16),
    "opset_11": ({"opset": 11}, 32),
    "opset_21": ({"opset": 21}, 32),
}


@pytest.mark.parametrize("method", ["absmax", "mse"])
@pytest.mark.parametrize("case", BLOCKS)
def test_blocks_run_in_onnx_runtime_as_they_are_meant(case, method):
    """With its optimizations and without, as the reference evaluator does, and as float weights of the same values.

    Sums in another order may move a value between the products by a level: that costs 40 dB at most.
    """
    options, size = BLOCKS[case]
    model = product(**options)
    options_of_all = dict.fromkeys(
        ("a/Gemm", "a/MatMul", "y/MatMul"), WeightOptions(method, Granularity("block", size))
    )
    result = quantized(model, weights=method, granularity=f"block:{size}", layers=options_of_all)  # small ones, too
    onnx.checker.check_model(result.model, full_check=True)
    assert next(each.version for each in result.model.opset_import if not each.domain) >= 21
    axis = 1 if options.get("transposed") else 0
    weight = constants(model)["w"]
    encoding = weight_encoding(weight, axis=axis, method=method, block_size=size)
    levels, scale, attributes = dequantized(result, "w")
    assert np.array_equal(levels, encoding.quantize(weight))
    assert np.array_equal(scale, encoding.scale)
    assert attributes == {"axis": axis, "block_size": size}
    floats = onnx.ModelProto()
    floats.CopyFrom(result.model)
    for name, along in (("w", axis), ("v", 0)):
        place = next(i for i, node in enumerate(floats.graph.node) if node.input[0] == f"{name}_quantized")
        value = constants(model)[name]
        known = weight_encoding(value, axis=along, method=method, block_size=size).fake_quantize(value)
        floats.graph.initializer.append(numpy_helper.from_array(known, f"{name}_known"))
        node = onnx.helper.make_node("Identity", [f"{name}_known"], floats.graph.node[place].output)
        floats.graph.node[place].CopyFrom(node)
    samples = samples_of(model, 4, batch=4)
    (expected,) = ReferenceEvaluator(floats).run(None, samples[0])  # ONNX Runtime would quantize the constants again
    outputs = [run(result.model, samples)["y"], *ReferenceEvaluator(result.model).run(None, samples[0])]
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    fully = onnxruntime.SessionOptions()
    for session_options in (plain, fully):
        session = onnxruntime.InferenceSession(
            result.model.SerializeToString(), session_options, providers=["CPUExecutionProvider"]
        )
        outputs += session.run(None, samples[0])
    for output in outputs:
        assert np.sum((output - expected) ** 2) <= 1e-4 * np.sum(expected**2)


def test_blocks_are_said_to_be_for_onnx_runtime():
    result = quantized(product(), granularity="block:32")
    assert result.notes[0].startswith("weights have a scale per block of 32: this model is for ONNX Runtime; TensorRT")
    assert not any("block" in note for note in quantized(product()).notes)


def test_blocks_are_refused_by_build_and_told_by_inspect(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    model = quantized(product(), granularity="block:16").model
    with pytest.raises(BuildError, match="INT8 scales by blocks, which TensorRT has not"):
        build_engine(model, output=tmp_path / "y.engine")
    structure = structure_of(model)
    assert [operator.quantized for operator in structure.operators] == [True, True]
    assert str(structure.operators[0].inputs[1]) == "INT8 per block of 16 (128, axis 0)"
    assert {finding.rule for finding in structure.findings} == {"int8-blocks"}


@pytest.mark.parametrize("name", ["conv_bn_relu", "conv_transpose", "constant_weights"])
def test_blocks_of_a_convolution_are_refused(name):
    with pytest.raises(ModelError, match=r"is a Conv.*, and blocks divide the weights of MatMul and Gemm alone: take"):
        quantize(ZOO[name]().model, {"x": 0.1}, granularity="block:8")


@pytest.mark.parametrize(
    "text", ["", "row", "block", "block:", "block:0", "block:-1", "block:1.5", "block:8 ", "Block:8"]
)
def test_no_granularity(text):
    with pytest.raises(RangeError, match=r"there is no granularity .* choose channel, tensor or block:N"):
        Granularity.parse(text)


@pytest.mark.parametrize("text", ["channel", "tensor", "block:1", "block:128"])
def test_granularities_are_written_as_they_are_read(text):
    assert str(Granularity.parse(text)) == text


def test_an_unknown_method_is_refused():
    with pytest.raises(RangeError, match="there is no weight method 'entropy': choose among absmax, mse"):
        quantize(ZOO["gemm"]().model, {"x": 0.1}, weights="entropy")


@pytest.mark.parametrize("weights", ["absmax", "mse"])
def test_a_scale_for_the_whole_tensor_builds_and_runs_in_int8(weights, tmp_path, rtx):
    model = ZOO["max_pool"]().model
    engine = build_engine(quantized(model, weights=weights, granularity="tensor").model, output=tmp_path / "y.engine")
    assert {operator.precision for operator in engine.record.operators} == {"INT8"}
    assert len(engine.record.operators) == 4


def top1(model, arrays, preprocess):
    """The share of samples, in per cent, whose class has the highest score."""
    loader = trtcal.ImageLoader(arrays, preprocess=preprocess, batch_size=250, count=1000)
    with OnnxRuntimeSession(model) as session:
        hits = [next(iter(session.run(batch).values())).argmax(1) == batch.labels for batch in loader]
    return 100 * float(np.mean(np.concatenate(hits)))


def test_mse_weights_keep_the_accuracy_of_absmax_on_a_real_model(shared_data):
    path, images = shared_data / "models" / "cifar10_resnet20.onnx", shared_data / "images"
    statistics, _ = collect_images(
        path, images / "cifar10_train_512.npz", preprocess="cifar10", count=64, tensors="quantizable"
    )
    cache = trtcal.calibrate(statistics)
    accuracy = {
        method: top1(quantize(path, cache, weights=method).model, images / "cifar10_test_2000.npz", "cifar10")
        for method in ("absmax", "mse")
    }
    assert accuracy["mse"] >= accuracy["absmax"] - 0.5
    assert accuracy["absmax"] > 90


def test_four_bits_gain_from_mse_on_real_weights(shared_data):
    """Decibels over all weights of a network; each layer gains, and none loses."""
    model = load_model(shared_data / "models" / "cifar10_resnet20.onnx")
    grid, gains = Grid(bits=4, narrow=True), []
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim != 4:
            continue
        errors = [
            np.sum((weight_encoding(weight, axis=0, grid=grid, method=each).fake_quantize(weight) - weight) ** 2)
            for each in ("absmax", "mse")
        ]
        gains.append(10 * np.log10(errors[0] / errors[1]))
    assert len(gains) >= 19
    assert min(gains) >= 0
    assert np.mean(gains) > 1
