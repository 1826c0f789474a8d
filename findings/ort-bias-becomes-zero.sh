#!/usr/bin/env bash
# ONNX Runtime rounds the float bias of a convolution between Q/DQ nodes to INT32, in steps of input scale x weight
# scale, although no node of the model says so. Where the weights of a channel are close to 0, that step is so small
# that the bias does not fit into 32 bits: here a bias of 0.5 becomes 0.
# For a user: the accuracy of such a Q/DQ model in ONNX Runtime says nothing of TensorRT, which keeps biases in float.
# Turn it off with session.disable_quant_qdq=1, or give such channels a weight scale of at least |bias| / (input scale x
# 2**30).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2

ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - <<'END'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# A 1x1 convolution from one channel to two. The second channel's weight has almost vanished in training; its bias has not.
weight = np.array([0.5, 1e-10], np.float32).reshape(2, 1, 1, 1)
constants = {
    "weight": weight,
    "weight_scale": np.abs(weight).max(axis=(1, 2, 3)) / 127,
    "weight_zero": np.zeros(2, np.int8),
    "bias": np.array([0.5, 0.5], np.float32),
    "scale": np.float32(1 / 127),
    "zero": np.int8(0),
}
nodes = [
    helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
    helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
    helper.make_node("QuantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w_q"], axis=0),
    helper.make_node("DequantizeLinear", ["w_q", "weight_scale", "weight_zero"], ["w_dq"], axis=0),
    helper.make_node("Conv", ["x_dq", "w_dq", "bias"], ["y_float"]),
    helper.make_node("QuantizeLinear", ["y_float", "scale", "zero"], ["y_q"]),
    helper.make_node("DequantizeLinear", ["y_q", "scale", "zero"], ["y"]),
]
graph = helper.make_graph(
    nodes,
    "bias",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 1, 3])],
    [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)


def second_channel(**settings):
    options = onnxruntime.SessionOptions()
    for key, value in settings.items():
        options.add_session_config_entry(f"session.{key}", value)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([[[[-0.5, 0, 0.5]]]], np.float32)})[0][0, 1, 0]


default, literal = second_channel(), second_channel(disable_quant_qdq="1")
print("onnxruntime", onnxruntime.__version__)
print("expected: the second channel is its bias, about 0.5, whatever x is")
print("default session:             ", default)
print("session.disable_quant_qdq=1: ", literal)
if not np.allclose(literal, 0.5, atol=0.01):
    raise SystemExit("changed: with session.disable_quant_qdq the bias is no longer kept either")
if not np.allclose(default, 0):
    raise SystemExit("changed: the default session no longer turns this bias into 0")
END
