"""Models with local functions, as PyTorch's exporter writes them: their tensors are calibrated and quantized too."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.write import quantize


@pytest.fixture
def model(tmp_path):
    random = np.random.default_rng(0)
    body = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    block = helper.make_function("local", "Block", ["x", "w"], ["y"], body, [helper.make_opsetid("", 17)])
    weights = {"w1": random.normal(0, 1, (4, 3, 3, 3)), "w2": random.normal(0, 1, (4, 4, 3, 3))}
    graph = helper.make_graph(
        [
            helper.make_node("Block", ["x", "w1"], ["a"], domain="local"),
            helper.make_node("Block", ["a", "w2"], ["b"], domain="local"),
        ],
        "functions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 4, 4, 4])],
        [numpy_helper.from_array(weight.astype(np.float32), name) for name, weight in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    path = tmp_path / "functions.onnx"
    onnx.save(helper.make_model(graph, functions=[block], opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize("in_memory", [False, True])
def test_their_tensors_are_calibrated_and_their_layers_quantized(model, in_memory):
    source = onnx.load(model) if in_memory else model
    statistics = collect(source, [np.random.default_rng(1).normal(0, 1, (4, 3, 8, 8)).astype(np.float32)])
    assert len(statistics) == 5  # the input, and a convolution and a ReLU for each call
    quantized = quantize(source, calibrate(statistics))
    assert (len(quantized.quantized), quantized.left_float, quantized.unused) == (2, {}, ())
    onnx.checker.check_model(quantized.model, full_check=True)
