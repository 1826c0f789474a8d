"""The models: the graphs of ResNet-50 and MobileNetV2 with random weights, batch normalization folded.

Weights are drawn after He et al., "Delving deep into rectifiers" (2015): normal with variance gain / fan-in, the gain 2
where a rectifier follows directly and 1 elsewhere, so that a branch neither shrinks nor stretches its input.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.images import INPUT, SIZE

CLASSES = 1000
OUTPUT = "logits"
OPSET = 17
IR_VERSION = 8
"""The first that goes with opset 17: older ONNX Runtimes read it too."""

RESNET50_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks, stride of the first block: He et al., "Deep residual learning" (2016), table 1."""

RESNET50_EXPANSION = 4

MOBILENET_V2_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, blocks, stride of the first block: Sandler et al., "MobileNetV2" (2018), table 2."""


def resnet50(*, seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 with the stride in the 3x3 convolution (version 1.5): 122 nodes, 123 float activations."""
    graph = _Graph(seed)
    x = graph.relu(graph.conv(INPUT, 3, 64, size=7, stride=2, gain=2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, first_stride in RESNET50_STAGES:
        out = RESNET50_EXPANSION * width
        for stride in (first_stride, *[1] * (blocks - 1)):
            y = graph.relu(graph.conv(x, channels, width, gain=2))
            y = graph.relu(graph.conv(y, width, width, size=3, stride=stride, gain=2))
            y = graph.conv(y, width, out)
            if channels != out:
                x = graph.conv(x, channels, out, stride=stride)
            x = graph.relu(graph.add("Add", y, x))
            channels = out
    return graph.classifier(x, channels, "resnet50-shaped")


def mobilenet_v2(*, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2 of width 1.0: 100 nodes, 101 float activations."""
    graph = _Graph(seed)
    x = graph.relu6(graph.conv(INPUT, 3, 32, size=3, stride=2, gain=2))
    channels = 32
    for expansion, out, blocks, first_stride in MOBILENET_V2_STAGES:
        for stride in (first_stride, *[1] * (blocks - 1)):
            wide = channels * expansion
            y = graph.relu6(graph.conv(x, channels, wide, gain=2)) if expansion > 1 else x
            y = graph.relu6(graph.conv(y, wide, wide, size=3, stride=stride, groups=wide, gain=2))
            y = graph.conv(y, wide, out)
            x = graph.add("Add", x, y) if stride == 1 and channels == out else y
            channels = out
    x = graph.relu6(graph.conv(x, channels, 1280, gain=2))
    return graph.classifier(x, 1280, "mobilenetv2-shaped")


MODELS: Mapping[str, Callable[..., onnx.ModelProto]] = MappingProxyType(
    {"resnet50": resnet50, "mobilenetv2": mobilenet_v2}
)


class _Graph:
    """A graph under way: each method adds nodes and gives the name of the last one's output."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._zero_and_six: list[str] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def conv(
        self, x: str, channels: int, out: int, *, size: int = 1, stride: int = 1, groups: int = 1, gain: float = 1
    ) -> str:
        shape = (out, channels // groups, size, size)
        name = f"Conv_{len(self._nodes)}"
        weight = self._constant(f"{name}.weight", self._normal(shape, (gain / np.prod(shape[1:])) ** 0.5))
        bias = self._constant(f"{name}.bias", self._normal((out,), 0.1))  # what folded batch normalization leaves
        window = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [size // 2] * 4, "group": groups}
        return self.add("Conv", x, weight, bias, **window)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def relu6(self, x: str) -> str:
        if not self._zero_and_six:
            self._zero_and_six = [
                self._constant(name, np.array(value, np.float32)) for name, value in (("zero", 0), ("six", 6))
            ]
        return self.add("Clip", x, *self._zero_and_six)

    def classifier(self, x: str, channels: int, name: str) -> onnx.ModelProto:
        """End in global pooling and a fully connected layer; give the whole, checked."""
        x = self.add("Flatten", self.add("GlobalAveragePool", x))
        weight = self._constant("classifier.weight", self._normal((CLASSES, channels), channels**-0.5))
        bias = self._constant("classifier.bias", np.zeros(CLASSES, np.float32))
        self._nodes.append(helper.make_node("Gemm", [x, weight, bias], [OUTPUT], name="classifier", transB=1))
        inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])]
        outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", CLASSES])]
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model

    def _constant(self, name: str, values: npt.NDArray[np.float32]) -> str:
        self._initializers.append(numpy_helper.from_array(values, name))
        return name

    def _normal(self, shape: tuple[int, ...], deviation: float) -> npt.NDArray[np.float32]:
        return np.asarray(self._rng.standard_normal(shape) * deviation, np.float32)
