"""The CUDA context that PyCUDA works in, which is TensorRT's.

PyCUDA's objects belong to a context that must be current in the calling thread, and be current again when they go. So
every call, and every release, happens with that context pushed, and leaves the thread as it was: PyCUDA aborts the
process when a thread ends with a context of its still current. The context is the one that the program has made current
with PyCUDA (as `pycuda.autoinit` does), else the device's primary one, which TensorRT works in by itself.
"""

import contextlib
import functools
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from calibrators.cuda.pycuda_graphs import DriverGraphs
from calibrators.cuda.resources import NO_DRIVER, refused
from calibrators.errors import DeviceError, MissingDependencyError, one_line


def import_pycuda() -> tuple[Any, str]:
    """`pycuda.driver` and PyCUDA's version.

    Raises:
        MissingDependencyError: It is not installed, or does not import.
        DeviceError: There is no driver, or one that does not fit PyCUDA.
    """
    try:
        import pycuda
        from pycuda import driver
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "pycuda":
            raise MissingDependencyError("PyCUDA is not installed: pip install pycuda") from error
        raise MissingDependencyError(f"PyCUDA does not import ({one_line(error)}): install it again") from error
    except (ImportError, OSError) as error:
        said = one_line(error)
        if "libcuda" in said or "nvcuda" in said:
            raise DeviceError(f"no NVIDIA driver on this machine ({said}): {NO_DRIVER}") from error
        if "undefined symbol: cu" in said:
            raise DeviceError(
                f"the NVIDIA driver is older than the CUDA that PyCUDA was built for ({said}): update the driver, or "
                "pip install --force-reinstall --no-cache-dir --no-binary pycuda pycuda"
            ) from error
        raise MissingDependencyError(f"PyCUDA does not import ({said}): install it again") from error
    return driver, str(pycuda.VERSION_TEXT)


class Context:
    """The CUDA context that everything happens in.

    Attributes:
        driver: `pycuda.driver`, initialized.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        with self._explained("look for GPUs"):
            driver.init()
            if not driver.Device.count():
                raise refused("look for GPUs", "no CUDA-capable device is detected")
        self._native = driver.Context.get_current()
        if self._native is None:
            with self._explained("use the GPU"):
                self._native = _primary_context(driver, _current_device(driver))

    @contextlib.contextmanager
    def current(self, action: str) -> Iterator[None]:
        """The context is current in this thread; what PyCUDA raises meanwhile becomes a DeviceError.

        Args:
            action: What is done, for the message.
        """
        with self._explained(action):
            self._native.push()
            try:
                yield
            finally:
                self.driver.Context.pop()

    @functools.cached_property
    def graphs(self) -> DriverGraphs:
        """The driver's graphs."""
        return DriverGraphs()

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except self.driver.Error as error:
            routine, failed, said = str(error).partition(" failed: ")
            raise refused(action, f"{said} ({routine})" if failed else str(error)) from error


def _current_device(driver: Any) -> int:
    """The device that this thread works on already, else the first."""
    try:
        current = driver.Context.get_device()
    except driver.Error:  # no context is current
        return 0
    count = int(driver.Device.count())
    return next(index for index in range(count) if driver.Device(index) == current)


@functools.cache
def _primary_context(driver: ModuleType, index: int) -> Any:
    """The primary context of a device, kept until Python ends: the CUDA runtime, which TensorRT uses, keeps it too.

    It is let go explicitly: PyCUDA's own destructor would call `cuCtxDetach`, which is not for primary contexts.
    """
    context = driver.Device(index).retain_primary_context()
    weakref.finalize(driver, context.detach)
    return context
