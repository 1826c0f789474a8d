"""Operators: which have weights, which only move values, which average; and what a node is called in a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Weighted:
    """What quantization needs to know of an operator that has weights: it reads its input 0, its weight is input 1.

    Attributes:
        axis: Of the weight's output channels.
        convolves: Whether channels are on axis 1 of what it reads and gives. Else they are on the last axis, and the
            weight is a matrix.
        transposed_by: An attribute of a matrix product that, other than 0, puts output channels on the other axis.
        integers: The operator of ONNX that does the same with integers, for dynamic quantization; empty for none.
    """

    axis: int
    convolves: bool = False
    transposed_by: str = ""
    integers: str = ""


WEIGHTED: Mapping[str, Weighted] = MappingProxyType(
    {
        "Conv": Weighted(axis=0, convolves=True, integers="ConvInteger"),
        "ConvTranspose": Weighted(axis=1, convolves=True),
        "Gemm": Weighted(axis=1, transposed_by="transB", integers="MatMulInteger"),
        "MatMul": Weighted(axis=1, integers="MatMulInteger"),
    }
)
"""Operators that are quantized where their weights are constant: the one place that a new one goes to.

Steps that change weights (`engines.recovery`) know these four alone, and say so of others.
"""

CONVOLUTIONS = frozenset(name for name, each in WEIGHTED.items() if each.convolves)

ADDITIONS = frozenset({"Add", "Sum"})
"""Operators that end a residual block."""

MOVES = frozenset(
    {"DepthToSpace", "Dropout", "Flatten", "Identity", "Reshape", "Slice", "SpaceToDepth", "Split"}
) | frozenset({"Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose outputs hold values of their first input and no others."""

COMMUTES = MOVES | {"GlobalMaxPool", "MaxPool"}
"""Operators that give the same result before and after quantization: both sides share one scale."""

PASSES = COMMUTES | {"Expand", "Gather", "ReduceMax", "Tile"}
"""Operators that TensorRT-RTX's builder (1.7) computes in INT8 between a pair and a convolution or product behind it.

So does it a Pad with zeros or by reflection, and a Concat of equal scales; not Resize, Relu, Clip or AveragePool.
"""

AVERAGES = frozenset({"AveragePool", "GlobalAveragePool"})
"""Average pooling: in TensorRT's own caches the output has its input's scale, though the operator does not commute."""

QUANTIZERS = frozenset(
    {"ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "QuantizeLinear"}
)
"""Operators that only a quantized model has."""

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
    | {"BiasDropout", "BitmaskBiasDropout", "BitmaskDropout", "Sampling"}
)
"""Operators that may give other values at each run, ONNX Runtime's own among them."""


def weight_axis(node: "onnx.NodeProto | ir.Node", *, place: int = 1, rank: int = 2) -> int:
    """The axis of output channels in the weight of a node, whose operator is in `WEIGHTED`.

    Args:
        node: Of that operator.
        place: Which of its inputs the weight is: 0 for a constant left operand of MatMul, whose rows are the channels.
        rank: The weight's; MatMul takes stacks of matrices.
    """
    known = WEIGHTED[node.op_type]
    if node.op_type == "MatMul":
        return rank - 2 + place
    if not known.transposed_by:
        return known.axis
    if isinstance(node, onnx.NodeProto):
        transposed = any(item.name == known.transposed_by and item.i for item in node.attribute)
    else:
        transposed = bool(node.attributes.get_int(known.transposed_by, 0))
    return 1 - known.axis if transposed else known.axis


def summed_axis(axis: int, rank: int, *, convolves: bool) -> int:
    """The axis of a weight that an operator sums over, for one whose output channels are on `axis`."""
    return 1 - axis if convolves else 2 * rank - 3 - axis


def label(node: "onnx.NodeProto | ir.Node") -> str:
    """A node's name, or for an unnamed one its operator and first output."""
    outputs = node.output if isinstance(node, onnx.NodeProto) else [value.name for value in node.outputs]
    return node.name or f"{node.op_type} -> {next((name for name in outputs if name), '?')}"
