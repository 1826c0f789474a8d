"""ONNX models as calibration sees them: loading, inputs and outputs, activations, tensors that share a scale."""

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from calibrators.batches import TensorSpec
from calibrators.errors import ModelError, repeated
from calibrators.files import sha256_of
from calibrators.statistics.file import ScaleGroup
from engines.graph import validity
from engines.graph.foreign import path_of
from engines.graph.operators import AVERAGES, COMMUTES, QUANTIZERS, label
from engines.graph.plain import plain, replaced_outputs
from engines.graph.without_weights import read_light

ModelSource = str | os.PathLike[str] | onnx.ModelProto

FLOAT_TYPES = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})

MOST_BYTES = 2**31
"""No ONNX file is as large; larger models keep their weights in other files."""

SHAPE_SIZED = 64
"""Elements in an initializer that may state a shape, an axis or a slice; larger ones are weights."""


def load_model(path: str | os.PathLike[str], *, weights: bool = True, check: bool = True) -> onnx.ModelProto:
    """Read an ONNX model.

    Args:
        path: The file; external data are found beside it.
        weights: Load external data too, which makes a model over 2 GB too large to be serialized again.
        check: Let the ONNX checker judge it, which reads all of it once more.

    Raises:
        ModelError: The file is missing, is no ONNX model, is no valid one, or lacks its external data.
    """
    file = path_of(path)
    model = _read(file, light=False)
    try:
        if check:
            validity.check(file)
        if weights:
            onnx.load_external_data_for_model(model, os.fspath(file.parent))
    except Exception as error:
        raise ModelError(f"{file} is not a valid ONNX model: {_first_line(error)}; export it again") from error
    return _inlined(model)


