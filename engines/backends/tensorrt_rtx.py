"""TensorRT for RTX: builds engines on any machine, GPU or not; the only builder that knows `tensorrt_rtx`.

What its documentation says and the builder (1.7) was seen to do:

- Graphs are strongly typed: there are no INT8 or FP16 flags and no calibrators.
- Without a compute capability an engine runs on 8.0, 8.6, 8.9, 12.0 and later; 7.5 must be asked for, and with 7.5 in
  the list no kernel is INT8 and a matrix product in FP32 is refused.
- A timing cache has no effect and makes the build ask for a GPU, so none is ever set.
- The workspace is a limit that it keeps. The optimization level and sparsity change nothing, hardware compatibility is
  refused by a warning, and version compatibility needs a library that it does not come with.
- FP32 kernels may use TF32, which is the builder's default.
- It keeps the first logger it is given for as long as something of that logger lives: there is one for the process.
"""

import re
from typing import Any

from calibrators.errors import BuildError, MissingDependencyError
from calibrators.installation import pip_install
from engines.backends.backend import BuildOptions, Gpu
from engines.backends.family import Family, Job
from engines.backends.parsing import reasons

_NO_USE = {
    "optimization_level": "--optimization-level is of no use to TensorRT-RTX, which chooses kernels when the engine "
    "first runs",
    "hardware_compatibility": "--hardware-compatibility is of no use to TensorRT-RTX, whose engines run on several "
    "GPUs anyway (--compute-capability)",
    "version_compatible": "--version-compatible is not for TensorRT-RTX, which has no engines of that kind",
    "sparsity": "--sparsity is of no use to TensorRT-RTX, which has no setting for it",
    "timing_cache": "--timing-cache is of no use to TensorRT-RTX, which times nothing when it builds, and setting one "
    "makes it ask for a GPU",
    "layer_precisions": "--layer-precision is not for TensorRT-RTX, which takes the type of each layer from the model: "
    "change the model instead",
}


_FP32_PRODUCT = "(SM75): FP32 GEMM is not supported"


class TensorRTRTX(Family):
    """The backend `tensorrt-rtx`; see `engines.backends.backend.Backend`.

    Its portable engines name the GPUs they run on when they refuse another: on an H100 (9.0), TensorRT-RTX 1.7.1 said
    "Supported compute capabilities: 8.0 8.6 8.9 12.0 12.1 >12.0".

    Raises:
        MissingDependencyError: `tensorrt_rtx` is not installed, or its libraries do not load.
    """

    name = "tensorrt-rtx"
    label = "TensorRT-RTX"
    portable = "8.0, 8.6, 8.9, 12.0 and later"
    gpu: Gpu | None = None
    strongly_typed = True
    calibrates = False
    times_kernels = False

    def __init__(self) -> None:
        try:
            import tensorrt_rtx
        except (ImportError, OSError) as error:
            raise MissingDependencyError(
                f"building with TensorRT-RTX needs tensorrt_rtx ({error}): {pip_install('rtx')}"
            ) from error
        self._trt: Any = tensorrt_rtx
        self.version = str(tensorrt_rtx.__version__)
        self._capabilities = {
            f"{int(name[2:]) // 10}.{int(name[2:]) % 10}": value
            for name, value in tensorrt_rtx.ComputeCapability.__members__.items()
            if re.fullmatch(r"SM\d+", name)
        }
        self.compute_capabilities = tuple(self._capabilities)

    def check(self, options: BuildOptions) -> None:
        """See `Backend.check`."""
        for option in options.given():
            if option in _NO_USE:
                raise BuildError(f"{_NO_USE[option]}: leave it out")

    def _configure(self, network: Any, config: Any, job: Job) -> None:
        """The model itself says all that types and calibration could."""
        assert not job.types and job.calibration is None
        config.num_compute_capabilities = len(job.compute_capabilities)
        for index, capability in enumerate(job.compute_capabilities):
            config.set_compute_capability(self._capabilities[capability], index)

    def _serialized(self, builder: Any, network: Any, config: Any, job: Job) -> tuple[Any, None]:
        data = None if job.stop.is_set() else builder.build_serialized_network(network, config)
        if data is None:
            said = reasons(job.log)
            remedy = "; build for it with --precision fp16, or INT8 with --rest fp16" if _FP32_PRODUCT in said else ""
            raise BuildError(f"{self.label} cannot build the engine: {said}{remedy}")
        return data, None
