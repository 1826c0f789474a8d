"""The Q/DQ pairs of an ONNX model, and who makes and who reads each tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calibrators.errors import ModelError
from engines.graph.model import data_nodes, input_specs
from engines.graph.operators import MOVES, label

if TYPE_CHECKING:
    import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

NO_DYNAMIC = "TensorRT has no dynamic INT8"


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
        axis: The channels' axis; None per tensor, or where a Reshape hides it.
        constant: Whether it quantizes weights rather than activations.
        block_size: Neighbours along the axis that share a scale; None where it has no blocks.
    """

    node: str
    quantize: str | None
    tensor: str
    scales: "np.ndarray[Any, np.dtype[Any]] | None"
    zero_point: "np.ndarray[Any, np.dtype[Any]] | None"
    type: str
    axis: int | None
    constant: bool
    block_size: int | None = None

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
            "block_size": self.block_size,
            "constant": self.constant,
            "scales": None if self.scales is None else self.scales.reshape(-1).astype(float).tolist(),
            "zero_point": None if self.zero_point is None else self.zero_point.reshape(-1).astype(int).tolist(),
        }

    def __str__(self) -> str:
        if self.scales is None:
            return f"{self.type}, scale computed"
        if self.block_size is not None:
            return f"{self.type} per block of {self.block_size} ({self.scales.size}, axis {self.axis})"
        if self.per_channel:
            along = "" if self.axis is None else f", axis {self.axis}"
            return f"{self.type} per channel ({self.scales.size}{along})"
        return f"{self.type} {self.scales.item():.6g}"


class Graph:
    """Who makes and who reads each tensor; `shapes` as the model states them, 0 for a size that it leaves open."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
            if node.op_type == "Constant":
                self.constants.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
        self.outputs = {value.name for value in model.graph.output}
        self.shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.activations = {spec.name for spec in input_specs(model)}
        self.activations.update(name for node in data_nodes(model) for name in node.output)

    def value(self, name: str) -> "np.ndarray[Any, np.dtype[Any]] | None":
        """A constant's value, behind Identity and Cast too; None for what is computed.

        Raises:
            ModelError: The constant is malformed.
        """
        from onnx import numpy_helper

        while name in self.producers and self.producers[name].op_type in ("Identity", "Cast"):
            name = next(iter(self.producers[name].input), "")
        if name not in self.constants:
            return None
        try:
            return numpy_helper.to_array(self.constants[name])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the model's constant {name} is malformed ({error}): export it again") from error

    def read_once(self, name: str) -> bool:
        """Whether one node reads a tensor, once, and it is no output of the model."""
        return name not in self.outputs and sum(list(n.input).count(name) for n in self.consumers.get(name, ())) == 1

    def quantized_before_moves(self, name: str, quantizers: Mapping[str, Quantizer]) -> bool:
        """Whether a tensor is dequantized, or holds values of such a one and perhaps zeros."""
        while name not in quantizers:
            maker = self.producers.get(name)
            if maker is None or not (maker.op_type in MOVES or self.pads_with_zero(maker)):
                return False
            name = maker.input[0]
        return True

    def different(self, first: str, second: str) -> bool:
        """Whether the model states shapes for two tensors that are not the same: a 1 beside an open size is another."""
        one, other = self.shapes.get(first), self.shapes.get(second)
        if one is None or other is None:
            return False
        return len(one) != len(other) or any(
            a != b and (0 not in (a, b) or (axis > 0 and 1 in (a, b)))
            for axis, (a, b) in enumerate(zip(one, other, strict=True))
        )

    def rank(self, tensor: str) -> int:
        """Dimensions of a weight; 2, a matrix's, where it is no constant of the graph."""
        return len(self.constants[tensor].dims) if tensor in self.constants else 2

    def quantizer(self, dequantize: "onnx.NodeProto") -> Quantizer:
        """Describe a DequantizeLinear and the QuantizeLinear before it."""
        source = self.producers.get(dequantize.input[0])
        quantize = source if source is not None and source.op_type == QUANTIZE else None
        tensor = quantize.input[0] if quantize is not None else dequantize.input[0]
        scales, zero_point = (
            self.value(dequantize.input[index]) if len(dequantize.input) > index and dequantize.input[index] else None
            for index in (1, 2)
        )
        if scales is not None and scales.dtype.kind == "O":
            raise ModelError(f"{label(dequantize)} has a text for a scale: export the model again")
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
            block_size=next((item.i for item in dequantize.attribute if item.name == "block_size" and item.i), None),
        )

    def pads_with_zero(self, node: "onnx.NodeProto") -> bool:
        """Whether a node is a Pad that adds zeros alone."""
        if node.op_type != "Pad" or any(item.name == "mode" and item.s != b"constant" for item in node.attribute):
            return False
        if len(node.input) < 3 or not node.input[2]:
            return True
        constant = self.value(node.input[2])
        return constant is not None and not constant.any()


def _type_of(tensor: "onnx.TensorProto") -> str:
    return _type_name(tensor.data_type)


def _output_type(quantize: "onnx.NodeProto") -> str:
    """The type that a QuantizeLinear without a zero point gives."""
    kind = next((item.i for item in quantize.attribute if item.name == "output_dtype"), 0)
    return _type_name(kind) if kind else ""


def _type_name(kind: int) -> str:
    from onnx import TensorProto

    known = kind in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(kind)) if known else f"type {kind}, which ONNX lacks"
