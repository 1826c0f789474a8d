"""What the protocol promises, of each library that is installed, on a GPU; see `test_real_libraries`."""

import gc
import threading

import numpy as np
import pytest

from calibrators.cuda.bindings import CudaBindings
from calibrators.cuda.device import open_cuda
from calibrators.cuda.pycuda_device import PyCuda
from calibrators.errors import DataError, DeviceError, MissingDependencyError

pytestmark = pytest.mark.gpu

LARGE = 1 << 28


def usable():
    """The libraries that open a GPU here, by name, and why the others do not."""
    working, problems = {}, {}
    for name, library in (("pycuda", PyCuda), ("bindings", CudaBindings)):
        try:
            library()
        except (DeviceError, MissingDependencyError) as error:
            problems[name] = str(error)
        else:
            working[name] = library
    return working, problems


WORKING, PROBLEMS = usable()
if not WORKING:
    pytest.skip(f"needs a GPU: {'; '.join(PROBLEMS.values())}", allow_module_level=True)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_every_library(problem):
    pytest.skip(problem)


@pytest.fixture(scope="module", params=WORKING.values(), ids=WORKING)
def cuda(request):
    return request.param()


@pytest.fixture
def stream(cuda):
    with cuda.stream() as stream:
        yield stream


@pytest.fixture
def nothing_left(cuda):
    """The test gives back all the device memory that it takes."""
    gc.collect()
    before = cuda.device().memory_free
    yield
    gc.collect()
    assert cuda.device().memory_free > before - LARGE


def there_and_back(cuda, stream, values):
    size = values.nbytes
    with cuda.memory(size) as memory, cuda.pinned(size) as source, cuda.pinned(size) as target:
        source.array[:] = values.view(np.uint8)
        target.array[:] = 0
        cuda.copy_in(memory.address, source, size, stream)
        cuda.copy_out(target, memory.address, size, stream)
        stream.synchronize()
        return target.array.copy().view(values.dtype)


class TestDevice:
    def test_the_device(self, cuda):
        device = cuda.device()
        assert device.name
        major, minor = map(int, device.compute_capability.split("."))
        assert major >= 3 and minor >= 0
        assert 0 < device.memory_free <= device.memory_total
        assert float(device.driver) >= 11

    def test_opens_the_same_gpu(self, gpu, cuda):
        assert gpu.device().name == cuda.device().name
        assert open_cuda().name == gpu.name


