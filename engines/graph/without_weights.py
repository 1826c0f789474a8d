"""ONNX files read without their weights: each large one becomes a reference to its place in the file.

Whoever only asks about nodes, names and shapes needs no more; and who runs the model maps the file into memory instead
of copying it twice. The bytes are looked at as the protocol-buffers encoding document describes them, by the field
numbers of onnx.proto.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto

LARGE = 2**16
"""Bytes: a smaller initializer stays in the model, where shape inference and constant folding look for it."""

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Field numbers in ModelProto, GraphProto and TensorProto."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
"""How a field's value is stored."""


class _Field(NamedTuple):
    """One field of a message: it begins at `start`, its value lies at [value, stop)."""

    number: int
    start: int
    value: int
    stop: int


def read_light(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read an ONNX file but for the data of large initializers, which become external data in that same file.

    Raises:
        ValueError: It is no ONNX file, or is cut off.
        OSError: It cannot be read.
        google.protobuf.message.DecodeError: It is no ONNX file.
    """
    file = Path(path)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        rest, graphs = bytearray(), list[onnx.GraphProto]()
        for field in _fields(data, 0, len(data)):
            if field.number == GRAPH:
                graphs.append(_light_graph(data, field, file.name))
            else:
                rest += data[field.start : field.stop]
        model: onnx.ModelProto = onnx.ModelProto.FromString(bytes(rest))
        for graph in graphs:
            model.graph.MergeFrom(graph)
    return model


def _light_graph(data: mmap.mmap, whole: _Field, name: str) -> onnx.GraphProto:
    rest, initializers = bytearray(), list[TensorProto]()
    for field in _fields(data, whole.value, whole.stop):
        if field.number == INITIALIZER:
            initializers.append(_light_tensor(data, field, name))
        else:
            rest += data[field.start : field.stop]
    graph: onnx.GraphProto = onnx.GraphProto.FromString(bytes(rest))
    graph.initializer.extend(initializers)
    return graph


def _light_tensor(data: mmap.mmap, whole: _Field, name: str) -> TensorProto:
    fields = list(_fields(data, whole.value, whole.stop)) if whole.stop - whole.value > LARGE else []
    raw = [field for field in fields if field.number == RAW_DATA]
    rest = [field for field in fields if field not in raw] if len(raw) == 1 else [whole._replace(start=whole.value)]
    tensor: TensorProto = TensorProto.FromString(b"".join(data[field.start : field.stop] for field in rest))
    if len(raw) != 1:
        return tensor
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": name, "offset": raw[0].value, "length": raw[0].stop - raw[0].value}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[_Field]:
    """The fields of the message at [at, stop)."""
    while at < stop:
        start = at
        tag, at = _varint(data, at, stop)
        kind = tag & 7
        if tag >> 3 == 0:  # a file of zeros is no message, and going through it would have no end
            raise ValueError(f"a field without number at byte {start}")
        if kind == _VARINT:
            end = _varint(data, at, stop)[1]
        elif kind == _LENGTH:
            size, at = _varint(data, at, stop)
            end = at + size
        elif kind in (_FIXED64, _FIXED32):
            end = at + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"a field of unknown kind {kind} at byte {start}")
        if end > stop:
            raise ValueError(f"the field at byte {start} is cut off")
        yield _Field(tag >> 3, start, at, end)
        at = end


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the least first, and where it ends."""
    number = 0
    for place in range(10):
        if at + place >= stop:
            break
        byte = data[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError(f"the number at byte {at} is cut off")
