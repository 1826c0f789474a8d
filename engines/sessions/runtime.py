"""Engines from files: which TensorRT runs one, and in one line why it does not load."""

import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from calibrators.cuda.device import open_cuda
from calibrators.cuda.protocols import Cuda
from calibrators.errors import DeviceError, EngineError, MissingDependencyError, TrtcalError, folded
from calibrators.files import sha256_of
from calibrators.installation import pip_install
from engines.backends.backend import Log
from engines.backends.logger import listening
from engines.inspection.engine_record import EngineRecord, sidecar_path

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""By backend, the module that runs its engines."""

_EXTRAS = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
_TITLES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A deserialized engine, and what keeps it alive.

    Attributes:
        path: Its file.
        backend: The family of TensorRT that runs it: "tensorrt" or "tensorrt-rtx".
        trt: The module.
        runtime: The `Runtime`; it must outlive the engine.
        engine: The `ICudaEngine`.
        record: Its side-car; None where there is none.
    """

    path: Path
    backend: str
    trt: ModuleType
    runtime: Any
    engine: Any
    record: EngineRecord | None

    @property
    def version(self) -> str:
        """The library's."""
        return str(self.trt.__version__)


def load_engine(path: str | os.PathLike[str]) -> LoadedEngine:
    """Deserialize an engine with the TensorRT that its side-car names, or else with one that takes it.

    Raises:
        BuildError: The side-car is malformed.
        DeviceError: There is no GPU, its driver is too old, or its memory does not suffice.
        EngineError: The file is no engine, was cut short, or is of another TensorRT or another GPU.
        MissingDependencyError: The TensorRT that it takes is not installed.
    """
    path = Path(path)
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "there is no such file"
        raise EngineError(f"cannot read the engine {path}: {found}; give an engine that trtcal build wrote")
    record = _record(path)
    data = path.read_bytes()
    if not data:
        raise EngineError(f"{path} is an empty file: build the engine again")
    if record is not None:
        return _loaded(path, data, record.backend, _module(record.backend, path), record)
    present = {name: module for name in MODULES if (module := _found(name)) is not None}
    if not present:
        raise MissingDependencyError(
            f"running the engine {path} needs the TensorRT that it was built with, and none is installed: "
            f"{pip_install('rtx')} or {pip_install('tensorrt')}"
        )
    failures: list[TrtcalError] = []
    for name, module in present.items():
        try:
            return _loaded(path, data, name, module, None)
        except (DeviceError, EngineError) as error:
            failures.append(error)
    for failure in failures:
        if isinstance(failure, DeviceError):
            raise failure
    raise EngineError("; ".join(map(str, failures)))


def new_context(loaded: LoadedEngine, cuda: Cuda) -> Any:
    """An `IExecutionContext` of the engine.

    TensorRT for RTX compiles kernels for the shapes that it meets, by default in the background while it already runs
    others: it is told to compile at once, so that times and CUDA graphs are those of the kernels that stay.

    Raises:
        DeviceError: It does not fit in the GPU's memory.
        EngineError: TensorRT refuses.
    """
    said: Log = []
    engine = loaded.engine
    with listening(loaded.trt, said):
        if hasattr(loaded.trt, "DynamicShapesKernelSpecializationStrategy"):
            config = engine.create_runtime_config()
            eager = loaded.trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
    if context is not None:
        return context
    reason = first_error(said)
    if is_out_of_memory(reason):
        needed = engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size
        free = cuda.device().memory_free
        raise DeviceError(
            f"{loaded.path} needs {_megabytes(needed)} of the GPU's memory to run, and {_megabytes(free)} are free: "
            "end what else uses the GPU, or build it for a smaller batch"
        )
    raise EngineError(f"{loaded.path} gives no execution context: {reason}")


def first_error(log: Log) -> str:
    """The first error that TensorRT logged, on one line."""
    errors = [folded(message) for severity, message in log if severity == "error"]
    return errors[0].rstrip(".") if errors else "TensorRT gives no reason"


def is_out_of_memory(reason: str) -> bool:
    """Whether TensorRT's words say that the device's memory does not suffice."""
    return _OUT_OF_MEMORY.search(reason) is not None


def _record(path: Path) -> EngineRecord | None:
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return None
    record = EngineRecord.parse(sidecar.read_bytes(), source=str(sidecar))
    if record.engine_sha256 != sha256_of(path):
        raise EngineError(
            f"{path} is not the engine that {sidecar.name} describes (SHA-256 differs): it was cut short or replaced; "
            "copy both files again, or build it again"
        )
    if record.backend not in MODULES:
        raise EngineError(f"{path} was built by {record.backend}, which this trtcal cannot run: update trtcal")
    return record


def _module(backend: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(MODULES[backend])
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{path} runs with {_TITLES[backend]}, and {MODULES[backend]} cannot be imported ({error}): "
            f"{pip_install(_EXTRAS[backend])}"
        ) from error


def _found(backend: str) -> ModuleType | None:
    try:
        return importlib.import_module(MODULES[backend])
    except (ImportError, OSError):
        return None


