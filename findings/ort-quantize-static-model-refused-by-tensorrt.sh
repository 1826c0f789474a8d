#!/usr/bin/env bash
# The INT8 model that ONNX Runtime's quantize_static makes by default is refused by TensorRT's parser, twice: biases are
# INT32 behind a DequantizeLinear, and zero points of activations are not 0. "Q/DQ is the format of both" suggests that
# it would build.
# (Shown with the parser of TensorRT for RTX, which runs without a GPU.)
# For a user: extra_options={"QuantizeBias": False, "ActivationSymmetric": True}, and INT8 on both sides, which is the
# default.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
  tensorrt-rtx==1.7.1.116 onnxruntime==1.32.0 onnx==1.23.2 sympy==1.14.0

cd "$work"
ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - <<'END'
import logging

import numpy as np
import onnx
import onnxruntime
import tensorrt_rtx as trt
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)
random = np.random.default_rng(0)
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "weight", "bias"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
    "convolution",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 32, 32])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 30, 30])],
    [
        numpy_helper.from_array(random.normal(size=(32, 16, 3, 3)).astype(np.float32), "weight"),
        numpy_helper.from_array(random.normal(size=32).astype(np.float32), "bias"),
    ],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "float.onnx")


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": random.random((1, 16, 32, 32), dtype=np.float32)}])

    def get_next(self):
        return next(self.batches, None)


class Silent(trt.ILogger):
    def log(self, severity, message):
        pass


def refusal(**extra_options):
    """Why the parser refuses the quantized model, or None."""
    quantize_static("float.onnx", "int8.onnx", Reader(), extra_options=extra_options)
    logger = Silent()
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    with open("int8.onnx", "rb") as file:
        if parser.parse(file.read()):
            return None
    reason = parser.get_error(0).desc().replace("\n", " ")
    return reason if len(reason) < 200 else reason[:200] + "..."


print("onnxruntime", onnxruntime.__version__, "and tensorrt_rtx", trt.__version__)
print("expected: a Q/DQ model of quantize_static is parsed")
default = refusal()
print("default:                           ", default)
float_bias = refusal(QuantizeBias=False)
print("QuantizeBias=False:                ", float_bias)
symmetric = refusal(QuantizeBias=False, ActivationSymmetric=True)
print("... and ActivationSymmetric=True:  ", symmetric or "parsed")
if default is None or "Int32" not in default:
    raise SystemExit("changed: the INT32 bias of the default model is no longer what is refused")
if float_bias is None or "zero point" not in float_bias:
    raise SystemExit("changed: the zero points are no longer what is refused")
if symmetric is not None:
    raise SystemExit("changed: the model with a float bias and symmetric activations is refused as well")
END
