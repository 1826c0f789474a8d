"""What is to be built: everything that can be checked before the long work of calibrating and building."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from calibrators.errors import BuildError, DeviceError, MissingDependencyError
from calibrators.files import require_outputs
from calibrators.installation import pip_install
from engines.backends.backend import NO_OPTIONS, Backend, BuildOptions, NumberType
from engines.backends.settings import require_types
from engines.backends.shapes import Profile, parse_shapes, profiles_for
from engines.graph.model import ModelSource, files_of, input_specs, load_model
from engines.inspection.engine_record import sidecar_path
from engines.structure.dynamic import dynamic_refusal
from engines.structure.lint import has_quantizers, structure_of

if TYPE_CHECKING:
    import onnx

Precision = NumberType
Rest = Literal["fp16", "fp32"]
BackendName = Literal["auto", "tensorrt-rtx", "tensorrt"]


@dataclass(frozen=True)
class BuildRequest:
    """A build that was found to be in order.

    Attributes:
        model: As given.
        graph: The model, loaded.
        output: Where the engine goes.
        precision: What to build.
        rest: What an INT8 build computes in where nothing is quantized; None in other builds.
        backend: What builds.
        compute_capabilities: As `backend` writes them.
        profiles: Of dynamic inputs.
        options: What else the builder is told.
        log: Where the builder's log goes, if anywhere.
        notes: What was decided for the user.
        needs_ranges: Whether it is an INT8 build of a float model.
    """

    model: ModelSource
    graph: "onnx.ModelProto"
    output: Path
    precision: Precision
    rest: Rest | None
    backend: Backend
    compute_capabilities: tuple[str, ...]
    profiles: Mapping[str, Profile]
    options: BuildOptions
    log: Path | None
    notes: tuple[str, ...]
    needs_ranges: bool

    @property
    def implicit(self) -> bool:
        """Whether TensorRT itself can quantize the float model, by a calibrator."""
        return self.needs_ranges and self.backend.calibrates

    @property
    def types(self) -> frozenset[NumberType]:
        """What a builder that chooses types may compute in beside FP32; nothing where the model says it."""
        if self.backend.strongly_typed:
            return frozenset()
        return frozenset(each for each in (self.precision, self.rest) if each is not None and each != "fp32")

    @property
    def portable(self) -> str:
        """What the engine runs on where no compute capability was asked for, in words."""
        match self.options.hardware_compatibility:
            case "ampere+":
                return "8.0 and later (Ampere and newer)"
            case "same-compute-capability":
                gpu = self.backend.gpu
                return gpu.compute_capability if gpu is not None else "that of the GPU that it was built on"
            case _:
                return self.backend.portable

    @property
    def no_ranges_because(self) -> str:
        """Why the build has no use for a cache or for images; empty where it has."""
        if self.needs_ranges:
            return ""
        if self.precision == "int8":
            return "the model has Q/DQ nodes already, so its ranges are in it"
        return f"the build is in {self.precision}"


def checked_request(
    model: ModelSource,
    *,
    output: str | os.PathLike[str],
    precision: Precision = "int8",
    backend: BackendName = "auto",
    shapes: str | Mapping[str, Profile] | None = None,
    rest: Rest | None = None,
    compute_capabilities: Iterable[str] = (),
    options: BuildOptions = NO_OPTIONS,
    log: str | os.PathLike[str] | None = None,
    inputs: Sequence[str | os.PathLike[str]] = (),
    outputs: Sequence[str | os.PathLike[str]] = (),
) -> BuildRequest:
    """Check what `engines.build.builder.build_engine` is asked for; the arguments are those.

    `inputs` are files that are read beside the model, such as the cache: nothing may be written to them. `outputs` are
    files that are written beside the engine, such as a calibrator's cache.

    Raises:
        BuildError: It does not go together, or the model is one that TensorRT would get wrong.
        DeviceError: The backend needs a GPU, and there is none that works.
        MissingDependencyError: The backend is not installed.
        ModelError: The model cannot be read.
        OutputError: A file cannot be written.
    """
    if precision not in get_args(Precision) or rest not in (None, *get_args(Rest)):
        raise BuildError(f"precision is int8, fp16 or fp32 and rest fp16 or fp32, not {precision} and {rest}")
    if rest is not None and precision != "int8":
        raise BuildError(
            f"--rest {rest} is for INT8 builds, whose other layers it means: leave it out of a build in {precision}"
        )
    target, log_path = Path(output), None if log is None else Path(log)
    read = [*files_of(model), *inputs]
    others = [path for path in (log_path, options.timing_cache, *outputs) if path is not None]
    require_outputs([target, sidecar_path(target), *others], inputs=read)
    builder, remarks = _opened(backend)
    builder.check(options)
    capabilities = _capabilities(compute_capabilities, builder)
    graph = load_model(model) if isinstance(model, (str, os.PathLike)) else model
    asked = parse_shapes(shapes) if isinstance(shapes, str) else dict(shapes or {})
    profiles, notes = profiles_for(input_specs(graph), asked)
    if refusal := dynamic_refusal(graph):
        raise BuildError(refusal)
    quantized = has_quantizers(graph)
    if quantized:
        _require_buildable(graph, precision)
    request = BuildRequest(
        model=model,
        graph=graph,
        output=target,
        precision=precision,
        rest=(rest or "fp16") if precision == "int8" else None,
        backend=builder,
        compute_capabilities=capabilities,
        profiles=profiles,
        options=options,
        log=log_path,
        notes=(*remarks, *notes),
        needs_ranges=precision == "int8" and not quantized,
    )
    require_types(options, request.types)
    return request


def open_backend(name: BackendName = "auto") -> Backend:
    """The backend of that name; "auto" is TensorRT where it is installed and there is a GPU, else TensorRT-RTX.

    Raises:
        BuildError: There is no backend of that name.
        DeviceError: It needs a GPU, and there is none that works.
        MissingDependencyError: Its library is not installed.
    """
    return _opened(name)[0]


def _opened(name: BackendName) -> tuple[Backend, tuple[str, ...]]:
    """The backend, and a line where "auto" passes over a TensorRT that is installed."""
    from engines.backends.tensorrt import TensorRT
    from engines.backends.tensorrt_rtx import TensorRTRTX

    if name not in get_args(BackendName):
        raise BuildError(f"there is no backend {name}: take tensorrt, tensorrt-rtx or auto")
    if name == "tensorrt-rtx":
        return TensorRTRTX(), ()
    try:
        return TensorRT(), ()
    except (DeviceError, MissingDependencyError) as error:
        if name == "tensorrt":
            raise type(error)(f"{error}; TensorRT-RTX builds without a GPU: --backend tensorrt-rtx") from error
        return _instead(error)


def _instead(error: DeviceError | MissingDependencyError) -> tuple[Backend, tuple[str, ...]]:
    """TensorRT-RTX, as TensorRT cannot be had because of `error`."""
    from engines.backends.tensorrt_rtx import TensorRTRTX

    absent = isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == "tensorrt"
    try:
        backend = TensorRTRTX()
    except MissingDependencyError as missing:
        if not absent:
            raise type(error)(
                f"{error}; TensorRT-RTX builds without a GPU, but is not installed: {pip_install('rtx')}"
            ) from missing
        raise MissingDependencyError(
            f"neither TensorRT nor TensorRT-RTX is installed: {pip_install('tensorrt')} builds on this machine's GPU, "
            f"{pip_install('rtx')} on any machine ({missing})"
        ) from missing
    return backend, () if absent else (f"built with TensorRT-RTX, though tensorrt is installed: {error}",)


def _capabilities(wanted: Iterable[str], backend: Backend) -> tuple[str, ...]:
    """As the backend writes them, each once: 86 means 8.6."""
    found: dict[str, None] = {}
    for text in wanted:
        digits = str(text).replace(".", "")
        name = f"{digits[:-1]}.{digits[-1:]}"
        if not backend.compute_capabilities:
            raise BuildError(
                f"{backend.label} builds for the GPU that it runs on: leave out --compute-capability "
                f"{text}; --hardware-compatibility lets the engine run on others, --backend tensorrt-rtx builds for any"
            )
        if name not in backend.compute_capabilities:
            known = ", ".join(backend.compute_capabilities)
            raise BuildError(
                f"{backend.name} {backend.version} does not build for compute capability {text}: it knows {known}; "
                f"without any it builds for {backend.portable}"
            )
        found[name] = None
    return tuple(found)


def _require_buildable(graph: "onnx.ModelProto", precision: Precision) -> None:
    """Refuse a Q/DQ model in another precision than INT8, and one that TensorRT refuses or misreads."""
    if precision != "int8":
        raise BuildError(
            f"the model has Q/DQ nodes and is to be built in {precision}: give the float model, or build this one "
            "with --precision int8"
        )
    errors = [finding for finding in structure_of(graph).findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more like this: trtcal inspect lists them)" if len(errors) > 1 else ""
        raise BuildError(f"TensorRT cannot build this Q/DQ model as it is meant: {errors[0].message}{more}")
