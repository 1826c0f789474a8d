"""A GPU whose memory is the host's, behind the protocol of `calibrators.cuda.protocols`.

Work given to a stream is done when the stream is synchronized, not before: what reads a result too early reads what was
there. What is not freed, or is freed twice over by another's hands, shows in `HostCuda.alive`.
"""

from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from calibrators.cuda.protocols import Device
from calibrators.errors import DeviceError


class Held:
    """Something that has to be freed."""

    def __init__(self, cuda: "HostCuda") -> None:
        self.cuda = cuda
        cuda.alive.append(self)

    def free(self) -> None:
        if self in self.cuda.alive:
            self.cuda.alive.remove(self)

    def __enter__(self):
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.free()


class HostMemory(Held):
    """Memory of either side, filled with 0xCC: nothing that anybody asked for."""

    def __init__(self, cuda: "HostCuda", size: int) -> None:
        super().__init__(cuda)
        self.size = size
        self._whole = np.full(size + 1, 0xCC, np.uint8)
        self.address = int(self._whole.ctypes.data)

    @property
    def array(self) -> NDArray[np.uint8]:
        assert self in self.cuda.alive, "memory is used after it was freed"
        return self._whole[: self.size]


class HostStream(Held):
    def __init__(self, cuda: "HostCuda", handle: int) -> None:
        super().__init__(cuda)
        self.handle = handle
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.spoilt = False

    def free(self) -> None:
        assert not self.queue, "a stream is freed with work left, whose memory may be freed as well"
        super().free()

    def give(self, work: Callable[[], None]) -> None:
        """Work for the device: done at the next `synchronize`, or written down while there is a capture."""
        (self.queue if self.captured is None else self.captured).append(work)

    def synchronize(self) -> None:
        if self.captured is not None:
            self.spoilt = True
            raise DeviceError("a stream cannot be synchronized while it is captured")
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def begin_capture(self) -> None:
        assert not self.queue, "a capture begins while the stream has work"
        self.captured, self.spoilt = [], False

    def end_capture(self) -> "HostGraph":
        assert self.captured is not None, "there is no capture to end"
        captured, self.captured = self.captured, None
        if self.spoilt or self.cuda.refuses_capture:
            raise DeviceError("the capture of the stream failed: operation not permitted (CUDA error 900)")
        return HostGraph(self.cuda, captured)


class HostGraph(Held):
    def __init__(self, cuda: "HostCuda", work: list[Callable[[], None]]) -> None:
        super().__init__(cuda)
        self.work = work

    def launch(self, stream: HostStream) -> None:
        assert self in self.cuda.alive, "a graph is launched after it was freed"
        self.cuda.launches += 1
        for each in self.work:
            stream.give(each)


class HostEvent(Held):
    def __init__(self, cuda: "HostCuda") -> None:
        super().__init__(cuda)
        self.when: float | None = None
        self.stream: HostStream | None = None

    def record(self, stream: HostStream) -> None:
        def happen() -> None:
            self.when = self.cuda.clock

        self.stream, self.when = stream, None
        stream.give(happen)

    def synchronize(self) -> None:
        assert self.stream is not None
        self.stream.synchronize()

    def milliseconds_since(self, earlier: "HostEvent") -> float:
        assert self.when is not None, "an event is read before it has happened"
        assert earlier.when is not None, "an event is read before it has happened"
        return self.when - earlier.when


class HostCuda:
    """See `calibrators.cuda.protocols.Cuda`.

    Attributes:
        alive: What is not freed yet.
        limit: Bytes that the device has.
        clock: Milliseconds on the device; a copy takes `copy_time` of them, and TensorRT's doubles add theirs.
        launches: How often a graph was launched.
        refuses_capture: Captures fail when they end.
    """

    name = "the host's memory"

    def __init__(self, *, limit: int = 2**30) -> None:
        self.alive: list[Held] = []
        self.limit = limit
        self.clock = 0.0
        self.copy_time = 0.0
        self.launches = 0
        self.refuses_capture = False
        self.streams: dict[int, HostStream] = {}

    def device(self) -> Device:
        used = sum(each.size for each in self.alive if isinstance(each, HostMemory))
        return Device("NVIDIA Test GPU", "8.6", self.limit, self.limit - used, "13.0")

    def memory(self, size: int) -> HostMemory:
        free = self.device().memory_free
        if size > free:
            raise DeviceError(f"the GPU has no room for {size} bytes: {free} are free; give a smaller batch")
        return HostMemory(self, size)

    def pinned(self, size: int) -> HostMemory:
        return HostMemory(self, size)

    def stream(self) -> HostStream:
        stream = HostStream(self, 1000 + len(self.streams))
        self.streams[stream.handle] = stream
        return stream

    def event(self, *, timing: bool = True) -> HostEvent:
        return HostEvent(self)

    def copy_in(self, target: int, source: HostMemory, size: int, stream: HostStream) -> None:
        assert size <= source.size
        stream.give(lambda: self._copy(self.at(target, size), source.array[:size]))

    def copy_out(self, target: HostMemory, source: int, size: int, stream: HostStream) -> None:
        assert size <= target.size
        stream.give(lambda: self._copy(target.array[:size], self.at(source, size)))

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """The `size` bytes at `address`, which must be inside memory that is not freed."""
        for held in self.alive:
            if isinstance(held, HostMemory) and held.address <= address <= address + size <= held.address + held.size:
                return held.array[address - held.address :][:size]
        raise AssertionError(f"{size} bytes at {address:#x} are nobody's")

    def _copy(self, target: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
        target[:] = source
        self.clock += self.copy_time
