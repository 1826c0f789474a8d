"""Engines from models: the graph made ready for a backend, built, inspected and written with its side-car."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrators.cache.float_layers import FLOAT_BUDGET
from calibrators.cache.sidecar import installed_versions
from calibrators.cache.sidecar import sidecar_path as cache_sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.errors import folded
from calibrators.files import sha256_of, whole_file, write_whole
from engines.backends.backend import NO_OPTIONS, Backend, BoundTensor, BuildOptions, Log
from engines.backends.kernel_log import UnknownLogError, read_kernels
from engines.backends.shapes import Profile
from engines.build.calibration import CacheSource, Ranges, float_layers, ranges_for
from engines.build.layer_plan import NO_PLAN, LayerConfig, LayerPlan
from engines.build.layer_types import constrained, disobeyed, halved, planned_for, told
from engines.build.request import BackendName, BuildRequest, Precision, Rest, checked_request
from engines.build.size import size_findings
from engines.graph.model import ModelSource, digest_of
from engines.inspection.drawbacks import on_turing, stored_zeros
from engines.inspection.engine_record import Engine, EngineRecord, sidecar_path
from engines.inspection.inspect import findings_of, operators_of
from engines.passes.apart import told_apart
from engines.passes.float_weights import with_float_weights
from engines.structure import lint
from engines.structure.lint import has_quantizers

if TYPE_CHECKING:
    import onnx

    from calibrators.tensorrt.calibrator import Calibrator


def build_engine(
    model: ModelSource,
    *,
    output: str | os.PathLike[str],
    precision: Precision = "int8",
    backend: BackendName = "auto",
    cache: CacheSource | None = None,
    calibrator: "Calibrator | None" = None,
    allow_version_mismatch: bool = False,
    config: LayerConfig | None = None,
    float_budget: float = FLOAT_BUDGET,
    shapes: str | Mapping[str, Profile] | None = None,
    rest: Rest | None = None,
    compute_capabilities: Iterable[str] = (),
    options: BuildOptions = NO_OPTIONS,
    log: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
    phase: Callable[[str], None] | None = None,
) -> Engine:
    """Build a TensorRT engine and write it to `output`, with its side-car ``<output>.json`` beside it.

    Args:
        model: A float ONNX model, or one with Q/DQ nodes.
        output: The engine's file; what is there stays as it is until the new engine is whole.
        precision: "int8" quantizes a float model with `cache` or `calibrator`, and builds a Q/DQ model as it is; "fp16"
            computes a float model in FP16; "fp32" builds a float model as it is.
        backend: Which TensorRT; "auto" takes "tensorrt" where it is installed and there is a GPU, else "tensorrt-rtx".
        cache: The calibration cache of a float model, or statistics from `collect`. TensorRT 8.6 to 10 reads it; for 11
            and TensorRT-RTX, Q/DQ nodes are written from it.
        calibrator: One of `calibrators.tensorrt.int8`. TensorRT 8.6 to 10 calibrates with it; for 11 and TensorRT-RTX,
            ranges are collected from its batches in ONNX Runtime, its cache is written, and Q/DQ nodes from that.
        allow_version_mismatch: Let TensorRT 8.6 to 10 use a cache of another version or algorithm.
        config: Which layers are quantized, and how, and which compute in FP16 or FP32; such as a `trtcal.QuantConfig`.
            TensorRT 8.6 to 10 gets Q/DQ nodes where its calibrators cannot do what it says.
        float_budget: Percent of the multiply-accumulates that may stay in float where the cache's side-car says of
            which layers it pays; 0 for all in INT8.
        shapes: Of dynamic inputs: `engines.backends.shapes.Profile` by input name, or as the command line has it,
            ``input:1x3x224x224..8x3x224x224..32x3x224x224``. A model with a dynamic batch and nothing said gets
            batches of 1 to 32.
        rest: What an INT8 build computes in where nothing is quantized: "fp16", the default, or "fp32".
        compute_capabilities: The GPUs to build for, such as "8.6" or "86"; none means the backend's portable default.
        options: What else to tell the builder; what the backend cannot honour is refused.
        log: A file for the builder's whole log; written where the build fails, too.
        progress: Is told 1 for each step that the builder reports.
        phase: Is told the name of each phase of the build as it begins.

    Raises:
        BuildError: What was asked for does not go together, or the builder refuses the model.
        CacheError: The cache cannot be read, or belongs to another model.
        DeviceError: The backend needs a GPU, and there is none that works, or its memory does not suffice.
        MissingDependencyError: The backend is not installed.
        ModelError: The model cannot be read, or cannot be converted.
        OutputError: A file cannot be written.
        BaseException: What a calibrator's data raised, as it was.
    """
    given = cache if calibrator is None else getattr(calibrator, "cache", None)
    files = [Path(given)] if isinstance(given, (str, os.PathLike)) else []
    written = [path for path in files if calibrator is not None and not path.exists()]
    request = checked_request(
        model,
        output=output,
        precision=precision,
        backend=backend,
        shapes=shapes,
        rest=rest,
        compute_capabilities=compute_capabilities,
        options=options,
        log=log,
        inputs=[path for path in files if path not in written],
        outputs=[each for path in written for each in (path, cache_sidecar_path(path))],
    )
    return fulfil(
        request,
        cache=cache,
        calibrator=calibrator,
        allow_version_mismatch=allow_version_mismatch,
        layers=None if config is None else planned_for(request, config),
        float_budget=float_budget,
        progress=progress,
        phase=phase,
    )


def fulfil(
    request: BuildRequest,
    *,
    cache: CacheSource | None = None,
    calibrator: "Calibrator | None" = None,
    allow_version_mismatch: bool = False,
    layers: LayerPlan | None = None,
    float_budget: float = FLOAT_BUDGET,
    progress: Callable[[int], None] | None = None,
    phase: Callable[[str], None] | None = None,
) -> Engine:
    """Build what `engines.build.request.checked_request` found in order; arguments and errors are `build_engine`'s.

    `layers` is what `engines.build.layer_types.planned_for` makes of a configuration.
    """
    said: Log = []
    if left := float_layers(request, cache, float_budget):
        layers = (layers or NO_PLAN).leaving(left)
    with ranges_for(
        request, cache=cache, calibrator=calibrator, allow_version_mismatch=allow_version_mismatch, plan=layers
    ) as ranges:
        if layers is not None and not request.backend.strongly_typed:
            request = constrained(request, layers, implicit=ranges.calibration is not None)
        graph, notes = _prepared(request, ranges, layers)
        try:
            plan = request.backend.build(
                graph,
                profiles=request.profiles,
                compute_capabilities=request.compute_capabilities,
                options=request.options,
                types=request.types,
                calibration=ranges.calibration,
                log=said,
                progress=progress,
                phase=phase,
            )
        except Exception:
            _keep(said, request.log)
            raise
        if ranges.calibration is not None:
            notes = (*ranges.calibration.calibrator.notes, *notes)
    _keep(said, request.log)
    used = ranges.cache if ranges.cache is not None else plan.cache
    file = cache if calibrator is None else calibrator.cache
    seen = _seen(graph, said, layers, request, len(plan.data))
    seen["findings"] = (*seen.get("findings", ()), *size_findings(request, len(plan.data), phase=phase))
    with whole_file(sidecar_path(request.output)) as sidecar, whole_file(request.output) as engine:
        engine.write_bytes(plan.data)
        record = EngineRecord(
            engine_sha256=sha256_of(engine),
            model=_name(request),
            model_sha256=digest_of(request.model),
            precision=request.precision,
            rest=request.rest,
            backend=request.backend.name,
            quantization=_quantization(request, implicit=ranges.calibration is not None),
            gpu=None if request.backend.gpu is None else asdict(request.backend.gpu),
            builder_options=request.options.given(),
            compute_capabilities=request.compute_capabilities,
            portable=request.portable,
            shapes={name: profile.to_dict() for name, profile in request.profiles.items()},
            inputs=tuple(map(_described, plan.inputs)),
            outputs=tuple(map(_described, plan.outputs)),
            versions=_versions(request.backend),
            notes=(*request.notes, *ranges.notes, *(() if layers is None else told(layers)), *notes),
            warnings=_warnings(said),
            **seen,
            configured={} if layers is None else layers.precisions,
            cache=Path(file).name if isinstance(file, (str, os.PathLike)) else None,
            cache_sha256=used.sha256 if used is not None else None,
            preprocess=_preprocess(request, used),
        )
        sidecar.write_text(record.dumps(), encoding="utf-8")
    return Engine(request.output, record)


def _quantization(request: BuildRequest, *, implicit: bool) -> str | None:
    if request.precision != "int8":
        return None
    return "implicit" if implicit else "explicit"


def _prepared(
    request: BuildRequest, ranges: Ranges, layers: LayerPlan | None
) -> "tuple[onnx.ModelProto, tuple[str, ...]]":
    """The graph to build, each node with a name of its own, and notes on what became of it."""
    graph = request.graph
    notes: list[str] = []
    if ranges.cache is not None:
        graph, notes = _quantized(request, ranges, layers)
    elif has_quantizers(graph):
        notes = [f"{name} stays in float: {why}" for name, why in lint.float_layers(graph).items()]
    if not request.backend.strongly_typed:
        graph = with_float_weights(graph)
    else:
        half = halved(request, graph, layers)
        graph = half.model
        notes += half.notes
    return told_apart(graph), tuple(notes)


def _quantized(request: BuildRequest, ranges: Ranges, layers: LayerPlan | None) -> "tuple[onnx.ModelProto, list[str]]":
    from engines.qdq.write import quantize

    assert ranges.cache is not None
    chosen = {} if layers is None else layers.choices
    quantized = quantize(request.model, ranges.cache, layers=chosen, caches=ranges.caches)
    left = [
        f"{name} stays in float: {why}"
        for name, why in quantized.left_float.items()
        if not isinstance(chosen.get(name), str)
    ]
    return quantized.model, [*left, *quantized.notes]


def _seen(
    graph: "onnx.ModelProto", said: Log, layers: LayerPlan | None, request: BuildRequest, size: int
) -> dict[str, Any]:
    """What the log tells of the engine of `size` bytes, for its record."""
    try:
        kernels = read_kernels(message for _, message in said)
    except UnknownLogError as error:
        return {"kernels": None, "kernels_absent": str(error)}
    operators, findings = operators_of(graph, kernels), findings_of(graph, kernels)
    if layers is not None:
        findings = (*disobeyed(layers, operators), *findings)
    findings = (
        *on_turing(operators, request.compute_capabilities),
        *stored_zeros(graph, kernels, size),
        *findings,
    )
    return {"kernels": kernels, "operators": operators, "findings": findings}


def _keep(said: Log, path: Path | None) -> None:
    if path is not None:
        write_whole(path, "".join(f"[{severity}] {message}\n" for severity, message in said))


def _warnings(said: Log) -> tuple[str, ...]:
    """The builder's warnings, each once, with how often it came."""
    counts: dict[str, int] = {}
    for severity, message in said:
        if severity == "warning":
            text = folded(message)
            counts[text] = counts.get(text, 0) + 1
    return tuple(f"{text} ({count} times)" if count > 1 else text for text, count in counts.items())


def _described(tensor: BoundTensor) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}


def _name(request: BuildRequest) -> str:
    return Path(request.model).name if isinstance(request.model, (str, os.PathLike)) else ""


def _preprocess(request: BuildRequest, cache: CalibrationCache | None) -> Mapping[str, Any] | None:
    """What images go through: as the cache's side-car has it, or that of a Q/DQ model."""
    if cache is not None:
        return cache.sidecar.preprocess if cache.sidecar is not None else None
    return _recorded(request.model) if isinstance(request.model, (str, os.PathLike)) else None


def _recorded(model: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The preprocessing that the side-car of a Q/DQ model holds; nothing where it is of another file than `model`."""
    try:
        value = json.loads(cache_sidecar_path(model).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("sha256") != sha256_of(model):
        return None
    found = value.get("preprocess")
    return found if isinstance(found, dict) else None


def _versions(backend: Backend) -> dict[str, str]:
    return {backend.name: backend.version, **installed_versions("trtcal", "onnx", "onnxruntime")}
