import threading
from collections.abc import Generator, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import Array
from calibrators.errors import DeviceError
from calibrators.tensorrt.feeding import Feeding
from tests.calibrators.device import FakeCuda, Misuse, fake_cuda

Batches = Generator[dict[str, Array], None, None]

SIZES = {"x": 8, "y": 3}


def batches(count: int) -> Batches:
    for number in range(count):
        yield {"y": np.full(3, number, np.int8), "x": np.full((1, 2), number, np.float32)}


def content(cuda: FakeCuda, addresses: Mapping[str, int]) -> tuple[list[float], list[int]]:
    x = np.frombuffer(cuda.read(addresses["x"], 8), np.float32)
    return x.tolist(), list(cuda.read(addresses["y"], 3))


@given(st.integers(0, 7))
def test_each_batch_is_whole_when_its_address_is_given_out(count: int) -> None:
    with fake_cuda() as cuda:
        feeding = Feeding(batches(count), SIZES, cuda)
        for number in range(count):
            addresses = feeding.next()
            assert addresses is not None and set(addresses) == {"x", "y"}
            assert content(cuda, addresses) == ([number, number], [number] * 3)
        assert feeding.next() is None
        feeding.close()


def test_a_batch_stays_until_the_next_is_asked_for_while_that_is_copied() -> None:
    copied = threading.Semaphore(0)
    with fake_cuda() as cuda:
        cuda.on_copy = lambda number: copied.release()
        feeding = Feeding(batches(4), SIZES, cuda)
        first = feeding.next()
        assert first is not None
        for _ in range(4):  # two inputs of two batches: the second is copied while the first is in use
            assert copied.acquire(timeout=60)
        second = feeding.next()
        assert second is not None and set(second.values()).isdisjoint(first.values())
        assert content(cuda, second) == ([1, 1], [1] * 3)
        third = feeding.next()
        assert third == first
        feeding.close()


def test_only_one_batch_is_made_ahead() -> None:
    made = 0

    def counted() -> Batches:
        nonlocal made
        for batch in batches(9):
            made += 1
            yield batch

    with fake_cuda() as cuda:
        feeding = Feeding(counted(), SIZES, cuda)
        for number in range(3):
            feeding.next()
            assert made in (number + 1, number + 2)
        feeding.close()
        assert made <= 4


def test_memory_is_two_sets_of_each_kind() -> None:
    with fake_cuda() as cuda:
        feeding = Feeding(batches(5), SIZES, cuda)
        for _ in range(5):
            feeding.next()
        assert (cuda.peak, cuda.taken, cuda.pinned_taken) == (22, 22, 22)
        feeding.close()
        feeding.close()


def test_too_little_memory_leaves_none_taken() -> None:
    with fake_cuda(memory=20) as cuda:
        with pytest.raises(DeviceError, match="out of device memory"):
            Feeding(batches(1), SIZES, cuda)
        assert not cuda.leaks


def test_what_the_batches_raise_comes_out_as_it_was_where_the_batch_would() -> None:
    failure = OSError("the disk is gone")

    def failing() -> Batches:
        yield from batches(1)
        raise failure

    with fake_cuda() as cuda:
        feeding = Feeding(failing(), SIZES, cuda)
        assert feeding.next() is not None
        with pytest.raises(OSError) as raised:
            feeding.next()
        assert raised.value is failure
        feeding.close()


def test_a_copy_that_fails_comes_out_and_nothing_leaks() -> None:
    def fail(number: int) -> None:
        if number == 4:
            raise DeviceError("an illegal address was met")

    with fake_cuda() as cuda:
        cuda.on_copy = fail
        feeding = Feeding(batches(3), SIZES, cuda)
        assert feeding.next() is not None
        with pytest.raises(DeviceError, match="illegal address"):
            feeding.next()
        feeding.close()


def test_closing_ends_a_generator_and_the_thread() -> None:
    ended = threading.Event()

    def endless() -> Batches:
        try:
            while True:
                yield from batches(1)
        finally:
            ended.set()

    before = threading.active_count()
    with fake_cuda() as cuda:
        feeding = Feeding(endless(), SIZES, cuda)
        feeding.next()
        feeding.close()
        assert ended.is_set()
        assert not cuda.leaks
        feeding._worker.shutdown()
    assert threading.active_count() == before


def test_release_waits_for_nothing() -> None:
    go = threading.Event()

    def slow() -> Batches:
        yield from batches(1)
        go.wait(60)
        yield from batches(1)

    with fake_cuda() as cuda:
        feeding = Feeding(slow(), SIZES, cuda)
        feeding.next()
        feeding.release()
        assert cuda.leaks
        go.set()
        feeding.close()


class TestTheDeviceOfTheseTests:
    """It finds the mistakes that it is there for."""

    def test_a_read_before_the_copy_is_done(self) -> None:
        cuda = FakeCuda()
        stream, memory, pinned = cuda.stream(), cuda.memory(4), cuda.pinned(4)
        pinned.array[:] = 1
        cuda.copy_in(memory.address, pinned, 4, stream)
        with pytest.raises(Misuse, match="being written"):
            cuda.read(memory.address, 4)
        stream.synchronize()
        assert cuda.read(memory.address, 4) == b"\1\1\1\1"

    def test_pinned_memory_that_changes_under_a_copy(self) -> None:
        cuda = FakeCuda()
        stream, memory, pinned = cuda.stream(), cuda.memory(4), cuda.pinned(4)
        pinned.array[:] = 1
        cuda.copy_in(memory.address, pinned, 4, stream)
        pinned.array[:] = 2
        stream.synchronize()
        assert cuda.read(memory.address, 4) == b"\2\2\2\2"

    def test_use_after_free(self) -> None:
        cuda = FakeCuda()
        memory, pinned = cuda.memory(4), cuda.pinned(4)
        address = memory.address
        memory.free()
        pinned.free()
        with pytest.raises(Misuse, match="not there"):
            cuda.read(address, 4)
        with pytest.raises(Misuse, match="after it was freed"):
            _ = pinned.array

    def test_a_free_under_a_copy_and_a_leak(self) -> None:
        cuda = FakeCuda()
        stream, memory, pinned = cuda.stream(), cuda.memory(4), cuda.pinned(4)
        cuda.copy_in(memory.address, pinned, 4, stream)
        with pytest.raises(Misuse, match="being copied"):
            pinned.free()
        assert cuda.leaks