class TestMemory:
    def test_there_and_back(self, cuda, stream):
        values = np.random.default_rng(0).normal(size=100_003).astype(np.float32)
        np.testing.assert_array_equal(there_and_back(cuda, stream, values), values)

    def test_a_part(self, cuda, stream):
        with cuda.memory(8) as memory, cuda.pinned(8) as source, cuda.pinned(8) as target:
            source.array[:] = range(8)
            target.array[:] = 99
            cuda.copy_in(memory.address + 2, source, 4, stream)
            cuda.copy_out(target, memory.address + 3, 3, stream)
            stream.synchronize()
            assert target.array.tolist() == [1, 2, 3, 99, 99, 99, 99, 99]

    def test_nothing_has_an_address_too(self, cuda, stream):
        with cuda.memory(0) as memory, cuda.pinned(0) as pinned:
            assert memory.address and memory.size == 0
            assert pinned.address and pinned.array.shape == (0,)
            cuda.copy_in(memory.address, pinned, 0, stream)
            cuda.copy_out(pinned, memory.address, 0, stream)
            stream.synchronize()

    def test_pinned_memory_is_an_array(self, cuda):
        with cuda.pinned(12) as pinned:
            assert pinned.array.dtype == np.uint8 and pinned.array.shape == (12,)
            assert pinned.array.ctypes.data == pinned.address
            pinned.array.view(np.float32)[:] = (1, 2, 3)
            assert pinned.array.view(np.float32).sum() == 6

    def test_freed_once(self, cuda, nothing_left):
        memory, pinned = cuda.memory(LARGE), cuda.pinned(10)
        for each in (memory, pinned):
            each.free()
            each.free()
            with pytest.raises(DeviceError, match=r"memory of .* was freed"):
                _ = each.address
        with pytest.raises(DeviceError, match="was freed"):
            _ = pinned.array

    def test_freed_on_errors(self, cuda, nothing_left):
        with pytest.raises(ZeroDivisionError), cuda.memory(LARGE) as memory, cuda.pinned(10):
            _ = 1 / 0
        with pytest.raises(DeviceError, match="was freed"):
            _ = memory.address

    def test_freed_when_forgotten(self, cuda, nothing_left):
        cuda.memory(LARGE)
        cuda.memory(LARGE)

    def test_freed_by_another_thread(self, cuda, nothing_left, recwarn):
        things = [cuda.memory(LARGE), cuda.pinned(10), cuda.stream(), cuda.event()]
        thread = threading.Thread(target=lambda: [things.pop().free() for _ in range(4)])
        thread.start()
        thread.join()
        assert not things and not list(recwarn)

    def test_an_array_keeps_its_memory(self, cuda):
        array = cuda.pinned(1 << 20).array[100:]
        gc.collect()
        others = [cuda.pinned(1 << 20) for _ in range(4)]
        for other in others:
            other.array[:] = 1
        array[:] = 2
        assert all((other.array == 1).all() for other in others)
        assert (array == 2).all()

    def test_copies_stay_within_pinned_memory(self, cuda, stream):
        with cuda.memory(100) as memory, cuda.pinned(10) as pinned:
            with pytest.raises(DataError, match="cannot copy 11 bytes from pinned memory of 10"):
                cuda.copy_in(memory.address, pinned, 11, stream)
            with pytest.raises(DataError, match="cannot copy 11 bytes to pinned memory of 10"):
                cuda.copy_out(pinned, memory.address, 11, stream)
            with pytest.raises(DataError, match="cannot copy -1 bytes"):
                cuda.copy_out(pinned, memory.address, -1, stream)

    def test_negative_sizes(self, cuda):
        for make in (cuda.memory, cuda.pinned):
            with pytest.raises(DataError, match="cannot allocate -1 bytes"):
                make(-1)

    def test_out_of_device_memory(self, cuda, stream):
        asked = 2 * cuda.device().memory_total
        with pytest.raises(DeviceError, match=r"out of GPU memory: .* GiB were asked for, and .*iB are free; use a sm"):
            cuda.memory(asked)
        assert there_and_back(cuda, stream, np.arange(5)).tolist() == [0, 1, 2, 3, 4]

    def test_out_of_pinned_memory(self, cuda):
        with pytest.raises(DeviceError, match=r"out of memory: .* page-locked"):
            cuda.pinned(1 << 46)


class TestStreams:
    def test_streams_are_not_the_default_one(self, cuda, stream):
        with cuda.stream() as other:
            assert stream.handle and other.handle and stream.handle != other.handle

    def test_one_waits_for_another(self, cuda, stream):
        size = 1 << 24
        with (
            cuda.stream() as second,
            cuda.event(timing=False) as copied,
            cuda.memory(size) as memory,
            cuda.pinned(size) as source,
            cuda.pinned(size) as target,
        ):
            source.array[:] = 7
            target.array[:] = 0
            cuda.copy_in(memory.address, source, size, stream)
            copied.record(stream)
            second.wait(copied)
            cuda.copy_out(target, memory.address, size, second)
            second.synchronize()
            assert (target.array == 7).all()

    def test_two_buffers_in_turn(self, cuda, stream):
        """As a calibrator streams: a buffer is filled again once its copy is done."""
        size, received = 1000, []
        with (
            cuda.memory(size) as memory,
            cuda.pinned(size) as one,
            cuda.pinned(size) as two,
            cuda.pinned(size) as out,
            cuda.event(timing=False) as first,
            cuda.event(timing=False) as second,
        ):
            for number in range(6):
                buffer, done = ((one, first), (two, second))[number % 2]
                if number > 1:
                    done.synchronize()
                buffer.array[:] = number
                cuda.copy_in(memory.address, buffer, size, stream)
                done.record(stream)
                cuda.copy_out(out, memory.address, size, stream)
                stream.synchronize()
                received.append(set(out.array.tolist()))
        assert received == [{number} for number in range(6)]

    def test_freed(self, cuda):
        stream, event = cuda.stream(), cuda.event()
        for each in (stream, event):
            each.free()
            each.free()
        with pytest.raises(DeviceError, match="a stream was freed"):
            stream.synchronize()
        with pytest.raises(DeviceError, match="a stream was freed"):
            _ = stream.handle
        with pytest.raises(DeviceError, match="an event was freed"):
            event.synchronize()
        with cuda.stream() as other, pytest.raises(DeviceError, match="an event was freed"):
            other.wait(event)

    def test_work_from_another_thread(self, cuda, stream):
        results = []

        def work():
            results.append(there_and_back(cuda, stream, np.arange(100)))
            with cuda.stream() as own:
                results.append(there_and_back(cuda, own, np.arange(100)))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert [result.sum() for result in results] == [4950, 4950]


