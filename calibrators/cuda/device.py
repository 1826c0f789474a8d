"""The GPU in use, through PyCUDA or, where that is not installed, NVIDIA's own `cuda.bindings`.

Both work in the CUDA context that TensorRT works in: the device's primary one, or whichever is current already in the
thread that opens. The GPU is the current one: the first that CUDA sees, unless the program has chosen another.
"""

from collections.abc import Callable

from calibrators.cuda import bindings, pycuda_device
from calibrators.cuda.protocols import Cuda
from calibrators.errors import DeviceError, MissingDependencyError


def open_cuda() -> Cuda:
    """The current GPU, through PyCUDA or, where it is not installed, `cuda.bindings`.

    Raises:
        MissingDependencyError: Neither is installed.
        DeviceError: There is no GPU, no driver, or one too old.
    """
    implementations: tuple[Callable[[], Cuda], ...] = (pycuda_device.PyCuda, bindings.CudaBindings)
    absent: list[str] = []
    refused: DeviceError | None = None
    for implementation in implementations:
        try:
            return implementation()
        except MissingDependencyError as error:
            absent.append(str(error))
        except DeviceError as error:
            refused = error
    raise refused or MissingDependencyError(
        f"work on a GPU needs PyCUDA or NVIDIA's cuda.bindings: {'; '.join(absent)}"
    )
