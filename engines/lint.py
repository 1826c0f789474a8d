"""The Q/DQ structure of an ONNX model: what is quantized and how, and what TensorRT will not make INT8 of.

The rules are those of NVIDIA's developer guide ("Explicit Quantization") and of the builder's behaviour; each finding
says what follows from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engines.graph import data_nodes, input_specs, label

if TYPE_CHECKING:
    import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that run in INT8 when their inputs are quantized."""

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

_FUSED_AFTER = frozenset(
    {
        "BatchNormalization",
        "Clip",
        "Elu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Sigmoid",
        "Swish",
        "Tanh",
    }
)
"""Operators that are computed in one kernel with the convolution before them."""

_GROUP = 4
"""Channels per group, in and out, of an INT8 grouped convolution are a multiple of this (NvInfer.h, setNbGroups)."""

Severity = Literal["error", "warning", "hint"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a model or an engine that its owner should know.

    Attributes:
        severity: "error": no engine comes of it, or a wrong one; "warning": speed or accuracy is lost; "hint": worth a
            look.
        rule: A short name for its kind.
        nodes: The ONNX nodes it is about.
        message: What is so and what follows.
    """

    severity: Severity
    rule: str
    nodes: tuple[str, ...]
    message: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "nodes": list(self.nodes)}


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A DequantizeLinear, with the QuantizeLinear before it where there is one.

    Attributes:
        node: The DequantizeLinear's label.
        quantize: The QuantizeLinear's label; None where the data is stored in INT8.
        tensor: What is quantized.
        scales: float32 of shape (), or (channels,); None where it is not constant.
        zero_point: The constant zero point; None where there is none.
        type: ONNX's name of the quantized type, such as INT8; empty where it cannot be told.
        axis: The channels' axis; None per tensor.
        constant: Whether it quantizes weights rather than activations.
    """

    node: str
    quantize: str | None
    tensor: str
    scales: "np.ndarray[Any, np.dtype[Any]] | None"
    zero_point: "np.ndarray[Any, np.dtype[Any]] | None"
    type: str
    axis: int | None
    constant: bool

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return self.scales is not None and self.scales.size > 1

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "node": self.node,
            "quantize": self.quantize,
            "tensor": self.tensor,
            "type": self.type or None,
            "axis": self.axis,
            "constant": self.constant,
            "scales": None if self.scales is None else self.scales.reshape(-1).astype(float).tolist(),
            "zero_point": None if self.zero_point is None else self.zero_point.reshape(-1).astype(int).tolist(),
        }

    def __str__(self) -> str:
        if self.scales is None:
            return f"{self.type}, scale computed"
        if self.per_channel:
            return f"{self.type} per channel ({self.scales.size}, axis {self.axis})"
        return f"{self.type} {self.scales.item():.6g}"


@dataclass(frozen=True, slots=True)
class WeightedOperator:
    """A Conv, ConvTranspose, Gemm or MatMul.

    Attributes:
        node: Its label.
        op_type: Its operator.
        inputs: What quantizes its first two inputs; None for an input in float.
    """

    node: str
    op_type: str
    inputs: tuple[Quantizer | None, Quantizer | None]

    @property
    def quantized(self) -> bool:
        """Whether both inputs are quantized."""
        return None not in self.inputs


@dataclass(frozen=True, slots=True)
class Structure:
    """What is quantized in a model.

    Attributes:
        operators: Every weighted operator, in the model's order.
        quantizers: Every DequantizeLinear.
        findings: What breaks or weakens the engine; worst first.
    """

    operators: tuple[WeightedOperator, ...]
    quantizers: tuple[Quantizer, ...]
    findings: tuple[Finding, ...]

    @property
    def quantized(self) -> bool:
        """Whether there is any Q/DQ node."""
        return bool(self.quantizers)


def structure_of(model: "onnx.ModelProto") -> Structure:
    """Describe and judge the Q/DQ nodes of `model`; a float model has operators and no quantizers."""
    graph = _Graph(model)
    quantizers = {node.output[0]: graph.quantizer(node) for node in model.graph.node if node.op_type == DEQUANTIZE}
    operators = tuple(
        WeightedOperator(label(node), node.op_type, (quantizers.get(node.input[0]), quantizers.get(node.input[1])))
        for node in model.graph.node
        if node.op_type in WEIGHTED
    )
    findings = [finding for quantizer in quantizers.values() for finding in _judge_quantizer(quantizer)]
    if quantizers:
        findings += [finding for node in model.graph.node for finding in _judge_node(graph, node, quantizers)]
        findings += _judge_groups(model, quantizers)
    order = ("error", "warning", "hint")
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Structure(operators, tuple(quantizers.values()), tuple(findings))


