"""Memory of an engine's tensors: on the device, and page-locked on the host, where copies are fast."""

import math
from typing import Any

import numpy as np

from calibrators.batches import Array
from calibrators.cuda.protocols import Cuda, DeviceMemory, PinnedMemory, Stream

Shape = tuple[int, ...]


class Buffer:
    """A tensor's memory: on the device, page-locked on the host, and no larger than it ever had to be.

    Args:
        cuda: The GPU.
        name: The tensor's.
    """

    def __init__(self, cuda: Cuda, name: str) -> None:
        self.name = name
        self._cuda = cuda
        self._device: DeviceMemory | None = None
        self._pinned: PinnedMemory | None = None
        self._on_host = False
        self._size = 0

    @property
    def address(self) -> int:
        """Where TensorRT reads or writes the tensor."""
        held = self._pinned if self._on_host else self._device
        assert held is not None, f"nothing is reserved for {self.name}"
        return held.address

    def reserve(self, size: int, *, on_host: bool = False) -> None:
        """Have room for `size` bytes on both sides, or with `on_host` on the host only; what was there is lost."""
        self._size, self._on_host = size, on_host
        self.reserve_on_device(0 if on_host else size)
        self._reserve_on_host(size)

    def reserve_on_device(self, size: int) -> int:
        """Have room for `size` bytes on the device; gives the address."""
        if self._device is None or self._device.size < size:
            held, self._device = self._device, None
            if held is not None:
                held.free()
            self._device = self._cuda.memory(size)
        return self._device.address

    def copy_in(self, stream: Stream) -> None:
        """Give `stream` the copy to the device."""
        assert self._pinned is not None
        self._cuda.copy_in(self.address, self._pinned, self._size, stream)

    def copy_out(self, size: int, stream: Stream) -> None:
        """Give `stream` the copy of `size` bytes to the host, if they are not there already."""
        if self._on_host:
            return
        self._cuda.copy_out(self._reserve_on_host(size), self.address, size, stream)

    def view(self, dtype: np.dtype[np.generic], shape: Shape) -> Array:
        """The host's side as an array of this type and shape; it changes with the next run."""
        assert self._pinned is not None
        size = math.prod(shape) * dtype.itemsize
        return self._pinned.array[:size].view(dtype).reshape(shape)

    def free(self) -> None:
        """Give all of it back; the second time nothing happens."""
        for held in (self._device, self._pinned):
            if held is not None:
                held.free()
        self._device = self._pinned = None

    def _reserve_on_host(self, size: int) -> PinnedMemory:
        if self._pinned is None or self._pinned.array.size < size:
            held, self._pinned = self._pinned, None
            if held is not None:
                held.free()
            self._pinned = self._cuda.pinned(size)
        return self._pinned


def output_allocator(trt: Any, buffer: Buffer) -> Any:
    """What TensorRT asks for memory when it learns an output's size while it runs."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
        """Hands out the buffer's memory on the device, and keeps errors: TensorRT swallows what is raised in it."""

        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shape: Shape = ()
            self.error: BaseException | None = None

        def reallocate_output(self, tensor_name: str, memory: int | None, size: int, alignment: int) -> int:
            """An address with room for `size` bytes; CUDA's own are aligned more than TensorRT asks for."""
            try:
                return buffer.reserve_on_device(size)
            except BaseException as error:  # noqa: BLE001 - it is raised after the run
                self.error = error
                return 0

        def reallocate_output_async(
            self, tensor_name: str, memory: int | None, size: int, alignment: int, stream: int
        ) -> int:
            """The same; TensorRT 10 and later ask this."""
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            """What the data made of it."""
            self.shape = tuple(shape)

    return Allocator()
