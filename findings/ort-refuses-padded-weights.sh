#!/usr/bin/env bash
# ONNX Runtime refuses a valid model in which a Pad makes the weight of a convolution out of a constant, as an exporter
# writes a 1x1 kernel that is widened to 3x3. Its optimizer takes the Pad for one of what the convolution reads, merges
# it into the convolution, and calls the model that it has made invalid: "Node input 'kernel' is not a graph input,
# initializer, or output of a previous node". With its optimizations off the same model runs.
# For a user: fold the Pad into the weight before, or leave out the optimizer Pad_Fusion (disabled_optimizers).
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

random = np.random.default_rng(0)
constants = {
    "small": random.normal(size=(8, 4, 1, 1)).astype(np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
}
graph = helper.make_graph(
    [
        helper.make_node("Pad", ["small", "pads"], ["kernel"]),
        helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1]),
    ],
    "padded",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 8, 8])],
    [numpy_helper.from_array(value, name) for name, value in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
x = random.normal(size=(1, 4, 8, 8)).astype(np.float32)
right = np.einsum("oi,nihw->nohw", constants["small"][:, :, 0, 0], x)


def outcome(level, without=()):
    """The largest error of the outputs, or what ONNX Runtime says instead of opening the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=[*without]
        )
    except Exception as error:
        return str(error)
    return float(np.abs(session.run(None, {"x": x})[0] - right).max())


levels = onnxruntime.GraphOptimizationLevel
found = {
    "no optimizations": outcome(levels.ORT_DISABLE_ALL),
    "all but Pad_Fusion": outcome(levels.ORT_ENABLE_ALL, ["Pad_Fusion"]),
    "by default": outcome(levels.ORT_ENABLE_ALL),
}
print("onnxruntime", onnxruntime.__version__)
print("expected: the model, which onnx's checker passes, runs in each of these")
for how, what in found.items():
    print(f"{how}: {what if isinstance(what, str) else f'largest error {what:.1e}'}")
if not all(isinstance(found[how], float) and found[how] < 1e-4 for how in ("no optimizations", "all but Pad_Fusion")):
    raise SystemExit("changed: without that optimization the model no longer runs")
if isinstance(found["by default"], float):
    raise SystemExit("changed: the model runs by default")
END
