"""Encodings of a file that does not tell all, completed by the model: which tensors are weights, and their axes."""

from collections.abc import Iterator
from dataclasses import replace

import onnx

from calibrators.codecs.encodings import Encodings
from calibrators.encoding import Encoding
from calibrators.errors import listed
from engines.graph.model import ModelSource, loaded
from engines.graph.operators import CONVOLUTIONS, weight_axis


def completed(encodings: Encodings, model: ModelSource) -> Encodings:
    """The encodings with what a float model knows of their tensors.

    1. Constants of the model are weights, what its nodes compute and its inputs are activations. A name that it does
       not have stays where it is, and is noted.
    2. A weight whose axis the file does not tell has that of its operator's output channels: 0 for Conv, 1 for
       ConvTranspose, the columns for MatMul and Gemm or, with transB, the rows; a vector has 0. Where the model's shape
       does not fit the number of scales, the axis stays unknown, and is noted.

    Args:
        encodings: As they were read.
        model: The float model that they are for.

    Raises:
        ModelError: The model cannot be read.
    """
    graph = loaded(model).graph
    shapes = dict(_constants(graph))
    activations = {*(value.name for value in graph.input), *(name for node in graph.node for name in node.output)}
    activations -= shapes.keys()
    weights = {name: value for name, value in encodings.activations.items() if name in shapes}
    others = {name: value for name, value in encodings.weights.items() if name in activations}
    known = {**{name: value for name, value in encodings.weights.items() if name not in others}, **weights}
    axes = dict(_channel_axes(graph, shapes))
    unknown = set[str]()
    for name in encodings.axis_unknown & known.keys():
        axis = axes.get(name, 0)
        if name in shapes and axis < len(shapes[name]) and shapes[name][axis] == known[name].scale.size:
            value = known[name]
            known[name] = Encoding(value.scale, value.zero_point, value.grid, axis)
        else:
            unknown.add(name)
    strange = [name for name in (*encodings.activations, *known, *others) if name not in activations | shapes.keys()]
    return replace(
        encodings,
        activations={**{n: value for n, value in encodings.activations.items() if n not in weights}, **others},
        weights=known,
        axis_unknown=frozenset(unknown | (encodings.axis_unknown & others.keys())),
        notes=(*encodings.notes, *_notes(strange, sorted(unknown))),
    )


def _notes(strange: list[str], unknown: list[str]) -> Iterator[str]:
    if strange:
        yield f"the model has no tensor of {len(strange)} names, such as {listed(strange)}: is it another model's file?"
    if unknown:
        yield f"the number of scales of {listed(unknown)} is not that of channels in the model: the axis stays unknown"


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], tuple(attribute.t.dims)


def _channel_axes(graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in shapes or len(shapes[name]) < 2:
                continue
            if node.op_type in CONVOLUTIONS and place == 1:
                yield name, weight_axis(node)
            elif node.op_type == "MatMul":
                yield name, len(shapes[name]) - (1 if place == 1 else 2)
            elif node.op_type == "Gemm" and place < 2:
                transposed = any(item.name == ("transA", "transB")[place] and item.i for item in node.attribute)
                yield name, int(transposed != (place == 1))
