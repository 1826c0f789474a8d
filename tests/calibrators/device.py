"""A GPU for tests: `calibrators.cuda` over ordinary memory, and stricter than the real thing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrators.cuda.protocols import Device, Event, Graph, PinnedMemory, Stream
from calibrators.errors import DeviceError

JUNK = 0xA5
"""What memory holds before it is written, and after it is freed."""


class Misuse(AssertionError):
    """Something that a real GPU would answer with wrong numbers or a crash."""


class FakeCuda:
    """Memory that is freed is never given out again. A copy takes place when its stream is synchronized, not before.

    Args:
        memory: Bytes of device memory.

    Attributes:
        taken: Bytes of device memory in use now; `peak`, the most there were.
        pinned_taken: Bytes of pinned memory in use now.
        copies: How many were asked for.
        on_copy: Is called before each copy with its number, from 1.
        misuse: What was done wrong, for the end of the test; it is raised on the spot as well.
    """

    name = "a fake"

    def __init__(self, memory: int = 1 << 30) -> None:
        self.total = memory
        self.taken = self.peak = self.pinned_taken = self.streams = self.copies = 0
        self.on_copy: Callable[[int], None] = lambda number: None
        self.misuse: list[str] = []
        self._device: dict[int, NDArray[np.uint8]] = {}
        self._kept: list[NDArray[np.uint8]] = []
        self._pending: dict[Any, list[tuple[int, PinnedMemory, int]]] = {}
        self._lock = threading.RLock()

    def device(self) -> Device:
        return Device("Fake", "8.6", self.total, self.total - self.taken, "12.4")

    def memory(self, size: int) -> "FakeMemory":
        with self._lock:
            if self.taken + size > self.total:
                raise DeviceError(f"out of device memory: {size} bytes asked, {self.total - self.taken} free")
            self.taken += size
            self.peak = max(self.peak, self.taken)
            array = self._array(size)
            self._device[array.ctypes.data] = array
            return FakeMemory(self, array)

    def pinned(self, size: int) -> "FakePinned":
        with self._lock:
            self.pinned_taken += size
            return FakePinned(self, self._array(size))

    def stream(self) -> "FakeStream":
        with self._lock:
            self.streams += 1
            stream = FakeStream(self)
            self._pending[stream] = []
            return stream

    def event(self, *, timing: bool = True) -> Event:
        raise NotImplementedError

    def copy_in(self, target: int, source: PinnedMemory, size: int, stream: Stream) -> None:
        self.copies += 1
        self.on_copy(self.copies)
        with self._lock:
            if stream not in self._pending:
                self.fail("a copy on a stream that was freed")
            if target not in self._device:
                self.fail("a copy to memory that is not there")
            if size > len(self._device[target]) or size > len(source.array):
                self.fail("a copy beyond the end")
            self._pending[stream].append((target, source, size))

    def copy_out(self, target: PinnedMemory, source: int, size: int, stream: Stream) -> None:
        raise NotImplementedError

    def read(self, address: int, size: int) -> bytes:
        """What a kernel would read now, or Misuse."""
        with self._lock:
            if address not in self._device or size > len(self._device[address]):
                self.fail("a read of memory that is not there")
            if any(target == address for copies in self._pending.values() for target, _, _ in copies):
                self.fail("a read of memory that is being written")
            return bytes(self._device[address][:size])

    @property
    def leaks(self) -> bool:
        return bool(self.taken or self.pinned_taken or self.streams)

    def fail(self, what: str) -> None:
        self.misuse.append(what)
        raise Misuse(what)

    def _array(self, size: int) -> NDArray[np.uint8]:
        array = np.full(size, JUNK, np.uint8)
        self._kept.append(array)
        return array

    def _finish(self, stream: "FakeStream") -> None:
        with self._lock:
            copies, self._pending[stream] = self._pending[stream], []
            for target, source, size in copies:
                self._device[target][:size] = source.array[:size]

    def _freeing(self, address: int, size: int) -> None:
        for copies in self._pending.values():
            if any(address in (target, source.address) for target, source, _ in copies):
                self.fail("memory freed that is being copied")


class _Freed:
    """`free` once, at the end of a `with` block at the latest."""

    _gone = False

    def free(self) -> None:
        if not self._gone:
            self._gone = True
            self._free()

    def _free(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.free()


class FakeMemory(_Freed):
    def __init__(self, cuda: FakeCuda, array: NDArray[np.uint8]) -> None:
        self._cuda, self._array = cuda, array
        self.address, self.size = array.ctypes.data, len(array)

    def _free(self) -> None:
        with self._cuda._lock:
            self._cuda._freeing(self.address, self.size)
            self._cuda.taken -= self.size
            del self._cuda._device[self.address]
            self._array[:] = JUNK


class FakePinned(_Freed):
    def __init__(self, cuda: FakeCuda, array: NDArray[np.uint8]) -> None:
        self._cuda, self._array = cuda, array
        self.address = array.ctypes.data

    @property
    def array(self) -> NDArray[np.uint8]:
        if self._gone:
            self._cuda.fail("pinned memory used after it was freed")
        return self._array

    def _free(self) -> None:
        with self._cuda._lock:
            self._cuda._freeing(self.address, len(self._array))
            self._cuda.pinned_taken -= len(self._array)
            self._array[:] = JUNK


class FakeStream(_Freed):
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    @property
    def handle(self) -> int:
        return id(self)

    def synchronize(self) -> None:
        if self._gone:
            self._cuda.fail("a stream used after it was freed")
        self._cuda._finish(self)

    def wait(self, event: Event) -> None:
        raise NotImplementedError

    def begin_capture(self) -> None:
        raise NotImplementedError

    def end_capture(self) -> Graph:
        raise NotImplementedError

    def _free(self) -> None:
        with self._cuda._lock:
            if self._cuda._pending.pop(self):
                self._cuda.fail("a stream freed with work on it")
            self._cuda.streams -= 1


@contextmanager
def fake_cuda(memory: int = 1 << 30) -> Iterator[FakeCuda]:
    """A GPU that must have been used well, and be empty, at the end."""
    cuda = FakeCuda(memory)
    yield cuda
    assert cuda.misuse == []
    assert not cuda.leaks
