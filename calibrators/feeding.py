"""Batches to the device's memory, one ahead of the one that is worked on."""

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from calibrators.batches import Array
from calibrators.cuda import Cuda, DeviceMemory, PinnedMemory, Stream

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

    A batch stays where it is until the one after it is asked for. The thread does the copying from pinned memory, on a
    stream of its own, and waits for its end: an address that is given out holds the whole batch.

    Args:
        batches: By input name; used by the thread, and closed by it if it is a generator.
        sizes: Bytes of a batch by input name, which all batches have.
        cuda: The device.
    """

    def __init__(self, batches: Iterator[Mapping[str, Array]], sizes: Mapping[str, int], cuda: Cuda) -> None:
        self._batches = batches
        self._cuda = cuda
        self._resources = ExitStack()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trtcal-calibrator")
        self._free: Future[None] | None = None
        self._sets: list[dict[str, _Buffer]] = []
        self._loaded = 0
        self._begun = self._worker.submit(self._begin, dict(sizes))
        self._ahead = self._worker.submit(self._load)

    def next(self) -> dict[str, int] | None:
        """The device's addresses of the next batch, by input name; None where there is no more.

        Waits for the batch; Ctrl-C ends the waiting.

        Raises:
            DeviceError: The memory does not suffice, or copying fails.
            BaseException: Whatever the batches raise.
        """
        self._begun.result()
        addresses = self._ahead.result()
        if addresses is not None:
            self._ahead = self._worker.submit(self._load)
        return addresses

    def release(self) -> None:
        """Have the memory freed as soon as the thread is done with what it does; wait for nothing."""
        if self._free is None:
            self._ahead.cancel()
            self._free = self._worker.submit(self._end)
            self._worker.shutdown(wait=False)

    def close(self) -> None:
        """Free the memory, and end the thread. If the waiting is interrupted, that happens all the same.

        Raises:
            DeviceError: The device is in trouble.
        """
        self.release()
        if self._free is not None:
            self._free.result()

    # What follows is done by the thread.

    def _begin(self, sizes: Mapping[str, int]) -> None:
        made = self._resources.enter_context
        self._stream: Stream = made(self._cuda.stream())
        for _ in range(SETS):
            buffers = {
                name: _Buffer(made(self._cuda.pinned(size)), made(self._cuda.memory(size)), size)
                for name, size in sizes.items()
            }
            self._sets.append(buffers)

    def _load(self) -> dict[str, int] | None:
        if len(self._sets) < SETS:
            return None  # there was no memory, which `next` says first
        batch = next(self._batches, None)
        if batch is None:
            return None
        buffers = self._sets[self._loaded % SETS]
        self._loaded += 1
        try:
            for name, buffer in buffers.items():
                np.copyto(buffer.pinned.array, np.ascontiguousarray(batch[name]).reshape(-1).view(np.uint8))
                self._cuda.copy_in(buffer.memory.address, buffer.pinned, buffer.size, self._stream)
        finally:
            self._stream.synchronize()
        return {name: buffer.memory.address for name, buffer in buffers.items()}

    def _end(self) -> None:
        with self._resources:
            if isinstance(self._batches, Generator):
                self._batches.close()
