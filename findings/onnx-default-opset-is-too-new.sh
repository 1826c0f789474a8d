#!/usr/bin/env bash
# onnx.helper.make_model writes the newest opset of the onnx package, and the released ONNX Runtime is behind it:
# QuantizeLinear of opset 28 has no implementation, in a model that the checker accepts. One would expect the newest two
# packages to fit.
# For a user: name opset and IR version whenever a model is made: make_model(graph, opset_imports=[make_opsetid("",
# 17)], ir_version=9).
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

graph = helper.make_graph(
    [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ],
    "pair",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero")],
)


def result(**versions):
    model = helper.make_model(graph, **versions)
    onnx.checker.check_model(model, full_check=True)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"opset {model.opset_import[0].version}: {type(error).__name__}: {error}"
    (y,) = session.run(None, {"x": np.array([0.04, 0.12, 0.26], np.float32)})
    return f"opset {model.opset_import[0].version}: {y}"


print("onnx", onnx.__version__, "and onnxruntime", onnxruntime.__version__)
print("expected: both models run")
default, named = result(), result(opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
print("by default,", default)
print("named,", named)
if "NotImplemented" not in default:
    raise SystemExit("changed: ONNX Runtime no longer refuses QuantizeLinear of onnx's default opset for want of it")
if "[" not in named or "Error" in named:
    raise SystemExit("changed: ONNX Runtime no longer runs the model of opset 17")
END
