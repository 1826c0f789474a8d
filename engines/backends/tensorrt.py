"""TensorRT 8.6 to 11, which builds on the GPU that the engine is for; the only builder that knows `tensorrt`.

What differs between its versions is asked of the module, never of its version number:

- 8.6 to 10 have the flags INT8 and FP16: the builder chooses each layer's type among FP32 and those. 11 has neither:
  there a graph is strongly typed, as in TensorRT for RTX.
- 8.6 to 10 have calibrators (deprecated since 10.1), and precisions of single layers.
- 8.6 needs the flag EXPLICIT_BATCH to read ONNX models; 10 ignores it, 11 has none.
- 8.6 names no node in a parser's error, but gives its position.
- 8.6 has no progress monitor: nothing tells how far a build is, and Ctrl-C takes effect when it has ended, or at the
  next batch of a calibration.

Whole builds run in tests against doubles of the real classes of each version, attribute by attribute and argument by
argument; not verified on a GPU.
"""

import re
from typing import TYPE_CHECKING, Any

from calibrators.errors import BuildError, DeviceError, MissingDependencyError, TrtcalError
from calibrators.installation import pip_install
from engines.backends import settings
from engines.backends.backend import BuildOptions, Gpu, Log
from engines.backends.family import Family, Job
from engines.backends.logger import listening
from engines.backends.network import set_calibration_shapes
from engines.backends.parsing import reasons
from engines.backends.timing_cache import TimingCache

if TYPE_CHECKING:
    from calibrators.cache.text import CalibrationCache

_CUDA_ERROR = re.compile(r"CUDA initialization failure with error: (\d+)")
_DRIVER_TOO_OLD = "35"  # cudaErrorInsufficientDriver
_OUT_OF_MEMORY = re.compile(r"out ?of ?memory|cudaErrorMemoryAllocation|insufficient memory", re.IGNORECASE)


class TensorRT(Family):
    """The backend `tensorrt`; see `engines.backends.backend.Backend`.

    Raises:
        DeviceError: There is no GPU, or its driver is too old.
        MissingDependencyError: `tensorrt` is not installed, or its libraries do not load.
    """

    name = "tensorrt"
    compute_capabilities: tuple[str, ...] = ()
    times_kernels = True

    def __init__(self) -> None:
        try:
            import tensorrt
        except (ImportError, OSError) as error:
            raise MissingDependencyError(
                f"building with TensorRT needs tensorrt ({error}): {pip_install('tensorrt')}"
            ) from error
        self._trt: Any = tensorrt
        self.version = str(tensorrt.__version__)
        self.label = f"TensorRT {self.version}"
        self.strongly_typed = not hasattr(tensorrt.BuilderFlag, "INT8")
        self.calibrates = hasattr(tensorrt.IBuilderConfig, "int8_calibrator")
        self.gpu = self._gpu()
        self.portable = (
            "that of the GPU that it was built on"
            if self.gpu is None
            else f"{self.gpu.compute_capability} ({self.gpu.name}, which it was built on)"
        )

    def check(self, options: BuildOptions) -> None:
        """See `Backend.check`."""
        settings.require_known(self._trt, options, label=self.label)

    def _network_flags(self) -> int:
        flags = self._trt.NetworkDefinitionCreationFlag
        return 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0

    def _configure(self, network: Any, config: Any, job: Job) -> None:
        assert not job.compute_capabilities
        for number in sorted(job.types):
            config.set_flag(getattr(self._trt.BuilderFlag, number.upper()))
        settings.constrain(self._trt, network, config, job.options)

    def _serialized(self, builder: Any, network: Any, config: Any, job: Job) -> "tuple[Any, CalibrationCache | None]":
        path = job.options.timing_cache
        timing = None if path is None else TimingCache(path, config, self.label, job.log)
        data, cache = self._built(builder, network, config, job)
        if data is None:
            raise _failure(self.label, job.log)
        if timing is not None:
            _save(timing, job.log)
        return data, cache

    def _gpu(self) -> Gpu | None:
        """The GPU; None where no library can tell, and yet there is one.

        Raises:
            DeviceError: There is none, or its driver is too old.
        """
        from calibrators.cuda.device import open_cuda

        try:
            device = open_cuda().device()
        except MissingDependencyError:  # nothing to ask but TensorRT itself
            log: Log = []
            with listening(self._trt, log) as logger:
                self._builder(logger, log)
            return None
        except DeviceError as error:
            raise DeviceError(f"{self.label} needs an NVIDIA GPU to build: {error}") from error
        return Gpu(device.name, device.compute_capability)

    def _builder(self, logger: Any, log: Log) -> Any:
        try:
            return self._trt.Builder(logger)
        except (TypeError, RuntimeError) as error:  # pybind11's word for a null pointer is TypeError
            said = [match[1] for _, message in log if (match := _CUDA_ERROR.search(message))]
            if _DRIVER_TOO_OLD in said:
                why = "the NVIDIA driver is too old for it: update the driver, or take an older TensorRT"
            else:
                why = f"it finds none that works (CUDA error {said[0]})" if said else "it finds none that works"
            raise DeviceError(f"{self.label} needs an NVIDIA GPU to build, and {why}") from error

    def _built(self, builder: Any, network: Any, config: Any, job: Job) -> "tuple[Any, CalibrationCache | None]":
        """The serialized engine, or None, and the cache that it was calibrated with; what a calibrator kept is raised.

        A calibrator belongs to the thread that prepares it, which is TensorRT's.
        """
        stop, calibration = job.stop, job.calibration
        if calibration is None:
            return None if stop.is_set() else builder.build_serialized_network(network, config), None
        calibrator, data, cache = calibration.calibrator, None, None
        calibrator.prepare(calibration.specs, calibration.model_sha256)
        try:
            config.int8_calibrator = calibrator
            shapes = {spec.name: tuple(int(size or 0) for size in spec.shape) for spec in calibration.specs}
            set_calibration_shapes(builder, config, shapes, label=self.label)
            data = None if stop.is_set() else builder.build_serialized_network(network, config)
        finally:
            cache = calibrator.finish(built=data is not None)
        return data, cache


def _failure(label: str, log: Log) -> TrtcalError:
    """What a build that gave no engine ends with."""
    if any(severity == "error" and _OUT_OF_MEMORY.search(message) for severity, message in log):
        return DeviceError(
            f"the GPU has too little free memory for {label} to build the engine ({reasons(log)}): free some, or lower "
            "--workspace, the largest of --shapes, or the batch that is calibrated on"
        )
    return BuildError(f"{label} cannot build the engine: {reasons(log)}")


def _save(timing: TimingCache, log: Log) -> None:
    """Keep the timing cache; an engine that is built is not lost over it, but it is said."""
    try:
        timing.save()
    except TrtcalError as error:
        log.append(("warning", f"the times of this build were not kept: {error}"))