class TestEvents:
    def test_time_on_the_device(self, cuda, stream):
        size = 1 << 24
        with (
            cuda.event() as start,
            cuda.event() as middle,
            cuda.event() as end,
            cuda.memory(size) as memory,
            cuda.pinned(size) as source,
        ):
            start.record(stream)
            cuda.copy_in(memory.address, source, size, stream)
            middle.record(stream)
            end.record(stream)
            end.synchronize()
            assert 0 < middle.milliseconds_since(start) < 1000
            assert end.milliseconds_since(start) >= middle.milliseconds_since(start)

    def test_an_event_without_timing(self, cuda, stream):
        with cuda.event(timing=False) as one, cuda.event(timing=False) as two:
            one.record(stream)
            two.record(stream)
            two.synchronize()
            with pytest.raises(DeviceError, match=r"cannot time two events: .*\(cu.*EventElapsedTime"):
                two.milliseconds_since(one)

    def test_what_another_library_made(self, cuda, stream):
        with pytest.raises(TypeError, match="of the same library"):
            stream.wait(object())


class TestGraphs:
    def test_capture_and_launch(self, cuda, stream):
        with cuda.memory(4) as memory, cuda.pinned(4) as source, cuda.pinned(4) as target:
            source.array[:], target.array[:] = 1, 0
            stream.begin_capture()
            cuda.copy_in(memory.address, source, 4, stream)
            cuda.copy_out(target, memory.address, 4, stream)
            with stream.end_capture() as graph:
                stream.synchronize()
                assert target.array.tolist() == [0, 0, 0, 0]  # written down, not done
                for number in (1, 2):
                    source.array[:] = number
                    graph.launch(stream)
                    stream.synchronize()
                    assert target.array.tolist() == [number] * 4
                with cuda.stream() as other:
                    source.array[:] = 3
                    graph.launch(other)
                    other.synchronize()
                assert target.array.tolist() == [3, 3, 3, 3]
            graph.free()
            with pytest.raises(DeviceError, match="a CUDA graph was freed"):
                graph.launch(stream)

    def test_other_threads_are_free_during_a_capture(self, cuda, stream):
        with cuda.memory(4) as memory, cuda.pinned(4) as source:
            stream.begin_capture()
            cuda.copy_in(memory.address, source, 4, stream)
            results = []

            def work():
                with cuda.stream() as own:
                    results.append(there_and_back(cuda, own, np.arange(3)))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            stream.end_capture().free()
        assert results[0].tolist() == [0, 1, 2]

    def test_what_cannot_be_captured(self, cuda, stream):
        stream.begin_capture()
        with pytest.raises(
            DeviceError, match=r"cannot finish the work of a stream: .*capturing.* without --cuda-graph"
        ):
            stream.synchronize()
        with pytest.raises(DeviceError, match=r"cannot capture the work of a stream: .*during capture"):
            stream.end_capture()
        assert there_and_back(cuda, stream, np.arange(3)).tolist() == [0, 1, 2]

    def test_no_capture_to_end(self, stream):
        with pytest.raises(DeviceError, match="cannot capture the work of a stream"):
            stream.end_capture()
