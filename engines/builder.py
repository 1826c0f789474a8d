"""Engines from models: the graph made ready for a backend, built, inspected and written with its side-car."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrators.cache import CalibrationCache
from calibrators.errors import BuildError, CacheMismatchError
from calibrators.files import sha256_of, whole_file, write_whole
from calibrators.sidecar import sidecar_path as model_sidecar_path
from engines.backends.backend import Backend, BoundTensor, Log
from engines.backends.log import UnknownLogError, read_kernels
from engines.graph import ModelSource, label, model_digest
from engines.inspect import findings_of, operators_of
from engines.order import BackendName, Order, Precision, Rest, checked_order
from engines.record import Engine, EngineRecord, sidecar_path
from engines.shapes import Profile

if TYPE_CHECKING:
    import onnx

CacheSource = str | os.PathLike[str] | CalibrationCache


def build_engine(
    model: ModelSource,
    *,
    output: str | os.PathLike[str],
    precision: Precision = "int8",
    backend: BackendName = "auto",
    cache: CacheSource | None = None,
    shapes: str | Mapping[str, Profile] | None = None,
    rest: Rest | None = None,
    compute_capabilities: Iterable[str] = (),
    log: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Engine:
    """Build a TensorRT engine and write it to `output`, with its side-car ``<output>.json`` beside it.

    Args:
        model: A float ONNX model, or one with Q/DQ nodes.
        output: The engine's file; what is there stays as it is until the new engine is whole.
        precision: "int8" quantizes a float model with `cache`, and builds a Q/DQ model as it is; "fp16" converts a
            float model; "fp32" builds a float model as it is.
        backend: Which TensorRT; "auto" takes the best one that is installed.
        cache: The calibration cache of a float model.
        shapes: Of dynamic inputs: `engines.shapes.Profile` by input name, or as the command line has it,
            ``input:1x3x224x224..8x3x224x224..32x3x224x224``. A model with a dynamic batch and nothing said gets
            batches of 1 to 32.
        rest: What an INT8 build computes in where nothing is quantized: "fp16", the default, or "fp32".
        compute_capabilities: The GPUs to build for, such as "8.6" or "86"; none means the backend's portable default.
        log: A file for the builder's whole log; written where the build fails, too.
        progress: Is told 1 for each step that the builder reports.

    Raises:
        BuildError: What was asked for does not go together, or the builder refuses the model.
        CacheError: The cache cannot be read, or belongs to another model.
        MissingDependencyError: The backend is not installed.
        ModelError: The model cannot be read, or cannot be converted.
        OutputError: A file cannot be written.
    """
    order = checked_order(
        model,
        output=output,
        precision=precision,
        backend=backend,
        shapes=shapes,
        rest=rest,
        compute_capabilities=compute_capabilities,
        log=log,
        inputs=[cache] if isinstance(cache, (str, os.PathLike)) else [],
    )
    return fulfil(order, cache=cache, progress=progress)


def fulfil(order: Order, *, cache: CacheSource | None = None, progress: Callable[[int], None] | None = None) -> Engine:
    """Build what `engines.order.checked_order` found in order; arguments and errors are `build_engine`'s."""
    _require_cache(order, cache)
    ranges = CalibrationCache.load(cache) if isinstance(cache, (str, os.PathLike)) else cache
    graph, notes = _prepared(order, ranges)
    said: Log = []
    try:
        plan = order.backend.build(
            graph,
            profiles=order.profiles,
            compute_capabilities=order.compute_capabilities,
            log=said,
            progress=progress,
        )
    except BuildError:
        _keep(said, order.log)
        raise
    _keep(said, order.log)
    seen = _seen(graph, said)
    with whole_file(sidecar_path(order.output)) as sidecar, whole_file(order.output) as engine:
        engine.write_bytes(plan.data)
        record = EngineRecord(
            engine_sha256=sha256_of(engine),
            model=_name(order),
            model_sha256=_digest(order),
            precision=order.precision,
            rest=order.rest,
            backend=order.backend.name,
            compute_capabilities=order.compute_capabilities,
            portable=order.backend.portable,
            shapes={name: profile.to_dict() for name, profile in order.profiles.items()},
            inputs=tuple(map(_described, plan.inputs)),
            outputs=tuple(map(_described, plan.outputs)),
            versions=_versions(order.backend),
            notes=(*order.notes, *notes),
            warnings=_warnings(said),
            **seen,
            cache=Path(cache).name if isinstance(cache, (str, os.PathLike)) else None,
            cache_sha256=ranges.sha256 if ranges is not None else None,
            preprocess=_preprocess(order, ranges),
        )
        sidecar.write_text(record.dumps(), encoding="utf-8")
    return Engine(order.output, record)


