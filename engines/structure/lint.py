"""The Q/DQ structure of an ONNX model: what is quantized and how, and what TensorRT will not make INT8 of.

The rules are those of NVIDIA's developer guide ("Explicit Quantization") and of the builder's behaviour; each finding
says what follows from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibrators.tabular import Row, Tabular
from engines.graph.float_layers import IN_A_BRANCH, ONNX, why_float
from engines.graph.operators import ADDITIONS, CONVOLUTIONS, WEIGHTED, label, weight_axis
from engines.qdq.placement import WHY_SMALL, is_small
from engines.qdq.read import DEQUANTIZE, QUANTIZE, Graph, Quantizer
from engines.structure.dynamic import dynamic_findings, dynamic_operators
from engines.structure.findings import Finding, WeightedOperator
from engines.structure.passing import passed_on

if TYPE_CHECKING:
    import onnx

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


@dataclass(frozen=True, slots=True)
class Structure(Tabular):
    """What is quantized in a model.

    Attributes:
        operators: Every weighted operator, in the model's order.
        quantizers: Every DequantizeLinear.
        findings: What breaks or weakens the engine; worst first.
        left_float: As `float_layers` tells.
    """

    operators: tuple[WeightedOperator, ...]
    quantizers: tuple[Quantizer, ...]
    findings: tuple[Finding, ...]
    left_float: Mapping[str, str]

    def rows(self) -> list[Row]:
        """A row a weighted operator, with what quantizes its activation and its weights."""
        return [
            {
                "node": each.node,
                "operator": each.op_type,
                "activation": str(each.inputs[0] or "float"),
                "weights": str(each.inputs[1] or "float"),
                "int8": each.quantized or each.dynamic,
            }
            for each in self.operators
        ]

    @property
    def quantized(self) -> bool:
        """Whether there is any Q/DQ node."""
        return bool(self.quantizers)

    @property
    def dynamic(self) -> bool:
        """Whether activations are quantized with ranges found at run time."""
        return any(finding.rule == "dynamic" for finding in self.findings)


def structure_of(model: "onnx.ModelProto") -> Structure:
    """Describe and judge the Q/DQ nodes of `model`; a float model has operators and no quantizers."""
    graph = Graph(model)
    pairs = {node.output[0]: graph.quantizer(node) for node in model.graph.node if node.op_type == DEQUANTIZE}
    direct = pairs | _reshaped_blocks(model, pairs)
    quantizers = passed_on(model.graph.node, graph, direct)
    floats = float_layers(model, graph)
    operators = [each for node in model.graph.node for each in _weighted_operators(node, quantizers, floats)]
    findings = [finding for quantizer in pairs.values() for finding in _judge_quantizer(quantizer)]
    findings += dynamic_findings(model)
    if quantizers:
        findings += [finding for node in model.graph.node for finding in _judge_node(graph, node, quantizers, direct)]
        findings += _judge_groups(model, quantizers)
    order = ("error", "warning", "hint")
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Structure((*operators, *dynamic_operators(model, graph)), tuple(pairs.values()), tuple(findings), floats)


def float_layers(model: "onnx.ModelProto", graph: Graph | None = None) -> dict[str, str]:
    """Labels of the operators with weights that Q/DQ nodes do not make INT8 of, or not by default -> why."""
    graph = graph or Graph(model)
    found = {}
    for node in model.graph.node:
        operands = [graph.constants[name] for name in node.input if name in graph.constants]
        why = why_float(node, [(tensor.data_type, tensor.dims) for tensor in operands]) or _why_small(node, graph)
        if why and any(name in graph.activations for name in node.input):
            found[label(node)] = why
        found.update((label(each), why) for each in _in_branches(node) if (why := _why_float_in_a_branch(each, graph)))
    return found


def _weighted_operators(
    node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer], floats: Mapping[str, str]
) -> Iterator[WeightedOperator]:
    """A node, where it has weights, and those in its branches that have."""
    if node.op_type in WEIGHTED:
        first, second = node.input[:2]
        yield WeightedOperator(label(node), node.op_type, (quantizers.get(first), quantizers.get(second)))
    elif label(node) in floats:
        yield WeightedOperator(label(node), node.op_type, (None, None))
    for each in _in_branches(node):
        if label(each) in floats:
            yield WeightedOperator(label(each), each.op_type, (None, None))


def _in_branches(node: "onnx.NodeProto") -> Iterator["onnx.NodeProto"]:
    """The nodes in the branches of an If, a Loop or a Scan, and in theirs."""
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            for each in branch.node:
                yield each
                yield from _in_branches(each)


def _why_float_in_a_branch(node: "onnx.NodeProto", graph: Graph) -> str:
    if node.op_type in WEIGHTED and node.domain in ONNX:
        return IN_A_BRANCH
    operands = [graph.constants[name] for name in node.input if name in graph.constants]
    return why_float(node, [(tensor.data_type, tensor.dims) for tensor in operands])


def _why_small(node: "onnx.NodeProto", graph: Graph) -> str:
    if node.op_type not in WEIGHTED or node.op_type in CONVOLUTIONS:
        return ""
    factors = [graph.constants[name].dims for name in node.input[:2] if name in graph.constants]
    return WHY_SMALL if any(len(sizes) > 1 and is_small(sizes) for sizes in factors) else ""


def has_quantizers(model: "onnx.ModelProto") -> bool:
    """Whether there is any Q/DQ node."""
    return any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in model.graph.node)


def _reshaped_blocks(model: "onnx.ModelProto", pairs: Mapping[str, Quantizer]) -> dict[str, Quantizer]:
    """Weights by blocks behind the Reshape that `engines.qdq.write` writes."""
    return {
        node.output[0]: pairs[node.input[0]]
        for node in model.graph.node
        if node.op_type == "Reshape" and node.input[0] in pairs and pairs[node.input[0]].block_size is not None
    }


def _judge_quantizer(quantizer: Quantizer) -> Iterator[Finding]:
    nodes = tuple(name for name in (quantizer.quantize, quantizer.node) if name)
    what = f"{quantizer.node} ({quantizer.tensor})"
    if quantizer.type == "INT32":
        yield Finding(
            "error",
            "int32-bias",
            nodes,
            f"{what} dequantizes INT32, which TensorRT does not take: leave biases in float, or take the scales "
            "alone (trtcal cache convert --from qdq) and build the float model with them",
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
    elif quantizer.type == "INT8" and quantizer.block_size is not None:
        message = (
            f"{what} has INT8 scales by blocks, which TensorRT has not; TensorRT-RTX takes them for others without a "
            "word: quantize per channel"
        )
        yield Finding("error", "int8-blocks", nodes, message)
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


def _judge_node(
    graph: Graph, node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer], direct: Mapping[str, Quantizer]
) -> Iterator[Finding]:
    """`quantizers` are those of `passed_on`, `direct` those of the tensors that DequantizeLinear nodes give."""
    if node.op_type in WEIGHTED:
        yield from _judge_weighted(graph, node, quantizers)
    elif node.op_type == QUANTIZE:
        yield from _judge_quantize(graph, node)
    elif node.op_type in ADDITIONS and len(node.input) == 2:
        yield from _judge_add(graph, node, quantizers, direct)


def _judge_weighted(graph: Graph, node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer]) -> Iterator[Finding]:
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
    for place, weight in enumerate((first, second)):
        if weight is None or not (weight.constant and weight.per_channel and weight.block_size is None):
            continue
        axis = weight_axis(node, place=place, rank=graph.rank(weight.tensor))
        if weight.axis not in (axis, None):
            message = (
                f"the weights of {node.op_type} {name} have a scale per index of axis {weight.axis}, TensorRT takes "
                f"one per output channel: axis {axis}"
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


def _judge_quantize(graph: Graph, node: "onnx.NodeProto") -> Iterator[Finding]:
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


def _judge_add(
    graph: Graph, node: "onnx.NodeProto", quantizers: Mapping[str, Quantizer], direct: Mapping[str, Quantizer]
) -> Iterator[Finding]:
    """A residual addition of an INT8 convolution that reads its skip input in float.

    It is asked for where `engines.qdq.placement` quantizes: inputs of one shape, one of them a convolution's that
    nothing else reads, and the other not quantized before operators that only move its values either.
    """
    if any(name not in graph.activations or graph.quantized_before_moves(name, direct) for name in node.input):
        return
    if graph.different(*node.input):
        return
    makers = [_behind_normalization(graph, name) for name in node.input]
    quantized = [
        maker is not None and maker.op_type in CONVOLUTIONS and all(name in quantizers for name in maker.input[:2])
        for maker in makers
    ]
    if any(quantized):
        skip = node.input[0] if not quantized[0] else node.input[1]
        message = f"{node.op_type} {label(node)} reads {skip} in float: a Q/DQ pair on it lets INT8 be stored instead"
        yield Finding("hint", "residual", (label(node),), message)


def _behind_normalization(graph: Graph, name: str) -> "onnx.NodeProto | None":
    """What makes a tensor, normalized or not; None where anything but one node reads it."""
    maker = graph.producers.get(name) if graph.read_once(name) else None
    if maker is not None and maker.op_type == "BatchNormalization":
        return _behind_normalization(graph, maker.input[0])
    return maker
