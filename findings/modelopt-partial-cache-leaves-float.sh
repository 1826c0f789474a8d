#!/usr/bin/env bash
# With a TensorRT calibration cache, nvidia-modelopt quantizes only the layers whose tensors the cache lists, and leaves
# the others in float. Names change from one export of a model to the next, so a cache that misses some tensors is
# common. One would expect an error, or a calibration of what is missing; there is one INFO line that names the skipped
# layers.
# For a user: compare the names of the cache with those of the model before, and count the QuantizeLinear nodes
# afterwards.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check "nvidia-modelopt[onnx]==0.47.0"

cd "$work"
ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - > "$work/log" 2>&1 <<'END' || { cat "$work/log" >&2; exit 1; }
from pathlib import Path

import modelopt
import numpy as np
import onnx
from modelopt.onnx.quantization import quantize
from onnx import TensorProto, helper, numpy_helper

# Three convolutions; the cache, in TensorRT's own format, lists the input of the first one.
random = np.random.default_rng(0)
nodes, weights, tensor = [], [], "x"
for index in range(3):
    weights.append(numpy_helper.from_array(random.normal(size=(32, 32, 3, 3)).astype(np.float32) / 12, f"w{index}"))
    output = f"a{index + 1}" if index < 2 else "y"
    nodes.append(helper.make_node("Conv", [tensor, f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", [f"c{index}"], [output], name=f"relu{index}"))
    tensor = output
shape = [1, 32, 16, 16]
graph = helper.make_graph(
    nodes,
    "three",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    weights,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "float.onnx")


def quantized(cache):
    """The convolutions that read a DequantizeLinear, with ranges from these lines of a cache."""
    Path("model.cache").write_text("TRT-8601-EntropyCalibration2\n" + "".join(f"{name}: 3c010a14\n" for name in cache))
    quantize("float.onnx", quantize_mode="int8", calibration_cache_path="model.cache", output_path="int8.onnx")
    graph = onnx.load("int8.onnx").graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if made_by.get(node.input[0]) == "DequantizeLinear"]


full, partial = quantized(["x", "a1", "a2"]), quantized(["x"])
print("RESULT nvidia-modelopt", modelopt.__version__)
print("RESULT expected: three convolutions in INT8 whatever the cache lists, or an error")
print("RESULT the cache lists x, a1, a2: in INT8 are", ", ".join(full))
print("RESULT the cache lists x:         in INT8 are", ", ".join(partial))
if len(full) != 3:
    raise SystemExit("changed: with a full cache not all convolutions are quantized")
if len(partial) == 3:
    raise SystemExit("changed: with a partial cache all convolutions are quantized")
END
sed -n 's/^RESULT //p' "$work/log"
echo "what it says of it:"
grep "Skipping quantization of nodes" "$work/log" | tail -n 1