def has_quantizers(model: "onnx.ModelProto") -> bool:
    """Whether there is any Q/DQ node."""
    return any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in model.graph.node)


class _Graph:
    """Who makes and who reads each tensor."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
            if node.op_type == "Constant":
                self.constants.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
        self.activations = {spec.name for spec in input_specs(model)}
        self.activations.update(name for node in data_nodes(model) for name in node.output)

    def value(self, name: str) -> "np.ndarray[Any, np.dtype[Any]] | None":
        from onnx import numpy_helper

        while name in self.producers and self.producers[name].op_type in ("Identity", "Cast"):
            name = self.producers[name].input[0]
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def quantizer(self, dequantize: "onnx.NodeProto") -> Quantizer:
        source = self.producers.get(dequantize.input[0])
        quantize = source if source is not None and source.op_type == QUANTIZE else None
        tensor = quantize.input[0] if quantize is not None else dequantize.input[0]
        scales, zero_point = (
            self.value(dequantize.input[index]) if len(dequantize.input) > index and dequantize.input[index] else None
            for index in (1, 2)
        )
        types = [
            _type_of(self.constants[name])
            for name in (dequantize.input[0], *dequantize.input[2:])
            if name in self.constants
        ]
        if not types and quantize is not None:
            types = [_output_type(quantize)]
        axis = next((item.i for item in dequantize.attribute if item.name == "axis"), 1)
        if axis < 0 and tensor in self.constants:
            axis += len(self.constants[tensor].dims)
        return Quantizer(
            node=label(dequantize),
            quantize=label(quantize) if quantize is not None else None,
            tensor=tensor,
            scales=scales,
            zero_point=zero_point,
            type=types[0] if types else "",
            axis=axis if scales is not None and scales.size > 1 else None,
            constant=tensor not in self.activations,
        )


def _judge_quantizer(quantizer: Quantizer) -> Iterator[Finding]:
    nodes = tuple(name for name in (quantizer.quantize, quantizer.node) if name)
    what = f"{quantizer.node} ({quantizer.tensor})"
    if quantizer.type == "INT32":
        yield Finding(
            "error",
            "int32-bias",
            nodes,
            f"{what} dequantizes INT32, which TensorRT does not take: leave biases in float",
        )
        return
    if quantizer.type == "UINT8":
        message = f"{what} is UINT8, which TensorRT reads as INT8 and so cuts half the range off: quantize to INT8"
        yield Finding("error", "uint8", nodes, message)
    elif quantizer.zero_point is not None and np.any(quantizer.zero_point):
        yield Finding(
            "error",
            "zero-point",
            nodes,
            f"{what} has a zero point other than 0, TensorRT's INT8 is symmetric: quantize symmetrically",
        )
    elif not quantizer.type and quantizer.quantize:
        message = f"{what} has no zero point: ONNX means UINT8 by that, TensorRT INT8; give it an INT8 zero point of 0"
        yield Finding("warning", "no-zero-point", nodes, message)
    if quantizer.scales is None:
        yield Finding(
            "error",
            "computed-scale",
            nodes,
            f"the scale of {what} is computed, TensorRT takes constants only: fold the model",
        )
    elif not (np.isfinite(quantizer.scales) & (quantizer.scales > 0)).all():
        yield Finding(
            "error",
            "scale",
            nodes,
            f"{what} has a scale that is not positive and finite: calibrate again, or leave the tensor in float",
        )
    if quantizer.per_channel and not quantizer.constant:
        yield Finding(
            "warning",
            "per-channel-activation",
            nodes,
            f"{what} quantizes an activation per channel: what reads it runs in float",
        )


def _judge_node(graph: _Graph, node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer]) -> Iterator[Finding]:
    if node.op_type in WEIGHTED:
        yield from _judge_weighted(node, quantizers)
    elif node.op_type == QUANTIZE:
        yield from _judge_quantize(graph, node)
    elif node.op_type == "Add":
        yield from _judge_add(graph, node, quantizers)


def _judge_weighted(node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer]) -> Iterator[Finding]:
    name = label(node)
    first, second = quantizers.get(node.input[0]), quantizers.get(node.input[1])
    if (first is None) != (second is None):
        lone, missing = (first, node.input[1]) if second is None else (second, node.input[0])
        assert lone is not None
        message = (
            f"{node.op_type} {name} runs in float: {lone.tensor} is quantized, {missing} is not; quantize both or "
            "neither"
        )
        yield Finding("warning", "half-quantized", (name,), message)
    axis = _weight_axis(node)
    if second is not None and second.constant and second.per_channel and second.axis != axis:
        message = (
            f"the weights of {node.op_type} {name} have a scale per index of axis {second.axis}, TensorRT takes one "
            f"per output channel: axis {axis}"
        )
        yield Finding("warning", "weight-axis", (name,), message)


def _judge_groups(model: "onnx.ModelProto", quantizers: Mapping[str, Quantizer]) -> Iterator[Finding]:
    """Grouped convolutions whose groups INT8 kernels have to fill up with zeros: all of them in one finding."""
    padded = []
    for node in model.graph.node:
        weight = quantizers.get(node.input[1]) if node.op_type == "Conv" and node.input[0] in quantizers else None
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        if groups > 1 and weight is not None and weight.scales is not None and weight.per_channel:
            padded += [label(node)] if (weight.scales.size // groups) % _GROUP else []
    if padded:
        message = (
            f"{len(padded)} grouped convolutions ({padded[0]}, ...) have fewer than {_GROUP} channels per group, or "
            "no multiple: INT8 kernels pad them"
        )
        yield Finding("hint", "padded-groups", tuple(padded), message)


def _judge_quantize(graph: _Graph, node: "onnx.NodeProto") -> Iterator[Finding]:
    """Q right behind a convolution whose result goes on into what would have been fused with it."""
    maker = graph.producers.get(node.input[0])
    if maker is None or maker.op_type not in WEIGHTED:
        return
    for dequantize in graph.consumers.get(node.output[0], []):
        for reader in graph.consumers.get(dequantize.output[0], []):
            if reader.op_type in _FUSED_AFTER:
                message = (
                    f"{label(node)} stands between {maker.op_type} {label(maker)} and {reader.op_type} "
                    f"{label(reader)}: quantize behind the latter"
                )
                yield Finding("warning", "between-fused", (label(node), label(maker), label(reader)), message)


def _judge_add(graph: _Graph, node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer]) -> Iterator[Finding]:
    """A residual Add of INT8 convolutions that reads its skip input in float."""
    if any(name in quantizers or name not in graph.activations for name in node.input):
        return
    makers = [_behind_normalization(graph, name) for name in node.input]
    quantized = [
        maker is not None and maker.op_type in WEIGHTED and all(name in quantizers for name in maker.input[:2])
        for maker in makers
    ]
    if any(quantized):
        skip = node.input[0] if not quantized[0] else node.input[1]
        message = f"Add {label(node)} reads {skip} in float: a Q/DQ pair on it lets INT8 be stored instead"
        yield Finding("hint", "residual", (label(node),), message)


def _type_of(tensor: "onnx.TensorProto") -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(tensor.data_type))


def _output_type(quantize: "onnx.NodeProto") -> str:
    """The type that a QuantizeLinear without a zero point gives."""
    from onnx import TensorProto

    kind = next((item.i for item in quantize.attribute if item.name == "output_dtype"), 0)
    return str(TensorProto.DataType.Name(kind)) if kind else ""


def _behind_normalization(graph: _Graph, name: str) -> "onnx.NodeProto | None":
    maker = graph.producers.get(name)
    return graph.producers.get(maker.input[0]) if maker is not None and maker.op_type == "BatchNormalization" else maker


def _weight_axis(node: "onnx.NodeProto") -> int:
    """The axis of output channels in the weights."""
    if node.op_type == "Gemm":
        return 0 if any(item.name == "transB" and item.i for item in node.attribute) else 1
    return 0 if node.op_type == "Conv" else 1
