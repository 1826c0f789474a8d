"""Quantized models as files: judged by the ONNX checker, opened once in ONNX Runtime, written whole or not at all.

A model over 2 GB, which no ONNX file holds, keeps its weights in ``<name>.data`` beside it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from calibrators.errors import ModelError
from calibrators.files import sha256_of, whole_file
from engines.graph import validity
from engines.graph.runtime import Judge

LARGEST_FILE = 2**31 - 2**20
"""Bytes that fit in one ONNX file: protobuf's limit, with room for the graph."""

APART = 2**10
"""Bytes: a smaller initializer stays in the model's own file."""

ALIGNMENT = 2**12
"""Weights begin at multiples of this, a page, so that they can be mapped into memory."""


@contextmanager
def saving(path: str | os.PathLike[str], model: onnx.ModelProto) -> Iterator[str]:
    """Write a model; give the SHA-256 of its file. It takes its place when the block ends well.

    Raises:
        OutputError: The file cannot be written.
        ModelError: The checker refuses the model, or ONNX Runtime cannot open it.
    """
    with whole_file(path) as temporary:
        if _size(model) > LARGEST_FILE:
            with whole_file(data_path(path)) as data:
                light = _weights_apart(model, data, data_path(path).name)
            temporary.write_bytes(light.SerializeToString())
            _check(temporary, model)
        else:
            temporary.write_bytes(checked_bytes(model))
        yield sha256_of(temporary)


def data_path(path: str | os.PathLike[str]) -> Path:
    """Where the weights of a model over 2 GB are."""
    return Path(f"{os.fspath(path)}.data")


def checked_bytes(model: onnx.ModelProto) -> bytes:
    """A model's one file, once checked.

    Raises:
        ModelError: The checker refuses the model, ONNX Runtime cannot open it, or one file cannot hold it.
    """
    if _size(model) > LARGEST_FILE:
        raise ModelError("the quantized model is over 2 GB, more than an ONNX file holds: quantize a smaller model")
    _check(model, model)
    return bytes(model.SerializeToString())


def _check(source: Path | onnx.ModelProto, model: onnx.ModelProto) -> None:
    try:
        validity.check(source)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"the quantized model is not valid ({str(error).splitlines()[0]}): report the model"
        ) from error
    if not _known(model):
        return
    try:
        Judge(source)
    except ModelError as error:
        lacks = "Could not find an implementation for "
        if lacks in str(error) and "QuantizeLinear" not in str(error) and "DequantizeLinear" not in str(error):
            return  # an operator of the model's own, which other runtimes may have
        if lacks in str(error):
            raise ModelError(
                f"ONNX Runtime cannot open the quantized model ({error}), as its opset is ahead of it and an operator "
                "of the model needs that: export it with opset 21"
            ) from error
        raise ModelError(f"ONNX Runtime cannot open the quantized model ({error}): report the model") from error


def _known(model: onnx.ModelProto) -> bool:
    """Whether all operators are ONNX's or ONNX Runtime's; others need a library that only the user has."""
    return all(
        node.domain == "com.microsoft" or onnx.defs.has(node.op_type, domain=node.domain.removeprefix("ai.onnx"))
        for node in model.graph.node
        if node.domain != "ai.onnx.ml"
    )


def _size(model: onnx.ModelProto) -> int:
    """Bytes of the constants; protobuf itself fails to count them where they are too many."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _weights_apart(model: onnx.ModelProto, data: Path, location: str) -> onnx.ModelProto:
    """Write the large constants of a model to a file; give the model that refers to them there."""
    light = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _set(light, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _set(light.graph, field.name, value)
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < APART:
                light.graph.initializer.append(tensor)
                continue
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            apart = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            apart.data_location = onnx.TensorProto.EXTERNAL
            for key, entry in (("location", location), ("offset", file.tell()), ("length", len(tensor.raw_data))):
                apart.external_data.add(key=key, value=str(entry))
            file.write(tensor.raw_data)
    return light


def _set(message: onnx.ModelProto | onnx.GraphProto, name: str, value: object) -> None:
    target = getattr(message, name)
    if isinstance(value, (str, int, bytes)):
        setattr(message, name, value)
    elif hasattr(target, "extend"):
        target.extend(value)
    else:
        target.CopyFrom(value)
