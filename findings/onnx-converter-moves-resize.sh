#!/usr/bin/env bash
# onnx.version_converter raises a linear Resize of opset 10 (or an Upsample) to opset 11 and later without the attribute
# that keeps its function: the old operator is asymmetric, the new one's default is half_pixel, so every value moves.
# Hardmax below opset 13 changes its meaning in the same way, while Softmax, which changed alike, is converted
# correctly.
# For a user: Q/DQ nodes need opset 10 (13 per channel), so older detectors and segmentation networks are converted
# before they are quantized. Compare the outputs of both models, or set coordinate_transformation_mode="asymmetric"
# afterwards.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2

ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - <<'END'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # it warns of old operators


def before_and_after(operator, opset, x, constants=(), **attributes):
    """What ONNX Runtime computes of one operator, as it is and converted to opset 13."""
    node = helper.make_node(operator, ["x", *dict(constants)], ["y"], **attributes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{axis}" for axis in range(x.ndim)])
    graph = helper.make_graph(
        [node],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [y],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    onnx.checker.check_model(model)
    return [
        onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, {"x": x}
        )[0]
        for m in (model, version_converter.convert_version(model, 13))
    ]


print("onnx", onnx.__version__, "and onnxruntime", onnxruntime.__version__)
print("expected: the same numbers before and after the conversion to opset 13")
row = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
scales = np.array([1, 1, 1, 2], np.float32)
cases = {
    "Resize 10, linear": before_and_after("Resize", 10, row, [("scales", scales)], mode="linear"),
    "Upsample 9, linear": before_and_after("Upsample", 9, row, [("scales", scales)], mode="linear"),
    "Upsample 7, linear": before_and_after("Upsample", 7, row, mode="linear", scales=scales.tolist()),
    "Hardmax 11, axis 1": before_and_after("Hardmax", 11, np.array([[[1, 2], [4, 3]]], np.float32), axis=1),
}
for name, (before, after) in cases.items():
    print(f"{name}: before {before.ravel()}, after {after.ravel()}")
softmax = before_and_after("Softmax", 11, np.array([[[1, 2], [4, 3]]], np.float32), axis=1)
print(f"Softmax 11, axis 1: before {softmax[0].ravel()}, after {softmax[1].ravel()}")
for name, (before, after) in cases.items():
    if np.allclose(before, after):
        raise SystemExit(f"changed: {name} now keeps its function")
if not np.allclose(*softmax):
    raise SystemExit("changed: Softmax no longer keeps its function")
END
