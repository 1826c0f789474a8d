"""Operators with weights, or products, that are never quantized: each is named, so that none stays in float unseen."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import onnx
import onnx_ir as ir

from engines.graph.operators import WEIGHTED

ONNX = frozenset({"", "ai.onnx"})

ONNX_RUNTIME = "com.microsoft"

FLOAT_LAYERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": frozenset({"Attention", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"}),
        ONNX_RUNTIME: frozenset(
            {
                "Attention",
                "ConvTransposeWithDynamicPads",
                "DecoderAttention",
                "FusedConv",
                "FusedGemm",
                "FusedMatMul",
                "FusedMatMulActivation",
                "GemmFastGelu",
                "GroupQueryAttention",
                "LongformerAttention",
                "MultiHeadAttention",
                "NhwcConv",
                "NhwcFusedConv",
                "PackedAttention",
                "PackedMultiHeadAttention",
                "SparseToDenseMatMul",
                "TransposeMatMul",
            }
        ),
    }
)
"""By domain. Of ONNX Runtime's, whatever has a constant matrix of floats is one, too; of others nothing is known."""

COMPRESSED = frozenset({"MatMulBnb4", "MatMulFpQ4", "MatMulNBits", "QMoE"})
"""Operators of ONNX Runtime whose weights are integers or codes already."""

IN_A_BRANCH = "it is inside a branch of control flow"
"""Why an operator that is quantized elsewhere is not in the body of an If, a Loop or a Scan."""

_TABLES = frozenset({"EmbedLayerNormalization", "GemmaRotaryEmbedding", "RotaryEmbedding"})
"""Operators of ONNX Runtime that look up rows of a constant, or multiply element by element."""

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})

Constant = tuple[int, Sequence[int]]
"""An operand's element type, by ONNX's number, and its shape."""


def why_float(node: "onnx.NodeProto | ir.Node", constants: Iterable[Constant]) -> str:
    """Why an operator with weights is never quantized; empty for those that are, and for those that have none.

    Args:
        node: The operator.
        constants: Those among its operands.
    """
    domain = "" if node.domain in ONNX else node.domain
    if domain == ONNX_RUNTIME and node.op_type in COMPRESSED:
        return (
            f"its weights are compressed already, for ONNX Runtime's {node.op_type}, and only ONNX's {_QUANTIZED} are "
            "quantized: give the model with float weights"
        )
    known = node.op_type in FLOAT_LAYERS.get(domain, ())
    if domain == ONNX_RUNTIME and (known or (node.op_type not in _TABLES and _holds_a_matrix(constants))):
        return (
            f"its operator is ONNX Runtime's {node.op_type}, and only ONNX's {_QUANTIZED} are quantized: give the "
            "model as it was before ONNX Runtime optimized it"
        )
    if not known:
        return ""
    if node.op_type == "Einsum" and len(node.input if isinstance(node, onnx.NodeProto) else node.inputs) < 2:
        return ""  # a sum or a transposition
    return f"its operator is {node.op_type}, and only {_QUANTIZED} are quantized"


def constants_of(node: ir.Node) -> list[Constant]:
    """The constants among an operator's operands."""
    found = (value.const_value for value in node.inputs if value is not None)
    return [(int(each.dtype), each.shape.numpy()) for each in found if each is not None]


_QUANTIZED = f"{', '.join(list(WEIGHTED)[:-1])} and {list(WEIGHTED)[-1]}"


def _holds_a_matrix(constants: Iterable[Constant]) -> bool:
    """Of floats, and none of integers beside it: those are quantized already."""
    matrices = [kind for kind, shape in constants if sum(size > 1 for size in shape) > 1]
    return bool(matrices) and all(kind in _FLOATS for kind in matrices)
