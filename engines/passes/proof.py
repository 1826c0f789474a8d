"""That a prepared model computes what the original does: both run on a sample, in ONNX Runtime.

The sample is random numbers of the inputs' shapes. Results may differ by rounding, which a deep network amplifies
without end. So where they differ by more, each tensor that both models have and that differs is computed anew from the
original's values of those before it: if it differs still, its node is named.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from calibrators.errors import ModelError
from engines.graph.constants import with_outputs
from engines.graph.model import ModelSource, as_stored, captured, files_of, load_model, loaded
from engines.graph.operators import label
from engines.graph.runtime import DTYPES, Arrays, Judge
from engines.passes.opset import LOWEST_OPSET, SERVES

MOST_WEIGHTS = 2**30
"""Bytes: a larger model would take minutes and twice its memory."""

HALF_ROUNDING = 4e-3
"""Likewise, where the original computes in FP16, whose results have 11 bits."""

ROUNDING = 1e-3
"""Of the largest magnitude: more than float32 loses over a few operators, and far from what another function gives."""

SIZES = (64, 224, 1)
"""What a free axis other than the first is tried at; the first is 2, then 1."""

_PROVED: dict[str, str] = {}
"""What was found of the models of this process, by their digest: a comparison prepares one model many times."""


def proved(model: ModelSource, graph: ir.Model) -> str:
    """Prove a preparation on a sample.

    Args:
        model: The original.
        graph: What was made of it.

    Returns:
        Why that is not possible; empty where they agree, or are the same node by node.

    Raises:
        ModelError: They disagree; the message names the node.
    """
    original = loaded(model)
    if _nodes(original) == _nodes(ir.to_proto(graph)) and not _has_half(original):
        return ""
    size = sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value is not None)
    if size > MOST_WEIGHTS:
        return f"its weights of {size / 2**30:.1f} GiB are too many for that"
    made = _in_memory(graph)
    key = _digest(model) + hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()
    if key not in _PROVED:
        _PROVED[key] = _compared(model, original, made)
    return _PROVED[key]


def _serving(model: onnx.ModelProto) -> str:
    """The opset with which a model would stay as it is."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return f"{LOWEST_OPSET} or more" if opset <= SERVES else str(SERVES)


def _nodes(model: onnx.ModelProto) -> tuple[object, ...]:
    """What a model computes, but for where its constants stand and what its nodes are called."""
    versions = sorted((entry.domain, entry.version) for entry in model.opset_import)
    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant":
            known = onnx.NodeProto()
            known.CopyFrom(node)
            known.ClearField("name")
            known.ClearField("doc_string")
            kept.append(known.SerializeToString(deterministic=True))
    return (versions, kept)


def _in_memory(graph: ir.Model) -> onnx.ModelProto:
    copy = graph.clone()
    ir.external_data.load_to_model(copy)
    return ir.to_proto(copy)


def _digest(model: ModelSource) -> str:
    if isinstance(model, onnx.ModelProto):
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    stats = [file.stat() for file in files_of(model)]
    return f"{Path(model).absolute()} {[(stat.st_mtime_ns, stat.st_size) for stat in stats]}"


def _compared(model: ModelSource, original: onnx.ModelProto, made: onnx.ModelProto) -> str:
    try:
        feed, expected = _sample(Judge(_plainly(model)))
    except ModelError as error:
        return f"ONNX Runtime cannot run the model as it was ({error})"
    try:
        actual = _run(made, feed)
    except ModelError as error:
        raise ModelError(
            f"the model cannot be prepared for quantization: ONNX Runtime cannot run what is made of it ({error}); "
            f"export it with opset {_serving(original)}"
        ) from error
    bound = HALF_ROUNDING if _has_half(original) else ROUNDING
    if any(_difference(expected[name], actual[name]) > bound for name in expected):
        whole = loaded(model) if isinstance(model, onnx.ModelProto) else load_model(model, check=False)
        _blame(whole, made, feed, bound)
    return ""


def _plainly(model: ModelSource) -> ModelSource:
    """The model, as a file where `load_model` would give that."""
    if isinstance(model, onnx.ModelProto):
        return loaded(model)
    return model if as_stored(model) else load_model(model, check=False)


def _has_half(model: onnx.ModelProto) -> bool:
    """Whether it computes in FP16 somewhere, as its constants, inputs and casts tell."""
    half = onnx.TensorProto.FLOAT16
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    kinds += [tensor.data_type for tensor in model.graph.initializer]
    kinds += [each.i for node in model.graph.node for each in node.attribute if each.name == "to"]
    return half in kinds


