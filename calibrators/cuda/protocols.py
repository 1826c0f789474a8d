"""What calibrators and sessions ask of CUDA, whoever provides it: memory, streams, events and graphs.

Whatever is made here frees itself at the end of its `with` block, also when an error passes, or when `free()` is
called; what is forgotten is freed when Python collects it. A call that CUDA refuses raises `DeviceError`.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Self = TypeVar("Self", bound="Resource")


@dataclass(frozen=True, slots=True)
class Device:
    """The GPU in use.

    Attributes:
        name: As NVIDIA calls it.
        compute_capability: Such as "8.6".
        memory_total: Bytes.
        memory_free: Bytes, when it was asked.
        driver: The newest CUDA that the driver supports, such as "12.4".
    """

    name: str
    compute_capability: str
    memory_total: int
    memory_free: int
    driver: str


class Resource(Protocol):
    """Something that takes up the device."""

    def free(self) -> None:
        """Give it back; the second time nothing happens. It must not be in use: synchronize its stream first."""
        ...

    def __enter__(self: Self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class DeviceMemory(Resource, Protocol):
    """Memory on the device."""

    @property
    def address(self) -> int:
        """On the device, never 0, not even where the size is."""
        ...

    @property
    def size(self) -> int:
        """Bytes, as asked for."""
        ...


class PinnedMemory(Resource, Protocol):
    """Page-locked memory of the host: what the device copies from and to while the CPU does something else."""

    @property
    def address(self) -> int:
        """On the host, never 0."""
        ...

    @property
    def array(self) -> NDArray[np.uint8]:
        """The memory itself, shape (size,): a view, which must not be used after `free`."""
        ...


class Event(Resource, Protocol):
    """A moment in the work of a stream."""

    def record(self, stream: "Stream") -> None:
        """Happen when the work that `stream` has been given so far is done."""
        ...

    def synchronize(self) -> None:
        """Wait until it has happened."""
        ...

    def milliseconds_since(self, earlier: "Event") -> float:
        """The time on the device between two events that have happened, both made with `timing`."""
        ...


class Graph(Resource, Protocol):
    """Work captured from a stream, made ready to run again at the price of one call."""

    def launch(self, stream: "Stream") -> None:
        """Give all of it to `stream`."""
        ...


class Stream(Resource, Protocol):
    """Work that the device does in order. It does not wait for the default stream, nor the other way round."""

    @property
    def handle(self) -> int:
        """For TensorRT's `execute_async_v3`."""
        ...

    def synchronize(self) -> None:
        """Wait until all its work is done; errors of that work come out here."""
        ...

    def wait(self, event: Event) -> None:
        """Hold what is given to this stream from now on until `event` has happened."""
        ...

    def begin_capture(self) -> None:
        """Write down what this thread gives to the stream from now on, instead of doing it.

        The mode is trtexec's, thread-local: what would break the capture is refused in this thread only.
        """
        ...

    def end_capture(self) -> Graph:
        """End the capture and make what was captured ready to run."""
        ...


class Cuda(Protocol):
    """A GPU.

    Attributes:
        name: The library behind it, such as "PyCUDA 2026.1".
    """

    name: str

    def device(self) -> Device:
        """What the GPU is, and how much of its memory is free now."""
        ...

    def memory(self, size: int) -> DeviceMemory:
        """Memory on the device, its content undefined.

        Args:
            size: Bytes; 0 gives an address too, as TensorRT wants one for every tensor.

        Raises:
            DeviceError: It does not fit; the message says how much was asked and how much is free.
        """
        ...

    def pinned(self, size: int) -> PinnedMemory:
        """Page-locked memory of the host, its content undefined.

        Args:
            size: Bytes, from 0.

        Raises:
            DeviceError: The system does not give that much.
        """
        ...

    def stream(self) -> Stream:
        """A stream of its own."""
        ...

    def event(self, *, timing: bool = True) -> Event:
        """An event; without `timing` it only orders work, which costs less."""
        ...

    def copy_in(self, target: int, source: PinnedMemory, size: int, stream: Stream) -> None:
        """Copy the first `size` bytes of `source` to the device's address `target`, in the order of `stream`.

        Returns at once: `source` must stay as it is until the copy is done.

        Raises:
            DataError: `source` is smaller than `size`.
        """
        ...

    def copy_out(self, target: PinnedMemory, source: int, size: int, stream: Stream) -> None:
        """Copy `size` bytes from the device's address `source` to the start of `target`, in the order of `stream`.

        Returns at once: `target` holds them when the stream is synchronized.

        Raises:
            DataError: `target` is smaller than `size`.
        """
        ...
