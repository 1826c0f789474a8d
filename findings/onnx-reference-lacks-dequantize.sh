#!/usr/bin/env bash
# onnx.reference.ReferenceEvaluator cannot run DequantizeLinear below opset 19, although the operator exists since opset
# 10, the model is valid, and QuantizeLinear of the same model does run. One would expect the reference of ONNX to know
# every version.
# For a user: most Q/DQ models are of opset 13 to 17, and cannot be checked against the reference as they are. Raise
# them to opset 19 with onnx.version_converter first (the pairs stay what they are), or compute the pairs with numpy.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check onnx==1.23.2

"$work/venv/bin/python" - <<'END'
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

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
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
x = np.array([0.04, 0.12, 0.26], np.float32)


def result(model):
    try:
        return ReferenceEvaluator(model).run(None, {"x": x})[0]
    except RuntimeError as error:
        return str(error)


print("onnx", onnx.__version__)
print("expected in both cases: [0.  0.1 0.3]")
old, raised = result(model), result(version_converter.convert_version(model, 19))
print("opset 17:", old)
print("raised to opset 19:", raised)
if not isinstance(old, str):
    raise SystemExit("changed: the reference now runs DequantizeLinear of opset 17")
if isinstance(raised, str) or not np.allclose(raised, [0, 0.1, 0.3]):
    raise SystemExit("changed: raising the model to opset 19 no longer helps")
END
