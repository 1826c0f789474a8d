"""A model that computes in FP16 or bfloat16, in float32: what quantization starts from, and Q/DQ nodes have scales of.

1. Constants, inputs, outputs and whatever lies between are float32, under the names that they have. So a calibration of
   the model as it was has the ranges.
2. An operator that names its result's type (Cast, RandomNormal, ...) names float32.
3. Results are those of FP16 without its rounding, and without its overflow beyond 65504.
"""

from collections.abc import Iterator

import onnx_ir as ir

_NARROW = {"FP16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}

_TYPES = frozenset({"dtype", "output_datatype", "output_dtype", "softmax_precision", "stash_type", "to"})
"""Attributes that hold a type's number."""


def narrow_type(model: ir.Model) -> str:
    """What a model computes in, FP16 or bfloat16; empty where it does in neither.

    It does not where constants are stored so, and cast at once.
    """
    inputs = [value.dtype for value in model.graph.inputs]
    return next((name for name in ("FP16", "bfloat16") if _NARROW[name] in (*inputs, *_computed(model))), "")


def _computed(model: ir.Model) -> Iterator[ir.DataType | None]:
    """The types of constants that nodes compute with, and those that nodes state."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if _is_computed_with(value):
                yield value.dtype
    for node in model.graph.all_nodes():
        for attribute in node.attributes.values():
            if _narrow_type(attribute):
                yield ir.DataType(attribute.as_int())
            elif _narrow_tensor(attribute) and (node.op_type != "Constant" or _is_computed_with(node.outputs[0])):
                yield attribute.as_tensor().dtype


def _is_computed_with(value: ir.Value) -> bool:
    return any(reader.op_type != "Cast" for reader, _ in value.uses())


def as_single(model: ir.Model) -> None:
    """Rewrite a model without functions by the rules above."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype in _NARROW.values():
                value.const_value = _single(value.const_value)
        for value in (*graph.inputs, *graph.initializers.values(), *(each for node in graph for each in node.outputs)):
            if value.dtype in _NARROW.values():
                value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in model.graph.all_nodes():
        for attribute in tuple(node.attributes.values()):
            if _narrow_type(attribute):
                node.attributes.add(ir.AttrInt64(attribute.name, ir.DataType.FLOAT.value))
            elif _narrow_tensor(attribute):
                node.attributes.add(ir.AttrTensor(attribute.name, _single(attribute.as_tensor())))


def _narrow_type(attribute: ir.Attr) -> bool:
    numbers = [each.value for each in _NARROW.values()]
    return attribute.name in _TYPES and attribute.type == ir.AttributeType.INT and attribute.as_int() in numbers


def _narrow_tensor(attribute: ir.Attr) -> bool:
    return attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _NARROW.values()


def _single(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Read when it is asked for: weights may be in a file yet."""

    def read() -> ir.TensorProtocol:
        return ir.tensor(tensor.numpy().astype("float32"), name=tensor.name)

    return ir.LazyTensor(
        read, dtype=ir.DataType.FLOAT, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name, cache=True
    )