def _require_cache(order: Order, cache: CacheSource | None) -> None:
    if order.needs_ranges and cache is None:
        raise BuildError(
            "an INT8 build of a float model needs ranges: give its calibration cache (--cache) or images to "
            "calibrate on (--images), or a model with Q/DQ nodes"
        )
    if cache is not None and not order.needs_ranges:
        raise BuildError(
            f"a calibration cache is for INT8 builds of float models, and {order.no_ranges_because}: "
            "leave out the cache"
        )


def _prepared(order: Order, cache: CalibrationCache | None) -> "tuple[onnx.ModelProto, tuple[str, ...]]":
    """The graph to build, each node with a name of its own, and notes on what became of it."""
    graph = order.graph
    notes: list[str] = []
    if cache is not None:
        graph, notes = _quantized(order, cache)
    if order.precision == "fp16" or order.rest == "fp16":
        graph, remarks = _halved(graph)
        notes += remarks
    return _named(graph), tuple(notes)


def _quantized(order: Order, cache: CalibrationCache) -> "tuple[onnx.ModelProto, list[str]]":
    from engines.qdq import quantize

    made_of, digest = cache.sidecar.model_sha256 if cache.sidecar is not None else "", _digest(order)
    if made_of and digest and made_of != digest:
        raise CacheMismatchError(
            f"the cache was made of another model (SHA-256 {made_of[:12]}...) than {_name(order)}: "
            "give that model's own cache, or calibrate it"
        )
    quantized = quantize(order.model, cache)
    return quantized.model, [f"{name} stays in float: {why}" for name, why in quantized.left_float.items()]


def _halved(graph: "onnx.ModelProto") -> "tuple[onnx.ModelProto, tuple[str, ...]]":
    from onnx import TensorProto

    from engines.passes.half import to_half

    typed = {tensor.data_type for tensor in graph.graph.initializer}
    typed |= {
        item.i for node in graph.graph.node if node.op_type == "Cast" for item in node.attribute if item.name == "to"
    }
    if TensorProto.FLOAT16 in typed or TensorProto.BFLOAT16 in typed:
        return graph, ("the model has FP16 tensors of its own: they, and its FP32 ones, are built as they are",)
    half = to_half(graph)
    return half.model, half.notes


def _named(graph: "onnx.ModelProto") -> "onnx.ModelProto":
    """A model with a name of its own for each node: TensorRT wants them apart, and names kernels by them."""
    import onnx

    names = [node.name for node in graph.graph.node]
    if all(names) and len(set(names)) == len(names):
        return graph
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    taken = set(filter(None, names))
    seen: set[str] = set()
    for node in copy.graph.node:
        name, number = label(node), 1
        while name in seen or ((number > 1 or not node.name) and name in taken):
            number += 1
            name = f"{label(node)} ({number})"
        seen.add(name)
        node.name = name
    return copy


def _seen(graph: "onnx.ModelProto", said: Log) -> dict[str, Any]:
    """What the log tells of the engine, for its record."""
    try:
        kernels = read_kernels(message for _, message in said)
    except UnknownLogError as error:
        return {"kernels": None, "kernels_absent": str(error)}
    return {"kernels": kernels, "operators": operators_of(graph, kernels), "findings": findings_of(graph, kernels)}


def _keep(said: Log, path: Path | None) -> None:
    if path is not None:
        write_whole(path, "".join(f"[{severity}] {message}\n" for severity, message in said))


def _warnings(said: Log) -> tuple[str, ...]:
    """The builder's warnings, each once, with how often it came."""
    counts: dict[str, int] = {}
    for severity, message in said:
        if severity == "warning":
            text = " ".join(message.split())
            counts[text] = counts.get(text, 0) + 1
    return tuple(f"{text} ({count} times)" if count > 1 else text for text, count in counts.items())


def _described(tensor: BoundTensor) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}


def _name(order: Order) -> str:
    return Path(order.model).name if isinstance(order.model, (str, os.PathLike)) else ""


def _digest(order: Order) -> str:
    """Of the model's file; a model in memory has none to compare."""
    return model_digest(order.model) if isinstance(order.model, (str, os.PathLike)) else ""


def _preprocess(order: Order, cache: CalibrationCache | None) -> Mapping[str, Any] | None:
    """What images go through: as the cache's side-car has it, or that of a Q/DQ model."""
    if cache is not None:
        return cache.sidecar.preprocess if cache.sidecar is not None else None
    return _recorded(order.model) if isinstance(order.model, (str, os.PathLike)) else None


def _recorded(model: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The preprocessing that the side-car of a Q/DQ model holds; nothing where it is of another file than `model`."""
    try:
        value = json.loads(model_sidecar_path(model).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict) or value.get("sha256") != sha256_of(model):
        return None
    found = value.get("preprocess")
    return found if isinstance(found, dict) else None


def _versions(backend: Backend) -> dict[str, str]:
    found = {backend.name: backend.version}
    for package in ("trtcal", "onnx", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
