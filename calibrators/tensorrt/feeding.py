"""Batches to the device's memory, one ahead of the one that is worked on."""

from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock

import numpy as np

from calibrators.batches import Array
from calibrators.cuda.protocols import Cuda, DeviceMemory, PinnedMemory

SETS = 2
"""Sets of buffers: one that the device reads, and one that is filled meanwhile."""


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Where one input's batches go."""

    pinned: PinnedMemory
    memory: DeviceMemory
    size: int


class Feeding:
    """Gives the addresses of one batch after the other, while a thread decodes and copies the next.

    A batch stays where it is until the one after it is asked for. The thread copies from pinned memory, on a stream of
    its own, and waits for the end of it: an address that is given out holds the whole batch.

    Args:
        batches: By input name; used and closed by the thread.
        sizes: Bytes of a batch by input name, which all batches have.
        cuda: The device. Memory is taken here, in the calling thread, and given back by the other.

    Raises:
        DeviceError: The memory does not suffice.
    """

    def __init__(
        self, batches: Generator[Mapping[str, Array], None, None], sizes: Mapping[str, int], cuda: Cuda
    ) -> None:
        self._batches = batches
        self._cuda = cuda
        self._loaded = 0
        # Ctrl-C while the executor starts its thread makes it start another (CPython 3.11).
        self._one_at_a_time = Lock()
        self._ahead: Future[dict[str, int] | None] | None = None
        self._freed: Future[None] | None = None
        with ExitStack() as made:
            self._stream = made.enter_context(cuda.stream())
            self._sets = [
                {
                    name: _Buffer(made.enter_context(cuda.pinned(size)), made.enter_context(cuda.memory(size)), size)
                    for name, size in sizes.items()
                }
                for _ in range(SETS)
            ]
            self._resources = made.pop_all()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trtcal-calibrator")

    def next(self) -> dict[str, int] | None:
        """The device's addresses of the next batch, by input name; None where there is no more.

        Waits for the batch; Ctrl-C ends the waiting.

        Raises:
            DeviceError: Copying fails.
            BaseException: Whatever the batches raise.
        """
        if self._ahead is None:
            self._ahead = self._worker.submit(self._load)
        addresses = self._ahead.result()
        if addresses is not None:
            self._ahead = self._worker.submit(self._load)
        return addresses

    def release(self) -> None:
        """Have the memory freed as soon as the thread is done with what it does; wait for nothing."""
        if self._freed is None:
            if self._ahead is not None:
                self._ahead.cancel()
            self._freed = self._worker.submit(self._free)
            self._worker.shutdown(wait=False)

    def close(self) -> None:
        """Free the memory, and end the thread. If the waiting is interrupted, that happens all the same.

        Raises:
            DeviceError: The device is in trouble.
        """
        self.release()
        if self._freed is not None:
            self._freed.result()

    # What follows is done by the thread.

    def _load(self) -> dict[str, int] | None:
        with self._one_at_a_time:
            batch = next(self._batches, None)  # none after it was closed
            return None if batch is None else self._copied(batch)

    def _copied(self, batch: Mapping[str, Array]) -> dict[str, int]:
        buffers = self._sets[self._loaded % SETS]
        self._loaded += 1
        try:
            for name, buffer in buffers.items():
                np.copyto(buffer.pinned.array, np.ascontiguousarray(batch[name]).reshape(-1).view(np.uint8))
                self._cuda.copy_in(buffer.memory.address, buffer.pinned, buffer.size, self._stream)
        finally:
            self._stream.synchronize()
        return {name: buffer.memory.address for name, buffer in buffers.items()}

    def _free(self) -> None:
        with self._one_at_a_time, self._resources:
            self._batches.close()
