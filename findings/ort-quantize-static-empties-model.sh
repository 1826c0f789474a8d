#!/usr/bin/env bash
# onnxruntime.quantization.quantize_static takes a model in memory, and empties it: the weights are moved to a file in a
# temporary folder, which is deleted afterwards. One would expect the argument to stay as it is.
# For a user: a second call with the same model (another method, other options) fails with an error about a missing
# file. Give it a copy for each call, or a path.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 sympy==1.14.0

cd "$work"
ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - <<'END'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)
size = 64
weight = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weight"], ["y"])],
    "product",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, size])],
    [numpy_helper.from_array(weight, "weight")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": np.ones((1, size), np.float32)}])

    def get_next(self):
        return next(self.batches, None)


print("onnxruntime", onnxruntime.__version__)
print("expected: the model that was given is the same afterwards")
before = model.ByteSize()
quantize_static(model, "first.onnx", Reader())
after = model.ByteSize()
print(f"before the call it has {before:,} bytes, after it {after:,}")
try:
    quantize_static(model, "second.onnx", Reader())
except Exception as error:
    print(f"the second call: {type(error).__name__}: {str(error).splitlines()[0]}")
else:
    raise SystemExit("changed: the second call succeeds")
if after == before:
    raise SystemExit("changed: the model keeps its weights")
END
