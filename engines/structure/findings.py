"""What is said of a model or an engine: findings, and its weighted operators."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from engines.qdq.read import Quantizer

INTEGER = frozenset({"ConvInteger", "MatMulInteger"})
"""Weighted operators on integers, as dynamic quantization writes them."""

Severity = Literal["error", "warning", "hint", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a model or an engine that its owner should know.

    Attributes:
        severity: "error": no engine comes of it, or a wrong one; "warning": speed or accuracy is lost; "hint": worth a
            look; "note": worth knowing, and nothing needs to be done.
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
class WeightedOperator:
    """A Conv, ConvTranspose, Gemm or MatMul, or one on integers; or another with weights, which stays in float.

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

    @property
    def dynamic(self) -> bool:
        """Whether it computes on integers whose ranges are found at run time."""
        return self.op_type in INTEGER
