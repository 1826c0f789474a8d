#!/usr/bin/env bash
# Without calibration data nvidia-modelopt's ONNX quantizer does not ask for any: it calibrates on uniform random values
# from 0 to 1. Two INFO lines say so. A model whose inputs are not of that size gets ranges that are far off, here by a
# factor of 255.
# For a user: always give calibration_data (on the command line --calibration_data_path), and search the log for
# RandomDataProvider.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check "nvidia-modelopt[onnx]==0.47.0"

cd "$work"
ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - > "$work/log" 2>&1 <<'END' || { cat "$work/log" >&2; exit 1; }
import modelopt
import numpy as np
import onnx
from modelopt.onnx.quantization import quantize
from onnx import TensorProto, helper, numpy_helper

# One convolution; its inputs are pixels from 0 to 255, as in a model that normalizes inside.
random = np.random.default_rng(0)
shape = [1, 32, 16, 16]
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])],
    "one",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    [numpy_helper.from_array(random.normal(size=(32, 32, 3, 3)).astype(np.float32) / 12, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "float.onnx")


def largest_input(**options):
    """The largest value that the quantized input can hold: its scale times 127."""
    quantize("float.onnx", quantize_mode="int8", output_path="int8.onnx", **options)
    graph = onnx.load("int8.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    scales = [constants[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"]
    (scale,) = [float(scale) for scale in scales if scale.size == 1]
    return 127 * scale


images = random.integers(0, 256, (8, *shape[1:])).astype(np.float32)
given, none = largest_input(calibration_data={"x": images}), largest_input()
print("RESULT nvidia-modelopt", modelopt.__version__)
print("RESULT expected: without data an error; with pixels a range up to 255")
print(f"RESULT with pixels:  the input's range ends at {given:.1f}")
print(f"RESULT without data: the input's range ends at {none:.2f}")
if given < 200:
    raise SystemExit("changed: with pixels the range does not reach them")
if none > 2:
    raise SystemExit("changed: without data the range no longer comes from values between 0 and 1")
END
sed -n 's/^RESULT //p' "$work/log"
echo "what it says of it:"
grep -i "random" "$work/log"
