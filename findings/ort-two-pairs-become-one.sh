#!/usr/bin/env bash
# ONNX Runtime merges two pairs of QuantizeLinear and DequantizeLinear that follow each other into one pair, and the
# coarser rounding is lost. One would expect session.disable_quant_qdq=1 to prevent it ("do what the nodes say"); it
# does not.
# For a user: a simulation of two roundings (a tensor that leaves one engine in INT8 and enters another one with its own
# scale) looks better than it is. Open the session with all graph optimizations off.
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

nodes = [
    helper.make_node("QuantizeLinear", ["x", "coarse", "zero"], ["q1"]),
    helper.make_node("DequantizeLinear", ["q1", "coarse", "zero"], ["rounded"]),
    helper.make_node("QuantizeLinear", ["rounded", "fine", "zero"], ["q2"]),
    helper.make_node("DequantizeLinear", ["q2", "fine", "zero"], ["y"]),
]
constants = {"coarse": np.float32(0.1), "fine": np.float32(0.01), "zero": np.int8(0)}
graph = helper.make_graph(
    nodes,
    "pairs",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
x = np.array([0.03, 0.26, 0.58, 0.97], np.float32)
levels = onnxruntime.GraphOptimizationLevel


def run(level=levels.ORT_ENABLE_ALL, **settings):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    for key, value in settings.items():
        options.add_session_config_entry(f"session.{key}", value)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


default, literal, off = run(), run(disable_quant_qdq="1"), run(levels.ORT_DISABLE_ALL)
print("onnxruntime", onnxruntime.__version__)
print("x:                           ", x)
print("expected, in steps of 0.1:    [0.  0.3 0.6 1. ]")
print("default session:             ", default)
print("session.disable_quant_qdq=1: ", literal)
print("all optimizations off:       ", off)
if not np.allclose(off, [0, 0.3, 0.6, 1.0]):
    raise SystemExit("changed: without optimizations the result is no longer what the nodes say")
if np.allclose(default, off):
    raise SystemExit("changed: the default session now keeps both pairs")
if np.allclose(literal, off):
    raise SystemExit("changed: session.disable_quant_qdq now keeps both pairs")
END
