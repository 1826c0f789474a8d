"""Odd parts of models in the form that all else knows: dense initializers, and outputs that are tensors of numbers.

1. A sparse initializer becomes a dense one of the same name, and so does the sparse value of a Constant.
2. An output that ZipMap makes (a map for each sample, from class to score, as scikit-learn's converters write it) is
   replaced by the scores that ZipMap reads.
3. Other outputs that are no tensors of numbers (sequences, maps, strings) are left out, where others stay.
"""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ZIP = "ZipMap"


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model by the rules above; the very same object where none applies."""
    odd = [value for value in model.graph.output if not _is_numbers(value)]
    sparse = any(True for _ in _sparse_constants(model.graph))
    if not odd and not sparse and not model.graph.sparse_initializer:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    graph.initializer.extend(_dense(each) for each in graph.sparse_initializer)
    graph.ClearField("sparse_initializer")
    for attribute in tuple(_sparse_constants(graph)):
        dense = _dense(attribute.sparse_tensor)
        attribute.CopyFrom(helper.make_attribute("value", dense))
    zips = {node.output[0]: node for node in graph.node if node.op_type == _ZIP and node.output}
    outputs = list[onnx.ValueInfoProto]()
    for value in graph.output:
        if _is_numbers(value):
            outputs.append(value)
        elif value.name in zips and zips[value.name].input[0] not in {each.name for each in graph.output}:
            scores = onnx.ValueInfoProto(name=zips[value.name].input[0])
            scores.type.tensor_type.elem_type = TensorProto.FLOAT
            outputs.append(scores)
    if outputs:
        _set_outputs(graph, outputs, {node.name or node.output[0] for node in zips.values()})
    return changed


def replaced_outputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """What `plain` leaves out or replaces among a model's outputs: a line for each, to follow "run" or "written"."""
    kept = {value.name for value in plain(model).graph.output}
    scores = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == _ZIP and node.output}
    return tuple(
        f"without its output {value.name}, {_described(value)}, which no engine has"
        + (f": {scores[value.name]}, which {_ZIP} reads, is there instead" if value.name in scores else "")
        for value in model.graph.output
        if value.name not in kept
    )


def _set_outputs(graph: onnx.GraphProto, outputs: list[onnx.ValueInfoProto], zips: set[str]) -> None:
    kept = [node for node in graph.node if node.op_type != _ZIP]
    if zips:
        graph.ClearField("node")
        graph.node.extend(kept)
    names = {value.name for value in outputs}
    values = [value for value in graph.value_info if value.name not in names and _is_numbers(value)]
    graph.ClearField("value_info")
    graph.value_info.extend(values)
    graph.ClearField("output")
    graph.output.extend(outputs)


def _is_numbers(value: onnx.ValueInfoProto) -> bool:
    """Whether it is a tensor of numbers, or of a type that is not stated."""
    kind = value.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and value.type.tensor_type.elem_type != TensorProto.STRING)


def _described(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value")
    if kind == "sequence_type" and value.type.sequence_type.elem_type.WhichOneof("value") == "map_type":
        return "a sequence of maps"
    return {"tensor_type": "text", "sequence_type": "a sequence", "map_type": "a map"}.get(str(kind), "no tensor")


def _sparse_constants(graph: onnx.GraphProto) -> Iterator[onnx.AttributeProto]:
    """The sparse values of Constant nodes, those in branches too."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and node.op_type == "Constant":
                yield attribute
            if attribute.HasField("g"):
                yield from _sparse_constants(attribute.g)


def _dense(tensor: onnx.SparseTensorProto) -> onnx.TensorProto:
    shape = tuple(tensor.dims)
    values, indices = numpy_helper.to_array(tensor.values), numpy_helper.to_array(tensor.indices)
    dense = np.zeros(math.prod(shape), values.dtype)
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    dense[flat] = values
    return numpy_helper.from_array(dense.reshape(shape), tensor.values.name)
