"""Tensors whose size depends on the data: what NonZero or NonMaxSuppression selects, and what is made of it.

1. NonZero, NonMaxSuppression, Compress and Unique select by the values they read.
2. Other operators take their output's size from an operand: Reshape its shape, TopK its k, Slice its bounds. That
   depends on the data where it is computed from an input's values, and not where it is computed from sizes alone.
3. What reads such a tensor, or its Shape, has a size that depends on the data too, unless shape inference finds its
   sizes all the same. This errs towards too many.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import onnx

from calibrators.errors import ModelError
from engines.graph.model import ModelSource, captured, input_specs, loaded, with_types
from engines.graph.operators import label

_SELECTS = frozenset({"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"})

_SIZED_BY: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "If": (0,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Upsample": (1,),
}
"""The operands that an operator takes its output's size from."""

_SIZED_AS_FIRST = frozenset({"Scatter", "ScatterElements", "ScatterND"})
"""Operators whose output has their first operand's size."""


def data_sized(model: onnx.ModelProto) -> Mapping[str, str]:
    """The tensors of a model whose size depends on the data -> the label of the node that decides it.

    Tensors inside of the branches of If, Loop and Scan are not among them.
    """
    if not _found(model, frozenset()):
        return {}
    return _found(model, frozenset(_inferred(with_types(model).graph)))


def data_sized_outputs(model: ModelSource) -> Mapping[str, str]:
    """The outputs in `data_sized` of a file, or of a model in memory; none where it cannot be read."""
    with suppress(ModelError):  # whoever runs it says why
        proto = loaded(model)
        found = data_sized(proto)
        return {value.name: found[value.name] for value in proto.graph.output if value.name in found}
    return {}


def _found(model: onnx.ModelProto, fixed: frozenset[str]) -> dict[str, str]:
    """Those among the tensors whose sizes are not all known beforehand."""
    live = {spec.name for spec in input_specs(model)}
    sized = dict[str, str]()
    for node in model.graph.node:
        read = [name for name in (*node.input, *captured(node)) if name]
        if node.op_type in ("Shape", "Size"):
            live.update(node.output if sized.keys() & set(read) else ())
            continue
        if not live & set(read):
            continue
        live.update(node.output)
        deciding = _deciding(node, live, sized)
        if deciding:
            sized.update((name, deciding) for name in node.output if name and name not in fixed)
    return sized


def _deciding(node: onnx.NodeProto, live: set[str], sized: Mapping[str, str]) -> str:
    """The label of the node that decides the size of what a node gives; empty where the data do not."""
    read = node.input[:1] if node.op_type in _SIZED_AS_FIRST else (*node.input, *sorted(captured(node)))
    before = next((sized[name] for name in read if name in sized), "")
    operands = (node.input[place] for place in _SIZED_BY.get(node.op_type, ()) if place < len(node.input))
    selects = any(each.op_type in _SELECTS for each in (node, *_inner(node)))
    return before or (label(node) if selects or live & set(operands) else "")


def _inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for each in attribute.g.node:
                yield each
                yield from _inner(each)


def _inferred(graph: onnx.GraphProto) -> Iterator[str]:
    """Tensors of which shape inference finds every size."""
    for value in (*graph.value_info, *graph.output):
        shape = value.type.tensor_type.shape
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in shape.dim):
            yield value.name
