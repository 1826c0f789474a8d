"""The GPU through NVIDIA's bindings of the CUDA runtime: `cuda.bindings` (12.6 and later) or the older `cuda.cudart`.

The runtime works in whatever context is current in the calling thread, and makes the device's primary one current where
there is none, as TensorRT does: there is nothing to manage. Only functions whose signature is the same from CUDA 11.4
to 13 are called (`cudaGraphInstantiate`, for one, is not among them).
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from calibrators.cuda.protocols import Device, DeviceMemory, Event, Graph, PinnedMemory, Stream
from calibrators.cuda.resources import (
    NO_DRIVER,
    Memory,
    Owned,
    Pinned,
    check_copy,
    checked_size,
    out_of_memory,
    refused,
    same_library,
)
from calibrators.errors import DeviceError, MissingDependencyError, one_line


class CudaBindings:
    """`cuda.bindings`; see `calibrators.cuda.protocols.Cuda`.

    Raises:
        MissingDependencyError: It is not installed, or does not import.
        DeviceError: There is no GPU, no driver, or one too old.
    """

    def __init__(self) -> None:
        runtime, version = _import()
        self.name = f"cuda.bindings {version}"
        self._runtime = Runtime(runtime)
        self._check_driver(version)

    def device(self) -> Device:
        """What the GPU is, and how much of its memory is free now."""
        call, runtime = self._runtime.call, self._runtime.module
        index = call("find the current GPU", "cudaGetDevice")
        attribute = functools.partial(call, "ask the GPU for its compute capability", "cudaDeviceGetAttribute")
        major = attribute(runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, index)
        minor = attribute(runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor, index)
        free, total = call("ask the GPU for its memory", "cudaMemGetInfo")
        name = call("ask the GPU for its name", "cudaGetDeviceProperties", index).name
        driver = call("ask the driver for its version", "cudaDriverGetVersion")
        return Device(
            name=name.decode() if isinstance(name, bytes) else str(name),
            compute_capability=f"{major}.{minor}",
            memory_total=int(total),
            memory_free=int(free),
            driver=_version(driver),
        )

    def memory(self, size: int) -> DeviceMemory:
        """Memory on the device."""
        room = checked_size(size, "device")
        address = self._allocate("device", room, "cudaMalloc")
        return Memory(address, size, self._runtime.later("free device memory", "cudaFree", address))

    def pinned(self, size: int) -> PinnedMemory:
        """Page-locked memory of the host."""
        room = checked_size(size, "pinned")
        address = self._allocate("pinned", room, "cudaMallocHost")
        memory = np.frombuffer(memoryview((ctypes.c_uint8 * room).from_address(address)), np.uint8)
        return Pinned(memory, size, self._runtime.later("free pinned memory", "cudaFreeHost", address))

    def stream(self) -> Stream:
        """A stream of its own."""
        return RuntimeStream(self._runtime)

    def event(self, *, timing: bool = True) -> Event:
        """An event."""
        return RuntimeEvent(self._runtime, timing)

    def copy_in(self, target: int, source: PinnedMemory, size: int, stream: Stream) -> None:
        """Copy to the device."""
        check_copy(size, len(source.array), "from")
        kind = self._runtime.module.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._runtime.call("copy to the GPU", "cudaMemcpyAsync", target, source.address, size, kind, stream.handle)

    def copy_out(self, target: PinnedMemory, source: int, size: int, stream: Stream) -> None:
        """Copy from the device."""
        check_copy(size, len(target.array), "to")
        kind = self._runtime.module.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._runtime.call("copy from the GPU", "cudaMemcpyAsync", target.address, source, size, kind, stream.handle)

    def _allocate(self, kind: str, size: int, function: str) -> int:
        error, address = getattr(self._runtime.module, function)(size)
        if error == self._runtime.module.cudaError_t.cudaErrorMemoryAllocation:
            free = self._runtime.module.cudaMemGetInfo()[1] if kind == "device" else None
            raise out_of_memory(size, kind, free)
        self._runtime.check(f"allocate {kind} memory", function, error)
        return int(address)

    def _check_driver(self, version: str) -> None:
        runtime = self._runtime.module
        try:
            error, count = runtime.cudaGetDeviceCount()
            driver = runtime.cudaDriverGetVersion()[1]
            needed = runtime.cudaRuntimeGetVersion()[1]
        except (RuntimeError, OSError) as reason:  # before 13 the bindings look for the driver themselves
            raise DeviceError(f"no NVIDIA driver on this machine ({one_line(reason)}): {NO_DRIVER}") from reason
        if not driver:
            raise DeviceError(f"no NVIDIA driver on this machine: {NO_DRIVER}")
        if error == runtime.cudaError_t.cudaErrorInsufficientDriver:
            raise DeviceError(
                f"the NVIDIA driver is too old: it supports CUDA {_version(driver)} and cuda.bindings {version} needs "
                f"{needed // 1000}.0; update the driver, or pip install 'cuda-bindings<{driver // 1000 + 1}'"
            )
        self._runtime.check("look for GPUs", "cudaGetDeviceCount", error)
        if not count:
            raise refused("look for GPUs", "no CUDA-capable device is detected")


class Runtime:
    """The runtime's functions, which give an error code and values; the code checked, the values handed on.

    Attributes:
        module: `cuda.bindings.runtime`.
    """

    def __init__(self, module: Any) -> None:
        self.module = module

    def call(self, action: str, function: str, *arguments: Any) -> Any:
        """Call `function` to do `action`; gives its value, or a tuple of several.

        Raises:
            DeviceError: It gives an error code.
        """
        error, *values = getattr(self.module, function)(*arguments)
        self.check(action, function, error)
        return values[0] if len(values) == 1 else tuple(values)

    def later(self, action: str, function: str, *arguments: Any) -> Callable[[], None]:
        """The same call, to be made at another time."""
        return functools.partial(self.call, action, function, *arguments)

    def check(self, action: str, function: str, error: Any) -> None:
        """Raise DeviceError unless `error` is success."""
        if error != self.module.cudaError_t.cudaSuccess:
            text = self.module.cudaGetErrorString(error)[1]
            said = text.decode() if isinstance(text, bytes) else str(text)
            raise refused(action, f"{said} ({function}: {getattr(error, 'name', error)})")


class RuntimeStream(Owned):
    """A stream of the runtime; see `calibrators.cuda.protocols.Stream`."""

    def __init__(self, runtime: Runtime) -> None:
        flags = runtime.module.cudaStreamNonBlocking
        self._native = runtime.call("make a stream", "cudaStreamCreateWithFlags", flags)
        super().__init__("a stream", runtime.later("free a stream", "cudaStreamDestroy", self._native))
        self._runtime = runtime

    @property
    def handle(self) -> int:
        """For TensorRT."""
        self._check()
        return int(self._native)

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        self._check()
        self._runtime.call("finish the work of a stream", "cudaStreamSynchronize", self._native)

    def wait(self, event: Event) -> None:
        """Hold what comes until `event` has happened."""
        self._check()
        native = native_event(event)
        self._runtime.call("let a stream wait for an event", "cudaStreamWaitEvent", self._native, native, 0)

    def begin_capture(self) -> None:
        """Write down the work instead of doing it."""
        self._check()
        mode = self._runtime.module.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._runtime.call("begin to capture a stream", "cudaStreamBeginCapture", self._native, mode)

    def end_capture(self) -> Graph:
        """End the capture and make what was captured ready to run."""
        self._check()
        graph = self._runtime.call("capture the work of a stream", "cudaStreamEndCapture", self._native)
        try:
            ready = self._runtime.call("make a graph ready to run", "cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._runtime.call("free a graph", "cudaGraphDestroy", graph)
        return RuntimeGraph(self._runtime, ready)


class RuntimeEvent(Owned):
    """An event of the runtime; see `calibrators.cuda.protocols.Event`."""

    def __init__(self, runtime: Runtime, timing: bool) -> None:
        flags = runtime.module.cudaEventDefault if timing else runtime.module.cudaEventDisableTiming
        self._native = runtime.call("make an event", "cudaEventCreateWithFlags", flags)
        super().__init__("an event", runtime.later("free an event", "cudaEventDestroy", self._native))
        self._runtime = runtime

    def record(self, stream: Stream) -> None:
        """Happen when the work so far is done."""
        self._check()
        self._runtime.call("record an event", "cudaEventRecord", self._native, stream.handle)

    def synchronize(self) -> None:
        """Wait until it has happened."""
        self._check()
        self._runtime.call("wait for an event", "cudaEventSynchronize", self._native)

    def milliseconds_since(self, earlier: Event) -> float:
        """The time on the device since another event."""
        self._check()
        start = native_event(earlier)
        return float(self._runtime.call("time two events", "cudaEventElapsedTime", start, self._native))


class RuntimeGraph(Owned):
    """A graph ready to run; see `calibrators.cuda.protocols.Graph`."""

    def __init__(self, runtime: Runtime, ready: Any) -> None:
        super().__init__("a CUDA graph", runtime.later("free a graph", "cudaGraphExecDestroy", ready))
        self._runtime = runtime
        self._native = ready

    def launch(self, stream: Stream) -> None:
        """Give all of it to `stream`."""
        self._check()
        self._runtime.call("launch a graph", "cudaGraphLaunch", self._native, stream.handle)


def native_event(event: Event) -> Any:
    """What the runtime knows of `event`.

    Raises:
        TypeError: It is another library's.
    """
    return same_library(event, RuntimeEvent, "an event")._native


def _import() -> tuple[Any, str]:
    """The module and its version."""
    try:
        try:
            import cuda.bindings
            from cuda.bindings import runtime

            return runtime, str(cuda.bindings.__version__)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("cuda"):
                raise
            import cuda
            from cuda import cudart

            return cudart, str(getattr(cuda, "__version__", "of an older release"))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cuda"):
            raise MissingDependencyError("cuda.bindings is not installed: pip install cuda-bindings") from error
        raise MissingDependencyError(f"cuda.bindings does not import ({one_line(error)}): install it again") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(f"cuda.bindings does not import ({one_line(error)}): install it again") from error


def _version(number: int) -> str:
    """What CUDA's number 12040 means: "12.4"."""
    return f"{number // 1000}.{number % 1000 // 10}"
