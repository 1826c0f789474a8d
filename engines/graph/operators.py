"""Operators: which have weights, which only move values, which average; and what a node is called in a message."""

from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    import onnx_ir as ir

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})

WEIGHTED = CONVOLUTIONS | {"Gemm", "MatMul"}
"""Operators that are quantized where their weights are constant."""

MOVES = frozenset(
    {"DepthToSpace", "Dropout", "Flatten", "Identity", "Reshape", "Slice", "SpaceToDepth", "Split"}
) | frozenset({"Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose outputs hold values of their first input and no others."""

COMMUTES = MOVES | {"GlobalMaxPool", "MaxPool"}
"""Operators that give the same result before and after quantization: both sides share one scale."""

AVERAGES = frozenset({"AveragePool", "GlobalAveragePool"})
"""Average pooling: in TensorRT's own caches the output has its input's scale, though the operator does not commute."""

QUANTIZERS = frozenset(
    {"ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "QuantizeLinear"}
)
"""Operators that only a quantized model has."""


def label(node: "onnx.NodeProto | ir.Node") -> str:
    """A node's name, or for an unnamed one its operator and first output."""
    outputs = node.output if isinstance(node, onnx.NodeProto) else [value.name for value in node.outputs]
    return node.name or f"{node.op_type} -> {next((name for name in outputs if name), '?')}"
