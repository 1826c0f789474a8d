#!/usr/bin/env bash
# TensorRT for RTX pads each group of a depthwise INT8 convolution from one channel to four. If the shapes are static,
# it stores the zeros of that padding, which are as large as three copies of the activation, in the engine. So the INT8
# engine comes out many times larger than the FP32 engine, where one would expect a quarter of the weights.
# For a user: give the model a dynamic batch (then nothing is stored), or leave depthwise convolutions in float.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tensorrt-rtx==1.7.1.116 onnx==1.23.2

"$work/venv/bin/python" - <<'END'
import numpy as np
import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper, numpy_helper


def depthwise(quantized, batch):
    """A depthwise 3x3 convolution of 32 channels at 224x224, in float or with INT8 pairs on input and weight."""
    weight = np.random.default_rng(0).normal(size=(32, 1, 3, 3)).astype(np.float32)
    constants, nodes, inputs = {"weight": weight}, [], ["x", "weight"]
    if quantized:
        constants |= {
            "weight_scale": np.abs(weight).max(axis=(1, 2, 3)) / 127,
            "weight_zero": np.zeros(32, np.int8),
            "scale": np.float32(0.02),
            "zero": np.int8(0),
        }
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
            helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
            helper.make_node("QuantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w_q"], axis=0),
            helper.make_node("DequantizeLinear", ["w_q", "weight_scale", "weight_zero"], ["w_dq"], axis=0),
        ]
        inputs = ["x_dq", "w_dq"]
    nodes.append(helper.make_node("Conv", inputs, ["y"], group=32, pads=[1, 1, 1, 1]))
    shape = [batch, 32, 224, 224]
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def size_of_engine(quantized, batch):
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(depthwise(quantized, batch).SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    if batch == "N":
        profile = builder.create_optimization_profile()
        profile.set_shape("x", *[(size, 32, 224, 224) for size in (1, 1, 4)])
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    return engine.nbytes


print("tensorrt_rtx", trt.__version__)
print("expected: the INT8 engine is no larger than the FP32 engine")
fp32, int8 = size_of_engine(False, 1), size_of_engine(True, 1)
dynamic = size_of_engine(True, "N")
padding = 3 * 32 * 224 * 224
print(f"FP32, batch 1:       {fp32:>9,} bytes")
print(f"INT8, batch 1:       {int8:>9,} bytes; three copies of the activation in INT8 are {padding:,}")
print(f"INT8, dynamic batch: {dynamic:>9,} bytes")
if int8 < fp32 + padding:
    raise SystemExit("changed: the padding is no longer stored in the engine")
if dynamic > fp32 + padding:
    raise SystemExit("changed: with a dynamic batch the padding is now stored too")
END
