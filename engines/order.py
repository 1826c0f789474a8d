"""What is to be built: everything that can be checked before the long work of calibrating and building."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from calibrators.errors import BuildError, MissingDependencyError
from calibrators.files import require_outputs
from engines.backends.backend import Backend
from engines.graph import ModelSource, files_of, input_specs, load_model
from engines.lint import has_quantizers, structure_of
from engines.record import sidecar_path
from engines.shapes import Profile, parse_shapes, profiles_for

if TYPE_CHECKING:
    import onnx

Precision = Literal["int8", "fp16", "fp32"]
Rest = Literal["fp16", "fp32"]
BackendName = Literal["auto", "tensorrt-rtx", "tensorrt"]


@dataclass(frozen=True)
class Order:
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
    log: Path | None
    notes: tuple[str, ...]
    needs_ranges: bool

    @property
    def no_ranges_because(self) -> str:
        """Why the build has no use for a cache or for images; empty where it has."""
        if self.needs_ranges:
            return ""
        if self.precision == "int8":
            return "the model has Q/DQ nodes already, so its ranges are in it"
        return f"the build is in {self.precision}"


def checked_order(
    model: ModelSource,
    *,
    output: str | os.PathLike[str],
    precision: Precision = "int8",
    backend: BackendName = "auto",
    shapes: str | Mapping[str, Profile] | None = None,
    rest: Rest | None = None,
    compute_capabilities: Iterable[str] = (),
    log: str | os.PathLike[str] | None = None,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Order:
    """Check what `engines.builder.build_engine` is asked for; the arguments are those.

    `inputs` are files that are read beside the model, such as the cache: nothing may be written to them.

    Raises:
        BuildError: It does not go together, or the model is one that TensorRT would get wrong.
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
    require_outputs([target, sidecar_path(target), *([] if log_path is None else [log_path])], inputs=read)
    builder = open_backend(backend)
    capabilities = _capabilities(compute_capabilities, builder)
    graph = load_model(model) if isinstance(model, (str, os.PathLike)) else model
    asked = parse_shapes(shapes) if isinstance(shapes, str) else dict(shapes or {})
    profiles, notes = profiles_for(input_specs(graph), asked)
    quantized = has_quantizers(graph)
    if quantized:
        _require_buildable(graph, precision)
    return Order(
        model=model,
        graph=graph,
        output=target,
        precision=precision,
        rest=(rest or "fp16") if precision == "int8" else None,
        backend=builder,
        compute_capabilities=capabilities,
        profiles=profiles,
        log=log_path,
        notes=notes,
        needs_ranges=precision == "int8" and not quantized,
    )


def open_backend(name: BackendName = "auto") -> Backend:
    """The backend of that name, or the best one installed.

    Raises:
        BuildError: There is no backend of that name.
        MissingDependencyError: Its library is not installed.
    """
    from engines.backends.tensorrt_rtx import TensorRTRTX

    if name == "tensorrt":
        raise MissingDependencyError(
            "this version of trtcal builds with tensorrt-rtx only, not with tensorrt: leave out --backend, and pip "
            "install trtcal[rtx]"
        )
    if name not in get_args(BackendName):
        raise BuildError(f"there is no backend {name}: take tensorrt-rtx, or auto")
    return TensorRTRTX()


def _capabilities(wanted: Iterable[str], backend: Backend) -> tuple[str, ...]:
    """As the backend writes them, each once: 86 means 8.6."""
    found: dict[str, None] = {}
    for text in wanted:
        digits = str(text).replace(".", "")
        name = f"{digits[:-1]}.{digits[-1:]}"
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