def _loaded(path: Path, data: bytes, backend: str, trt: ModuleType, record: EngineRecord | None) -> LoadedEngine:
    said: Log = []
    title = f"{_TITLES[backend]} {trt.__version__}"
    engine = None
    with listening(trt, said) as logger:
        try:
            runtime = trt.Runtime(logger)
        except (TypeError, RuntimeError) as error:  # what pybind11 makes of a null pointer: there is no GPU
            if isinstance(error, TypeError) and "nullptr" not in str(error):
                raise
            runtime = None
        if runtime is not None:
            if record is not None and record.builder_options.get("version_compatible"):
                runtime.engine_host_code_allowed = True  # such engines bring their own runtime along
            engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        if runtime is None and not any(severity == "error" for severity, _ in said):
            raise DeviceError(f"cannot run {path}: {title} makes no runtime here, as without a GPU; ask trtcal doctor")
        raise _refusal(path, title, str(trt.__version__), record, said)
    return LoadedEngine(path, backend, trt, runtime, engine, record)


def _refusal(path: Path, title: str, version: str, record: EngineRecord | None, said: Log) -> TrtcalError:
    """Why an engine does not load, from what TensorRT said and what the side-car says."""
    text = " ".join(folded(message) for severity, message in said if severity == "error")
    if record is not None and not any(words.search(text) for words in (_NO_GPU, *_OTHER_GPU, _OUT_OF_MEMORY)):
        built_with = record.versions[record.backend]
        if built_with != version:
            return EngineError(
                f"{path} was built with version {built_with}, and {title} does not load it: build the engine again, or "
                f"install version {built_with}"
            )
        if refusal := _other_gpu(path, record):
            return refusal
    for pattern, kind, message in _REFUSALS:
        if match := pattern.search(text):
            return kind(message.format(path=path, title=title, **match.groupdict()))
    return EngineError(f"{title} cannot load {path}: {first_error(said)}; build the engine again on this machine")


def _other_gpu(path: Path, record: EngineRecord) -> EngineError | None:
    """What to say where the side-car names GPUs, and this machine's is none of them."""
    built_for = record.compute_capabilities or ((record.gpu["compute_capability"],) if record.gpu else ())
    if not built_for:
        return None
    try:
        device = open_cuda().device()
    except TrtcalError:
        return None
    if device.compute_capability in built_for:
        return None
    return EngineError(
        f"{path} was built for GPUs of compute capability {', '.join(built_for)}, and {device.name} has "
        f"{device.compute_capability}: build the engine again for this GPU"
    )


_OTHER_GPU = tuple(
    re.compile(words)
    for words in (
        r"has compute capability (?P<here>\d+\.\d+)\b.* does not support this compute capability",
        r"has compute capability (?P<here>\d+\.\d+)\. Supported compute capabilities: (?P<built>[\d.> ]*\d)",
        r"expecting compute (?P<here>\d+\.\d+) got compute (?P<built>\d+\.\d+)",
    )
)
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|could not be allocated|cudaError(_t)? 2\b", re.IGNORECASE)
_NO_GPU = re.compile(r"(cudaError(_t)?|CUDA initialization failure with error:?) (?!2\b)\d+")

_REFUSALS: tuple[tuple[re.Pattern[str], type[TrtcalError], str], ...] = (
    (
        _OTHER_GPU[0],
        EngineError,
        "{path} cannot run here: {title} has no engines for GPUs of compute capability {here}, which this one has; "
        "build it with TensorRT (--backend tensorrt), or run it on another GPU",
    ),
    *(
        (
            words,
            EngineError,
            "{path} was built for GPUs of compute capability {built}, and this one has {here}: build the engine again "
            "on this machine",
        )
        for words in _OTHER_GPU[1:]
    ),
    (
        re.compile("expecting library version|Version tag does not match|stdVersionRead"),
        EngineError,
        "{path} was built with another version than {title}: build the engine again",
    ),
    (
        re.compile(r"header\.size == blobSize|bufferSize >= minBufferSize"),
        EngineError,
        "{path} was cut short: copy it again, or build it again",
    ),
    (
        re.compile("magicTag|incompatible serialization version"),
        EngineError,
        "{path} is no engine that {title} can load: it is something else, or of another TensorRT; build it again",
    ),
    (
        _OUT_OF_MEMORY,
        DeviceError,
        "{path} does not fit in the GPU's memory: end what else uses the GPU, or build it for a smaller batch",
    ),
    (
        re.compile("(cudaError(_t)?|CUDA initialization failure with error:?) 35|insufficient for CUDA"),
        DeviceError,
        "cannot run {path}: {title} finds no NVIDIA driver, or one too old for it; trtcal doctor shows what is here",
    ),
    (
        _NO_GPU,
        DeviceError,
        "cannot run {path}: {title} finds no NVIDIA GPU that it can use; trtcal doctor shows what is here",
    ),
)
"""What TensorRT says, the first that fits. The first (on an H100), fifth, sixth and eighth as TensorRT-RTX 1.7.1 was
seen to log them; the others as users of TensorRT 8 to 11 report them."""


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