def _run(model: onnx.ModelProto, feed: Arrays) -> Arrays:
    """What a model gives for arrays of the types of the original's inputs, which it may take in float32."""
    judge = Judge(model)
    types = {value.name: DTYPES.get(value.type) for value in judge.inputs}
    return judge.run({name: array.astype(types.get(name) or array.dtype) for name, array in feed.items()})


def _blame(original: onnx.ModelProto, made: onnx.ModelProto, feed: Arrays, bound: float) -> None:
    """Name the node at which two models part; nothing where rounding explains the difference.

    Raises:
        ModelError: There is such a node.
    """
    common = {name for node in original.graph.node for name in node.output if name}
    names = [name for node in made.graph.node for name in node.output if name in common]
    try:
        before, after = (_run(with_outputs(each, names), feed) for each in (original, made))
    except ModelError:  # a tensor that cannot be an output, such as an optional one: the outputs alone, then
        before, after = (_run(each, feed) for each in (original, made))
    known = {
        name: array.astype(np.float32) if array.dtype == np.float16 and bound == HALF_ROUNDING else array
        for name, array in {**feed, **before}.items()
    }
    for node in made.graph.node:
        for name in node.output:
            if name in before and _difference(before[name], after[name]) > bound:
                found = _difference(before[name], _from_known(made, name, known))
                if found > bound:
                    raise ModelError(
                        f"the model would compute something else once prepared for quantization, at {label(node)}, as "
                        f"operators change with the opset: export it with opset {_serving(original)} ({found:.0%} off "
                        "on random inputs)"
                    )


def _from_known(model: onnx.ModelProto, wanted: str, known: Arrays) -> npt.NDArray[Any]:
    """A tensor computed from the nearest known ones before it, so that no rounding comes from farther away."""
    producers = {name: node for node in model.graph.node for name in node.output if name}
    needed, read, waiting = list[onnx.NodeProto](), set[str](), [producers[wanted]]
    while waiting:
        node = waiting.pop()
        if node in needed:
            continue
        needed.append(node)
        for name in (*node.input, *captured(node)):
            if name in known:
                read.add(name)
            elif name in producers:
                waiting.append(producers[name])
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in ("node", "input", "value_info"):
        part.graph.ClearField(field)
    part.graph.node.extend(node for node in model.graph.node if node in needed)
    part.graph.input.extend(onnx.helper.make_tensor_value_info(name, _type(known[name]), None) for name in sorted(read))
    return Judge(with_outputs(part, [wanted])).run({name: known[name] for name in read})[wanted]


def _type(array: npt.NDArray[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def _difference(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> float:
    """The largest difference, as a share of the largest magnitude; infinite for other shapes or other infinities."""
    widened = expected.dtype == np.float16 and actual.dtype == np.float32
    if expected.shape != actual.shape or (expected.dtype != actual.dtype and not widened):
        return np.inf
    if expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(expected, actual) else np.inf
    first, second = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(first[~finite], second[~finite], equal_nan=True):
        return np.inf
    largest = float(np.abs(first[finite]).max(initial=0))
    apart = float(np.abs(first[finite] - second[finite]).max(initial=0))
    return apart / largest if largest else (np.inf if apart else 0.0)


def _sample(judge: Judge) -> tuple[Arrays, Arrays]:
    """Random inputs that a model runs on, and what it gives."""
    failure: ModelError | None = None
    fixed = all(isinstance(size, int) and size > 0 for value in judge.inputs for size in value.shape)
    for size in SIZES[:1] if fixed else SIZES:
        for samples in (1,) if fixed else (2, 1):
            feed = {value.name: _random(value, samples, size) for value in judge.inputs}
            try:
                return feed, judge.run(feed)
            except ModelError as error:
                failure = failure or error
    assert failure is not None
    raise failure


def _random(value: Any, samples: int, size: int) -> npt.NDArray[Any]:
    dtype = DTYPES.get(value.type)
    if dtype is None:
        raise ModelError(f"its input {value.name} is a {value.type}")
    generator = np.random.default_rng(0)
    shape = [
        dim if isinstance(dim, int) and dim > 0 else samples if axis == 0 else size
        for axis, dim in enumerate(value.shape)
    ]
    if np.dtype(dtype).kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
