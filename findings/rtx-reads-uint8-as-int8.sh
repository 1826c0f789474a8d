#!/usr/bin/env bash
# TensorRT's parser reads UINT8 zero points as INT8. A model with UINT8 activations behind ReLU has zero points of 0
# only, so it builds, with a warning; but its scales are made for levels up to 255, and INT8 ends at 127. All that lies
# in the upper half of the range becomes the middle. One would expect an error, as for other zero points that TensorRT
# cannot keep.
# (Shown with TensorRT for RTX, which builds without a GPU; the type of the kernel is read from the builder's log.)
# For a user: quantize to INT8 with symmetric ranges for TensorRT, and read its warnings.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tensorrt-rtx==1.7.1.116 onnx==1.23.2

"$work/venv/bin/python" - <<'END'
import re

import numpy as np
import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper, numpy_helper

# A convolution of inputs from 0 to 1: in UINT8 the scale is 1/255, so that 1 becomes level 255.
weight = np.random.default_rng(0).normal(size=(32, 32, 3, 3)).astype(np.float32)
constants = {
    "weight": weight,
    "weight_scale": np.abs(weight).max(axis=(1, 2, 3)) / 127,
    "weight_zero": np.zeros(32, np.int8),
    "scale": np.float32(1 / 255),
    "zero": np.uint8(0),
}
nodes = [
    helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
    helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
    helper.make_node("QuantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w_q"], axis=0),
    helper.make_node("DequantizeLinear", ["w_q", "weight_scale", "weight_zero"], ["w_dq"], axis=0),
    helper.make_node("Conv", ["x_dq", "w_dq"], ["y"], pads=[1, 1, 1, 1]),
]
shape = [1, 32, 56, 56]
graph = helper.make_graph(
    nodes,
    "convolution",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)


class Log(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.messages = []

    def log(self, severity, message):
        self.messages.append((severity, message))


log = Log()
builder = trt.Builder(log)
network = builder.create_network(0)
print("tensorrt_rtx", trt.__version__)
print("expected: an error, or kernels that read UInt8")
if not trt.OnnxParser(network, log).parse(model.SerializeToString()):
    raise SystemExit("changed: the parser now refuses UINT8 zero points")
config = builder.create_builder_config()
config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
if builder.build_serialized_network(network, config) is None:
    raise SystemExit("changed: the builder now refuses UINT8 zero points")
(layers,) = [text for _, text in log.messages if text.startswith("Layers:")]
(line,) = [line for line in layers.splitlines() if "LayerType: correlation" in line]
kind = re.search(r"Datatype: (\w+)", line)[1]
print(f"it builds, and the convolution reads {kind}: the largest input that it can tell apart is {127 / 255:.2f}")
for warning in sorted({text for severity, text in log.messages if severity <= trt.ILogger.WARNING}):
    print("warning:", warning)
if kind != "Int8":
    raise SystemExit("changed: the convolution no longer reads Int8")
END
