#!/usr/bin/env bash
# An engine of TensorRT for RTX can be built for several GPU generations at once. If SM75 (Turing) is among them, every
# INT8 convolution runs in float on all of them, the newest included. One would expect each generation to get its own
# kernels. The builder says nothing of it; only the list of layers in its verbose log shows it.
# For a user: leave SM75 out, or build a separate engine for it. (For SM75 alone the convolution runs in float as well.)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tensorrt-rtx==1.7.1.116 onnx==1.23.2

"$work/venv/bin/python" - <<'END'
import re

import numpy as np
import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper, numpy_helper


def convolution():
    """A 3x3 convolution of 32 channels with INT8 pairs on input and weight."""
    weight = np.random.default_rng(0).normal(size=(32, 32, 3, 3)).astype(np.float32)
    constants = {
        "weight": weight,
        "weight_scale": np.abs(weight).max(axis=(1, 2, 3)) / 127,
        "weight_zero": np.zeros(32, np.int8),
        "scale": np.float32(0.02),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
        helper.make_node("QuantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w_q"], axis=0),
        helper.make_node("DequantizeLinear", ["w_q", "weight_scale", "weight_zero"], ["w_dq"], axis=0),
        helper.make_node("Conv", ["x_dq", "w_dq"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    shape = [1, 32, 56, 56]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


class Log(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.messages = []

    def log(self, severity, message):
        self.messages.append((severity, message))


def type_of_convolution(*capabilities):
    """The type in which the convolution reads its input, and the warnings of the build."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, log).parse(convolution().SerializeToString())
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), index)
    assert builder.build_serialized_network(network, config) is not None
    (layers,) = [text for _, text in log.messages if text.startswith("Layers:")]
    (line,) = [line for line in layers.splitlines() if "LayerType: correlation" in line]
    warnings = [text for severity, text in log.messages if severity <= trt.ILogger.WARNING]
    return re.search(r"Datatype: (\w+)", line)[1], warnings


print("tensorrt_rtx", trt.__version__)
print("expected: the convolution reads Int8 on SM86 and SM120, whatever else the engine is built for")
found = {}
for targets in (("SM86", "SM120"), ("SM75", "SM86", "SM120")):
    found[targets], warnings = type_of_convolution(*targets)
    print(f"targets {' '.join(targets)}: the convolution reads {found[targets]}; warnings: {warnings or 'none'}")
if found["SM86", "SM120"] != "Int8":
    raise SystemExit("changed: the convolution is not INT8 even without SM75")
if found["SM75", "SM86", "SM120"] == "Int8":
    raise SystemExit("changed: with SM75 among the targets the convolution is now INT8")
END
