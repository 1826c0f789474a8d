#!/usr/bin/env bash
# ONNX allows one scale per channel for an activation, and some quantizers write it in front of depthwise convolutions.
# TensorRT for RTX accepts such a model without a warning, and runs the convolution in float. One would expect INT8, or
# to be told.
# For a user: give activations one scale for the whole tensor; only weights have one per channel. The types of the
# kernels stand in the builder's verbose log alone.
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


def convolution(scale):
    """A 3x3 convolution of 32 channels with INT8 pairs; `scale` is the input's: one, or one per channel."""
    weight = np.random.default_rng(0).normal(size=(32, 32, 3, 3)).astype(np.float32)
    constants = {
        "weight": weight,
        "weight_scale": np.abs(weight).max(axis=(1, 2, 3)) / 127,
        "weight_zero": np.zeros(32, np.int8),
        "scale": scale,
        "zero": np.zeros(scale.shape, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"], axis=1),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"], axis=1),
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


def type_of_convolution(scale):
    """The type in which the convolution reads its input, and the warnings of the build."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, log).parse(convolution(scale).SerializeToString())
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None
    (layers,) = [text for _, text in log.messages if text.startswith("Layers:")]
    (line,) = [line for line in layers.splitlines() if "LayerType: correlation" in line]
    warnings = [text for severity, text in log.messages if severity <= trt.ILogger.WARNING]
    return re.search(r"Datatype: (\w+)", line)[1], warnings


print("tensorrt_rtx", trt.__version__)
print("expected: the convolution reads Int8 in both cases")
one, warnings = type_of_convolution(np.array(0.02, np.float32))
print(f"one scale:             the convolution reads {one}; warnings: {warnings or 'none'}")
each, warnings = type_of_convolution(np.full(32, 0.02, np.float32))
print(f"one scale per channel: the convolution reads {each}; warnings: {warnings or 'none'}")
if one != "Int8":
    raise SystemExit("changed: the convolution is not INT8 with one scale either")
if each == "Int8":
    raise SystemExit("changed: with one scale per channel the convolution is now INT8")
if warnings:
    raise SystemExit("changed: there is a warning now")
END