def _read(file: Path, *, light: bool) -> onnx.ModelProto:
    if not file.is_file():
        raise ModelError(f"no model {file}: give the path of an ONNX file")
    try:
        model = _parsed(file, light=light)
    except Exception as error:
        raise ModelError(
            f"{file} is not an ONNX model, or is damaged: export it again ({_first_line(error)})"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{file} is not an ONNX model, or an empty one: export it again")
    for location in sorted(_external_locations(model)):
        if not (file.parent / location).is_file():
            raise ModelError(f"{file} keeps weights in {location}, which is not beside it: copy that file too")
    _require_unambiguous(model, file)
    return model


def _parsed(file: Path, *, light: bool) -> onnx.ModelProto:
    if light:
        with suppress(ValueError, DecodeError):  # another of ONNX's formats, or damaged: the whole file tells
            return read_light(file)
    if file.stat().st_size >= MOST_BYTES:
        raise ValueError("protocol buffers hold less than 2 GiB: save its weights as external data")
    return onnx.load(file, load_external_data=False)


def as_stored(path: str | os.PathLike[str]) -> bool:
    """Whether `load_model` gives a model just as its file has it.

    Raises:
        ModelError: The file is missing, is no ONNX model, or lacks its external data.
    """
    model = _read(Path(path), light=True)
    return not model.functions and plain(model) is model


def plain_source(model: ModelSource) -> tuple[ModelSource, tuple[str, ...]]:
    """What to run of a model, whose outputs are tensors of numbers, and a line for each other output that it has.

    That is the model itself where it has no others, or where it cannot be read: who runs it says why.
    """
    with suppress(ModelError):
        source = model if isinstance(model, onnx.ModelProto) else _read(Path(model), light=True)
        if told := replaced_outputs(source):
            return (loaded(model) if isinstance(model, onnx.ModelProto) else load_model(model, check=False)), told
    return model, ()


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The plain model (`engines.graph.plain`) with the bodies of its local functions in place.

    So their tensors have names of their own.
    """
    model = plain(model)
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelError(
            f"the model's functions cannot be put in place: {_first_line(error)}; export it again"
        ) from error


def _require_unambiguous(model: onnx.ModelProto, source: object) -> None:
    """Refuse what readers understand in different ways: nodes in disorder or in a circle, two weights of one name."""
    names = {tensor.name for tensor in model.graph.initializer}
    if len(names) < len(model.graph.initializer):
        twice = repeated(tensor.name for tensor in model.graph.initializer)
        raise ModelError(f"{source} is not a valid ONNX model: it has two initializers {twice}; export it again")
    ahead = {name for node in model.graph.node for name in node.output if name}
    for node in model.graph.node:
        early = next((name for name in node.input if name in ahead), None)
        if early is not None:
            raise ModelError(
                f"{source} is not a valid ONNX model: node {label(node)} reads {early} before it is made; sort its "
                "nodes topologically, or export it again"
            )
        ahead.difference_update(node.output)


def loaded(model: ModelSource, *, light: bool = True) -> onnx.ModelProto:
    """The model itself, or the one that a path names, unchecked and without external data.

    Args:
        model: A path, or a model in memory.
        light: Leave the large weights in the file, too: see `engines.graph.without_weights`.

    Raises:
        ModelError: It is no ONNX model; or the file is missing, or lacks its external data; or is ambiguous.
    """
    if isinstance(model, onnx.ModelProto):
        _require_unambiguous(model, "the model")
        return _inlined(model)
    return _inlined(_read(path_of(model), light=light))


def files_of(model: ModelSource) -> tuple[Path, ...]:
    """The files that a model is read from: its own, and those of its external data."""
    if isinstance(model, onnx.ModelProto):
        return ()
    path = path_of(model)
    try:
        return _files_of(path)
    except ModelError:
        return (path,)  # whoever reads the model says what is wrong with it


def model_digest(model: ModelSource) -> str:
    """The SHA-256, in hexadecimal, of a model and of the external data it names.

    Raises:
        ModelError: The file is missing, is no ONNX model, or lacks its external data.
    """
    if isinstance(model, onnx.ModelProto):
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    digests = [sha256_of(file) for file in _files_of(path_of(model))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def digest_of(model: ModelSource) -> str:
    """`model_digest` of a model's file; "" for a model in memory, which has none to compare."""
    return "" if isinstance(model, onnx.ModelProto) else model_digest(model)


def name_of(model: ModelSource) -> str:
    """What a message calls a model: its file's name."""
    return "the model" if isinstance(model, onnx.ModelProto) else path_of(model).name


def input_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The model's inputs, without initializers that older models list among them."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(value) for value in model.graph.input if value.name not in initializers)


def output_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The model's outputs."""
    return tuple(_spec(value) for value in model.graph.output)


def activations(model: onnx.ModelProto) -> tuple[str, ...]:
    """Every float tensor that depends on the values of an input, inputs first, in topological order.

    These are the tensors that TensorRT looks up in a calibration cache, but for those it makes itself. Tensors inside
    the branches of If, Loop and Scan are not among them.
    """
    inferred = with_types(model)
    types = {value.name: value.type for value in _values(inferred.graph)}
    names = [spec.name for spec in input_specs(inferred)]
    names += [name for node in data_nodes(inferred) for name in node.output if name]
    return tuple(
        name
        for name in names
        if name in types
        and types[name].tensor_type.elem_type in FLOAT_TYPES | {0}
        and types[name].WhichOneof("value") in ("tensor_type", None)
    )


def data_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes that work on values of the inputs, not only on constants and shapes."""
    live = {spec.name for spec in input_specs(model)}
    for node in model.graph.node:
        if node.op_type not in ("Shape", "Size") and (live & set(node.input) or live & captured(node)):
            live.update(node.output)
            yield node


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model holds quantization operators already."""
    return any(node.op_type in QUANTIZERS for node in model.graph.node)


def scale_groups(model: onnx.ModelProto, *, through: frozenset[str] = COMMUTES | AVERAGES) -> tuple[ScaleGroup, ...]:
    """Tensors that share one scale: both sides of operators that move or pool values, all of a concatenation.

    A concatenation that also takes what depends on no input, which nobody observes, is a source beside the others: its
    own values hold the constant's. A Dropout in training scales values up, so its sides share none.

    Args:
        model: Any model.
        through: The operators; the default is what TensorRT's own caches show. `COMMUTES` is what Q/DQ nodes need.
    """
    floats = set(activations(model))
    leader: dict[str, str] = {}
    origins: dict[str, tuple[str, ...]] = {}
    beside = set[str]()

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for node in model.graph.node:
        if node.op_type == "Concat" or (node.op_type in through and not _drops(node, model)):
            taken = node.input if node.op_type == "Concat" else node.input[:1]
            given = node.output if node.op_type == "Split" else node.output[:1]  # others: indices, a mask
            inputs = tuple(name for name in taken if name in floats)
            outputs = [name for name in given if name in floats]
            if inputs and outputs:
                beside.update(outputs if len(inputs) < len(taken) else ())
                for name in (*inputs, *outputs):
                    leader[lead(name)] = lead(inputs[0])
                origins.update(dict.fromkeys(outputs, inputs))
    groups: dict[str, list[str]] = {}
    for name in activations(model):
        if name in leader:
            groups.setdefault(lead(name), []).append(name)
    return tuple(
        ScaleGroup(
            tuple(members),
            tuple(name for name in members if name not in origins or name in beside),
            tuple((name, origins[name]) for name in members if name in origins),
        )
        for members in groups.values()
    )


def _drops(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether a node is a Dropout that is told to drop values, or may be: its third input is no constant false."""
    mode = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
    if not mode:
        return False
    found = [tensor for tensor in model.graph.initializer if tensor.name == mode]
    found += [each.attribute[0].t for each in model.graph.node if each.op_type == "Constant" and mode in each.output]
    return not found or bool(numpy_helper.to_array(found[0]).any())


def with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its large weights, with the types that shape inference finds.

    What it cannot infer stays untyped.
    """
    light = _without_weights(model)
    try:
        return onnx.shape_inference.infer_shapes(light)
    except Exception:  # noqa: BLE001 - a custom operator, or a model over 2 GB: types come from ONNX Runtime then
        return light


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large initializers keep their type and shape only: all that inference asks of them."""
    light = onnx.ModelProto()
    graph = light.graph
    for field in ("ir_version", "domain", "model_version"):
        setattr(light, field, getattr(model, field))
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SHAPE_SIZED:
            graph.initializer.append(tensor)
        else:
            graph.initializer.append(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    return light


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    known = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    for node in graph.node:
        for name in node.output:
            if name not in known:
                known[name] = onnx.ValueInfoProto(name=name)
    yield from known.values()


def captured(node: onnx.NodeProto) -> set[str]:
    """Names that the branches of a control-flow node take from outside."""
    graphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return {name for graph in graphs for inner in graph.node for name in (*inner.input, *captured(inner))}


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(_size(dim) for dim in kind.shape.dim)
    if not kind.elem_type:
        raise ModelError(
            f"the model's {value.name} is not a tensor: only models with tensor inputs and outputs are handled"
        )
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError as error:
        raise ModelError(
            f"the model's {value.name} is of type {kind.elem_type}, which ONNX lacks: export it again"
        ) from error
    return TensorSpec(value.name, shape, dtype)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """A dimension's size, or its name; some exporters write -1 for one that is free."""
    fixed = dim.HasField("dim_value") and dim.dim_value >= 0
    return int(dim.dim_value) if fixed else (dim.dim_param or None)


def _files_of(file: Path) -> tuple[Path, ...]:
    locations = _external_locations(loaded(file)) - {file.name}
    return (file, *(file.parent / location for location in sorted(locations)))


def _external_locations(model: onnx.ModelProto) -> set[str]:
    """Files that hold weights, relative to the model's folder."""
    return {
        entry.value
        for tensor in _tensors(model.graph)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
