"""The GPU through PyCUDA, in the CUDA context that TensorRT uses (`calibrators.cuda.pycuda_context`).

PyCUDA (2026.1) has no CUDA graphs: `calibrators.cuda.pycuda_graphs` asks the driver for them.
"""

import functools
from typing import Any

import numpy as np

from calibrators.cuda.protocols import Device, DeviceMemory, Event, Graph, PinnedMemory, Stream
from calibrators.cuda.pycuda_context import Context, import_pycuda
from calibrators.cuda.resources import Memory, Owned, Pinned, check_copy, checked_size, out_of_memory, same_library


class PyCuda:
    """PyCUDA; see `calibrators.cuda.protocols.Cuda`.

    Raises:
        MissingDependencyError: It is not installed, or does not import.
        DeviceError: There is no GPU, no driver, or one that does not fit PyCUDA.
    """

    def __init__(self) -> None:
        driver, version = import_pycuda()
        self.name = f"PyCUDA {version}"
        self._context = Context(driver)

    def device(self) -> Device:
        """What the GPU is, and how much of its memory is free now."""
        driver = self._context.driver
        with self._context.current("ask the GPU what it is"):
            device = driver.Context.get_device()
            major, minor = device.compute_capability()
            free, total = driver.mem_get_info()
            version = driver.get_driver_version()
            return Device(
                name=device.name(),
                compute_capability=f"{major}.{minor}",
                memory_total=int(total),
                memory_free=int(free),
                driver=f"{version // 1000}.{version % 1000 // 10}",
            )

    def memory(self, size: int) -> DeviceMemory:
        """Memory on the device."""
        room = checked_size(size, "device")
        driver = self._context.driver
        with self._context.current("allocate device memory"):
            try:
                native = driver.mem_alloc(room)
            except driver.MemoryError as error:
                raise out_of_memory(size, "device", driver.mem_get_info()[0]) from error
        return Memory(int(native), size, functools.partial(_release, self._context, "free device memory", native.free))

    def pinned(self, size: int) -> PinnedMemory:
        """Page-locked memory of the host."""
        room = checked_size(size, "pinned")
        driver = self._context.driver
        with self._context.current("allocate pinned memory"):
            try:
                memory = driver.pagelocked_empty(room, np.uint8)
            except driver.MemoryError as error:
                raise out_of_memory(size, "pinned", None) from error
        release = functools.partial(_release, self._context, "free pinned memory", memory.base.free)
        return Pinned(memory, size, release)

    def stream(self) -> Stream:
        """A stream of its own."""
        return PyCudaStream(self._context)

    def event(self, *, timing: bool = True) -> Event:
        """An event."""
        return PyCudaEvent(self._context, timing)

    def copy_in(self, target: int, source: PinnedMemory, size: int, stream: Stream) -> None:
        """Copy to the device."""
        check_copy(size, len(source.array), "from")
        with self._context.current("copy to the GPU"):
            self._context.driver.memcpy_htod_async(target, source.array[:size], native_stream(stream))

    def copy_out(self, target: PinnedMemory, source: int, size: int, stream: Stream) -> None:
        """Copy from the device."""
        check_copy(size, len(target.array), "to")
        with self._context.current("copy from the GPU"):
            self._context.driver.memcpy_dtoh_async(target.array[:size], source, native_stream(stream))


class PyCudaStream(Owned):
    """A stream of PyCUDA's; see `calibrators.cuda.protocols.Stream`."""

    def __init__(self, context: Context) -> None:
        with context.current("make a stream"):
            self._native = [context.driver.Stream(flags=_STREAM_NON_BLOCKING)]
        super().__init__("a stream", functools.partial(_release, context, "free a stream", self._native.clear))
        self._context = context

    @property
    def handle(self) -> int:
        """For TensorRT."""
        return int(native_stream(self).handle)

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        with self._context.current("finish the work of a stream"):
            native_stream(self).synchronize()

    def wait(self, event: Event) -> None:
        """Hold what comes until `event` has happened."""
        with self._context.current("let a stream wait for an event"):
            native_stream(self).wait_for_event(native_event(event))

    def begin_capture(self) -> None:
        """Write down the work instead of doing it."""
        with self._context.current("begin to capture a stream"):
            self._context.graphs.begin_capture(self.handle)

    def end_capture(self) -> Graph:
        """End the capture and make what was captured ready to run."""
        with self._context.current("capture the work of a stream"):
            return DriverGraph(self._context, self._context.graphs.end_capture(self.handle))


class PyCudaEvent(Owned):
    """An event of PyCUDA's; see `calibrators.cuda.protocols.Event`."""

    def __init__(self, context: Context, timing: bool) -> None:
        flags = context.driver.event_flags
        with context.current("make an event"):
            self._native = [context.driver.Event(flags.DEFAULT if timing else flags.DISABLE_TIMING)]
        super().__init__("an event", functools.partial(_release, context, "free an event", self._native.clear))
        self._context = context

    def record(self, stream: Stream) -> None:
        """Happen when the work so far is done."""
        with self._context.current("record an event"):
            native_event(self).record(native_stream(stream))

    def synchronize(self) -> None:
        """Wait until it has happened."""
        with self._context.current("wait for an event"):
            native_event(self).synchronize()

    def milliseconds_since(self, earlier: Event) -> float:
        """The time on the device since another event."""
        with self._context.current("time two events"):
            return float(native_event(self).time_since(native_event(earlier)))


class DriverGraph(Owned):
    """A graph ready to run; see `calibrators.cuda.protocols.Graph`."""

    def __init__(self, context: Context, ready: int) -> None:
        free = functools.partial(context.graphs.free, ready)
        super().__init__("a CUDA graph", functools.partial(_release, context, "free a graph", free))
        self._context = context
        self._native = ready

    def launch(self, stream: Stream) -> None:
        """Give all of it to `stream`."""
        self._check()
        with self._context.current("launch a graph"):
            self._context.graphs.launch(self._native, stream.handle)


def native_stream(stream: Stream) -> Any:
    """PyCUDA's object.

    Raises:
        TypeError: The stream is another library's.
    """
    return same_library(stream, PyCudaStream, "a stream")._native[0]


def native_event(event: Event) -> Any:
    """PyCUDA's object.

    Raises:
        TypeError: The event is another library's.
    """
    return same_library(event, PyCudaEvent, "an event")._native[0]


_STREAM_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING of cuda.h, which PyCUDA does not name."""


def _release(context: Context, action: str, free: Any) -> None:
    with context.current(action):
        free()
