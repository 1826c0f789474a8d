"""Dynamic quantization as a model shows it: activations are quantized with ranges found at run time."""

from typing import TYPE_CHECKING, Any

import numpy as np

from engines.graph.operators import label
from engines.qdq.read import NO_DYNAMIC, Graph, Quantizer
from engines.structure.findings import INTEGER, Finding, WeightedOperator

if TYPE_CHECKING:
    import onnx

DYNAMIC = INTEGER | {
    "DynamicQuantizeLSTM",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
}
"""Operators of dynamic quantization, ONNX's and those that ONNX Runtime makes of them."""


def dynamic_refusal(model: "onnx.ModelProto") -> str:
    """Why TensorRT cannot take a dynamically quantized model, and what to do; empty for any other."""
    nodes = [node for node in model.graph.node if node.op_type in DYNAMIC]
    if not nodes:
        return ""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return (
        f"the model is quantized dynamically ({nodes[0].op_type} {label(nodes[0])}{more}), and {NO_DYNAMIC}: quantize "
        "the float model with a calibration cache (trtcal quantize --cache)"
    )


def dynamic_findings(model: "onnx.ModelProto") -> list[Finding]:
    """The refusal as a finding, where there is one."""
    refusal = dynamic_refusal(model)
    nodes = tuple(label(node) for node in model.graph.node if node.op_type in DYNAMIC)
    return [Finding("error", "dynamic", nodes, refusal)] if refusal else []


def dynamic_operators(model: "onnx.ModelProto", graph: Graph) -> tuple[WeightedOperator, ...]:
    """Every ConvInteger and MatMulInteger with what quantizes its inputs."""
    return tuple(
        WeightedOperator(label(node), node.op_type, (_activation(node, graph), _weight(node, graph)))
        for node in model.graph.node
        if node.op_type in INTEGER
    )


def _activation(node: "onnx.NodeProto", graph: Graph) -> Quantizer | None:
    maker = graph.producers.get(node.input[0])
    if maker is None or maker.op_type != "DynamicQuantizeLinear":
        return None
    return Quantizer(
        node=label(node),
        quantize=label(maker),
        tensor=maker.input[0],
        scales=None,
        zero_point=None,
        type="UINT8",
        axis=None,
        constant=False,
    )


def _weight(node: "onnx.NodeProto", graph: Graph) -> Quantizer | None:
    """The constant operand; its scales are a factor of what its product is multiplied by, behind a Cast."""
    levels = graph.value(node.input[1])
    if levels is None:
        return None
    zero_point = graph.value(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    scales = _scales(node, graph)
    return Quantizer(
        node=label(node),
        quantize=None,
        tensor=node.input[1],
        scales=scales,
        zero_point=zero_point,
        type=levels.dtype.name.upper(),
        axis=(0 if node.op_type == "ConvInteger" else 1) if scales is not None and scales.size > 1 else None,
        constant=True,
    )


def _scales(node: "onnx.NodeProto", graph: Graph) -> "np.ndarray[Any, np.dtype[Any]] | None":
    """The weight's scales: behind a Cast, the product is multiplied by them times the activation's scale."""
    for cast in _readers(node, "Cast", graph):
        for scaled in _readers(cast, "Mul", graph):
            for name in scaled.input:
                maker = graph.producers.get(name)
                factors = maker.input if maker is not None and maker.op_type == "Mul" else ()
                found = next((value for value in map(graph.value, factors) if value is not None), None)
                if found is not None:
                    return found
    return None


def _readers(node: "onnx.NodeProto", operator: str, graph: Graph) -> "list[onnx.NodeProto]":
    return [each for each in graph.consumers.get(node.output[0], ()) if each.op_type == operator]
