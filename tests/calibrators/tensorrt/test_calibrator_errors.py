"""A calibrator whose data, device or user stops it."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibrators.batches import Array, Batches
from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError, DataError, DeviceError
from tests.calibrators.builder import Builder, from_c
from tests.calibrators.calibrating import MODEL, WRITTEN, Entropy, existing, numbered, specs
from tests.calibrators.device import FakeCuda, fake_cuda


def failing(error: BaseException, after: int = 1) -> Batches:
    class Failing:
        def __iter__(self) -> Iterator[Array]:
            yield from numbered(*[2] * after)
            raise error

    return Failing()


class TestErrors:
    @pytest.mark.parametrize("after", [0, 1, 2])
    @pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt(), SystemExit(3), DataError("bad image")])
    def test_in_the_batches_come_out_as_they_were(
        self, error: BaseException, after: int, cuda: FakeCuda, path: Path
    ) -> None:
        before = existing(path, "TRT-8601-EntropyCalibration2")
        calibrator = Entropy(failing(error, after), cache=path, recalibrate=True, cuda=cuda)
        calibrator.prepare(specs(), MODEL)
        Builder().calibrate(calibrator)
        assert calibrator.error is error
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                calibrator.finish()
            assert raised.value is error
        assert path.read_bytes() == before
        assert calibrator.served == after

    def test_in_progress_come_out_as_they_were(self, cuda: FakeCuda, path: Path) -> None:
        error = KeyboardInterrupt()

        def progress(samples: int) -> None:
            raise error

        calibrator = Entropy(numbered(4), cache=path, progress=progress, cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        with pytest.raises(KeyboardInterrupt) as raised:
            calibrator.finish()
        assert raised.value is error and not path.exists()

    def test_of_the_device_come_out_and_leave_nothing_behind(self, path: Path) -> None:
        with fake_cuda(memory=40) as cuda:
            calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
            calibrator.prepare(specs())
            assert not Builder().calibrate(calibrator)
            with pytest.raises(DeviceError, match="out of device memory"):
                calibrator.finish(built=False)

    def test_the_first_one_counts(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(failing(OSError("first")), cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        calibrator.stop(ValueError("second"))
        with pytest.raises(OSError, match="first"):
            calibrator.finish()

    def test_after_one_nothing_is_served(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(failing(OSError("first")), cuda=cuda)
        calibrator.prepare(specs())
        assert calibrator.get_batch(["x"]) is not None
        assert calibrator.get_batch(["x"]) is None
        assert calibrator.get_batch(["x"]) is None
        calibrator.write_calibration_cache(memoryview(WRITTEN))
        assert calibrator.read_calibration_cache() is None
        with pytest.raises(OSError):
            calibrator.finish()

    def test_ctrl_c_before_a_callback_has_begun_is_kept(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(6), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        assert calibrator.get_batch(["x"]) is not None
        with pytest.raises(KeyboardInterrupt) as raised:  # which the bindings swallow
            from_c(calibrator.get_batch, ["x"])
        assert calibrator.error is raised.value
        assert calibrator.get_batch(["x"]) is None
        calibrator.write_calibration_cache(memoryview(WRITTEN))
        with pytest.raises(KeyboardInterrupt):
            calibrator.finish()
        assert not path.exists()

    def test_ctrl_c_ends_the_waiting_for_a_batch(self, cuda: FakeCuda) -> None:
        main = threading.get_ident()
        go = threading.Event()
        in_time: list[bool] = []

        class Slow:
            def __iter__(self) -> Iterator[Array]:
                signal.pthread_kill(main, signal.SIGINT)
                in_time.append(go.wait(60))
                yield from numbered(2)

        calibrator = Entropy(Slow(), cuda=cuda)
        calibrator.prepare(specs())
        assert calibrator.get_batch(["x"]) is None
        go.set()
        with pytest.raises(KeyboardInterrupt):
            calibrator.finish()
        assert in_time == [True]

    def test_from_another_thread_end_the_calibration(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(6), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        error = KeyboardInterrupt()
        builder = Builder(taken=lambda names, addresses: calibrator.stop(error))
        builder.calibrate(calibrator)
        assert builder.asked.count("get_batch") == 2
        with pytest.raises(KeyboardInterrupt) as raised:
            calibrator.finish()
        assert raised.value is error and not path.exists()

    def test_from_another_thread_while_a_batch_is_awaited(self, cuda: FakeCuda) -> None:
        error = KeyboardInterrupt()

        class Stopping:
            def __iter__(self) -> Iterator[Array]:
                calibrator.stop(error)
                yield from numbered(2)

        calibrator = Entropy(Stopping(), cuda=cuda)
        calibrator.prepare(specs())
        assert calibrator.get_batch(["x"]) is None
        assert calibrator.served == 0
        with pytest.raises(KeyboardInterrupt):
            calibrator.finish()

    def test_before_the_first_batch_begin_nothing(self, cuda: FakeCuda, path: Path) -> None:
        existing(path)
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        calibrator.prepare(specs(), MODEL)
        calibrator.stop(KeyboardInterrupt())
        assert calibrator.read_calibration_cache() is None
        assert calibrator.get_batch(["x"]) is None
        assert (cuda.peak, calibrator._feeding) == (0, None)
        with pytest.raises(KeyboardInterrupt):
            calibrator.finish()

    def test_after_the_calibration_leave_no_cache(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        calibrator.stop(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            calibrator.finish()
        assert not path.exists()

    def test_give_the_memory_back_at_once(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(failing(OSError("gone")), cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        assert calibrator._feeding is not None and calibrator._feeding._freed is not None
        calibrator._feeding._freed.result(timeout=60)
        assert not cuda.leaks
        with pytest.raises(OSError):
            calibrator.finish()

    def test_a_build_that_nobody_finished_leaves_nothing_to_the_next(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(6), cuda=cuda)
        for _ in range(2):
            calibrator.prepare(specs())
            assert not cuda.leaks
            assert calibrator.get_batch(["x"]) is not None
        assert calibrator.served == 1
        assert calibrator.finish(built=False) is None

    @pytest.mark.parametrize("error", [None, OSError("gone")])
    def test_or_none_leave_ctrl_c_as_it_was(self, error: OSError | None, cuda: FakeCuda) -> None:
        before = signal.getsignal(signal.SIGINT)
        calibrator = Entropy(numbered(4), cuda=cuda)
        calibrator.prepare(specs())
        assert signal.getsignal(signal.SIGINT) != before
        if error is not None:
            calibrator.stop(error)
        with pytest.raises(OSError if error else BuildError):
            calibrator.finish()
        assert signal.getsignal(signal.SIGINT) == before

    def test_the_next_build_begins_anew(self, cuda: FakeCuda, path: Path) -> None:
        failures = [OSError("once")]

        class Once:
            def __iter__(self) -> Iterator[Array]:
                if failures:
                    raise failures.pop()
                yield from numbered(4)

        calibrator = Entropy(Once(), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        with pytest.raises(OSError, match="once"):
            calibrator.finish()
        calibrator.prepare(specs())
        assert (calibrator.error, calibrator.served) == (None, 0)
        Builder().calibrate(calibrator)
        assert calibrator.finish() == CalibrationCache.parse(WRITTEN)
