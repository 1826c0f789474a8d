#!/usr/bin/env bash
# PyTorch's fake quantization multiplies by 1 / scale, rounded, where ONNX's QuantizeLinear divides by the scale. Both round
# half to even. So a value that lies exactly between two levels goes to the other level in one of nine or ten cases: with
# scale 0.02, the quotient of 0.23 is 11.5, and the product with 1 / 0.02 is 11.499999. Some that lie beside it move, too.
# For a user: a network whose values lie on a grid (images of 8 bits, outputs of a quantized layer) differs by whole levels
# between training and the exported model, though scales and weights are the same. Compare outputs with a tolerance of a
# level, not bit for bit, or divide by the scale in a fake quantizer of one's own.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 onnxruntime==1.32.0 onnx==1.23.2 numpy

ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - <<'END'
import sys

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

nodes = [
    helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
]
inputs = [
    helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
    helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
    helper.make_tensor_value_info("zero", TensorProto.INT8, []),
]
graph = helper.make_graph(nodes, "pair", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

ties = moved = others = 0
for scale in np.random.default_rng(0).uniform(1e-3, 1, 200).astype(np.float32):
    middles = ((np.arange(-100, 100) + np.float32(0.5)) * scale).astype(np.float32)
    values = np.concatenate([middles, middles * np.float32(1.01)])
    exact = np.modf(np.abs(values / scale))[0] == 0.5
    onnx_levels, torch_levels = (
        np.rint(given / scale)
        for given in (
            session.run(None, {"x": values, "scale": np.array(scale), "zero": np.array(0, np.int8)})[0],
            torch.fake_quantize_per_tensor_affine(torch.from_numpy(values), float(scale), 0, -128, 127).numpy(),
        )
    )
    differs = onnx_levels != torch_levels
    ties, moved, others = ties + exact.sum(), moved + differs[exact].sum(), others + differs[~exact].sum()
print("torch", torch.__version__.partition("+")[0], "onnxruntime", onnxruntime.__version__)
print(f"of {ties} values that lie exactly between two levels, {moved} go to another level in PyTorch; of others {others}")
if not (0.05 * ties < moved < 0.25 * ties):
    sys.exit("changed: PyTorch moves another share of them")
END
