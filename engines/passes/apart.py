"""Names of their own for nodes and for free axes, by which TensorRT tells them apart.

1. Each node has a name: TensorRT names kernels by them.
2. A free axis of an input whose name says nothing, such as the "?" that Paddle's exporter gives all of them, is named
   after its input: TensorRT for RTX takes axes of one name to have one size. Other tensors lose such names.
"""

import onnx

from engines.graph.operators import label

NAMELESS = frozenset({"?", "*", "-1", "None", "none", "unknown", "unk", "dynamic"})
"""What exporters write where an axis has no name."""


def told_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such names; itself where it has them already."""
    names = [node.name for node in model.graph.node]
    named = all(names) and len(set(names)) == len(names)
    if named and not any(_nameless(value) for value in _values(model.graph)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not named:
        _name_nodes(copy.graph)
    inputs = {value.name for value in copy.graph.input}
    for value in _values(copy.graph):
        for axis, dimension in _nameless(value):
            dimension.ClearField("dim_param")
            if value.name in inputs:
                dimension.dim_param = f"{value.name}.{axis}"
    return copy


def _values(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [*graph.input, *graph.value_info, *graph.output]


def _nameless(value: onnx.ValueInfoProto) -> list[tuple[int, onnx.TensorShapeProto.Dimension]]:
    shape = value.type.tensor_type.shape.dim
    return [(axis, dimension) for axis, dimension in enumerate(shape) if dimension.dim_param in NAMELESS]


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken = {node.name for node in graph.node if node.name}
    seen: set[str] = set()
    for node in graph.node:
        name, number = label(node), 1
        while name in seen or ((number > 1 or not node.name) and name in taken):
            number += 1
            name = f"{label(node)} ({number})"
        seen.add(name)
        node.name = name
