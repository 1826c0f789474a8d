import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import Array, Batches, TensorSpec
from calibrators.cache import CalibrationCache
from calibrators.calibrator import Calibrator
from calibrators.errors import (
    BuildError,
    CacheError,
    CacheMismatchError,
    DataError,
    DeviceError,
    MissingDependencyError,
    OutputError,
)
from calibrators.sidecar import Sidecar
from tests.calibrators.builder import Builder, from_c
from tests.calibrators.device import FakeCuda, fake_cuda

MODEL = "a" * 64
FLOAT = np.dtype(np.float32)
WRITTEN = b"TRT-101401-EntropyCalibration2\nx: 3c010a14\ny: 3d000000\n"


class Entropy(Calibrator):
    """As `calibrators.int8` makes it, without TensorRT's base class; tests/contract has those."""

    algorithm = "EntropyCalibration2"
    calibrates = True
    _tensorrt = "10.14.1.48"


def specs(size: int = 2) -> list[TensorSpec]:
    return [TensorSpec("x", (size, 3), FLOAT)]


def numbered(*sizes: int) -> list[Array]:
    samples = np.arange(sum(sizes) * 3, dtype=np.float32).reshape(-1, 3)
    return np.split(samples, np.cumsum(sizes)[:-1])


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with fake_cuda() as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.cache"


def existing(path: Path, header: str = "TRT-101401-EntropyCalibration2", model: str = MODEL) -> bytes:
    """A cache of the model, as TensorRT and we leave it."""
    cache = CalibrationCache.parse(f"{header}\nx: 3a000000\n")
    versions = {"tensorrt": "10.14.1"}
    cache.sidecar = Sidecar(model, "entropy", "all", ("b" * 64,), images=5, versions=versions)
    cache.save(path)
    return path.read_bytes()


class Reader:
    """Notes what the GPU holds at the addresses of each batch, in the order of the names."""

    def __init__(self, cuda: FakeCuda, sizes: dict[str, int]) -> None:
        self.cuda, self.sizes = cuda, sizes
        self.seen: list[list[bytes]] = []

    def __call__(self, names: list[str], addresses: list[int]) -> None:
        self.seen.append(
            [self.cuda.read(address, self.sizes[name]) for name, address in zip(names, addresses, strict=True)]
        )


class TestCalibrating:
    @given(st.lists(st.integers(1, 7), min_size=1, max_size=9), st.integers(1, 6))
    def test_every_sample_reaches_the_gpu_once_and_in_order(self, sizes: list[int], size: int) -> None:
        data = numbered(*sizes)
        total = sum(sizes) - sum(sizes) % size
        data = [part for part in np.split(np.concatenate(data)[:total], np.cumsum(sizes)[:-1]) if len(part)]
        with fake_cuda() as cuda:
            calibrator = Entropy((batch for batch in data) if size % 2 else data, cuda=cuda)
            read = Reader(cuda, {"x": size * 12})
            if not total:
                if size % 2 == 0:
                    with pytest.raises(DataError, match="no sample"):
                        calibrator.prepare(specs(size))
                return
            calibrator.prepare(specs(size))
            Builder(taken=read).calibrate(calibrator)
            calibrator.finish()
            assert b"".join(seen[0] for seen in read.seen) == np.concatenate(data).tobytes()
            assert calibrator.served == calibrator.planned == total // size

    def test_the_cache_is_what_tensorrt_wrote_with_a_sidecar_as_any_other(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(3, 3), cache=path, cuda=cuda)
        calibrator.prepare(specs(), MODEL)
        builder = Builder()
        assert builder.calibrate(calibrator)
        assert not path.exists()
        cache = calibrator.finish()
        assert path.read_bytes() == WRITTEN
        loaded = CalibrationCache.load(path)
        assert cache == loaded and loaded.sidecar is not None and loaded.sidecar.cache_sha256 == loaded.sha256
        assert (loaded.sidecar.model_sha256, loaded.sidecar.method, loaded.sidecar.images) == (MODEL, "entropy", 6)
        assert loaded.sidecar.versions["tensorrt"] == "10.14.1.48"
        assert builder.asked == [
            "get_batch_size",
            "read_calibration_cache",
            *["get_batch"] * 4,
            "write_calibration_cache",
        ]

    def test_it_is_used_by_the_next_build(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        for _ in range(2):
            calibrator.prepare(specs(), MODEL)
            Builder().calibrate(calibrator)
            assert calibrator.finish() == CalibrationCache.parse(WRITTEN)
        assert (calibrator.served, cuda.copies) == (0, 2)

    def test_without_a_path_the_cache_is_handed_back_only(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(4), cuda=cuda)
        for _ in range(2):
            calibrator.prepare(specs())
            Builder().calibrate(calibrator)
            cache = calibrator.finish()
            assert cache is not None and cache.dumps() == WRITTEN and calibrator.served == 2

    def test_addresses_are_in_the_order_of_the_names(self, cuda: FakeCuda) -> None:
        inputs = [TensorSpec(name, (2, 3), FLOAT) for name in ("x", "y")] + [TensorSpec("n", (2,), np.dtype(np.int32))]
        (x,) = numbered(4)
        calibrator = Entropy([{"n": np.arange(4, dtype=np.int32), "y": np.negative(x), "x": x}], cuda=cuda)
        for names in (["y", "n", "x"], ["n", "x", "y"], ["y"]):
            calibrator.prepare(inputs)
            read = Reader(cuda, {"x": 24, "y": 24, "n": 8})
            Builder(names=names, taken=read).calibrate(calibrator)
            calibrator.finish()
            expected = {"x": x, "y": np.negative(x), "n": np.arange(4, dtype=np.int32)}
            for start, seen in zip((0, 2), read.seen, strict=True):
                assert seen == [expected[name][start : start + 2].tobytes() for name in names]

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    @pytest.mark.parametrize("given_as", [np.float16, np.float32, np.float64])
    def test_floats_are_read_as_float32_whatever_the_input_is(
        self, dtype: type, given_as: type, cuda: FakeCuda
    ) -> None:
        (x,) = numbered(2)
        calibrator = Entropy([np.asfortranarray(x.astype(given_as))], cuda=cuda)
        calibrator.prepare([TensorSpec("x", (2, 3), np.dtype(dtype))])
        read = Reader(cuda, {"x": 24})
        Builder(taken=read).calibrate(calibrator)
        calibrator.finish()
        assert read.seen == [[x.tobytes()]]

    def test_numbers_of_another_kind_are_refused(self, cuda: FakeCuda) -> None:
        calibrator = Entropy([np.zeros((2, 3), np.uint8)], cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        with pytest.raises(DataError, match="input x takes float32, not uint8"):
            calibrator.finish()

    def test_progress_hears_of_the_samples_of_each_batch(self, cuda: FakeCuda) -> None:
        done: list[int] = []
        calibrator = Entropy(numbered(5, 1), progress=done.append, cuda=cuda)
        calibrator.prepare(specs())
        Builder(taken=lambda names, addresses: done.append(0)).calibrate(calibrator)
        calibrator.finish()
        assert done == [2, 0, 2, 0, 2, 0]

    def test_after_the_last_batch_there_is_none(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(2), cuda=cuda)
        calibrator.prepare(specs())
        assert calibrator.get_batch(["x"]) is not None
        assert [calibrator.get_batch(["x"]) for _ in range(3)] == [None] * 3
        calibrator.write_calibration_cache(memoryview(WRITTEN))
        assert calibrator.finish() is not None

    def test_memory_is_given_back_before_tensorrt_looks_for_kernels(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(4), cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        assert calibrator._feeding is not None and calibrator._feeding._freed is not None
        calibrator._feeding._freed.result(timeout=60)
        assert not cuda.leaks
        calibrator.finish()

    def test_a_loader_is_fitted_to_the_model_and_described_in_the_sidecar(self, cuda: FakeCuda, job: Path) -> None:
        from trtcal.images import ImageLoader

        loader = ImageLoader(job / "images", preprocess="imagenet", batch_size=5, count=8, seed=3)
        calibrator = Entropy(loader, cache=job / "m.cache", cuda=cuda)
        calibrator.prepare([TensorSpec("input", (4, 3, 16, 16), FLOAT)], MODEL)
        assert calibrator.planned == 2
        read = Reader(cuda, {"input": 4 * 3 * 16 * 16 * 4})
        Builder(names=["input"], taken=read).calibrate(calibrator)
        cache = calibrator.finish()
        fitted = loader.for_model([TensorSpec("input", (4, 3, 16, 16), FLOAT)])
        assert b"".join(seen[0] for seen in read.seen) == b"".join(batch["input"].tobytes() for batch in fitted)
        assert cache is not None and cache.sidecar is not None
        assert cache.sidecar.preprocess == fitted.preprocess.to_dict()
        assert (cache.sidecar.image_sets, cache.sidecar.images, cache.sidecar.seed) == ((fitted.digest,), 8, 3)

    def test_images_that_are_skipped_are_not_missed(self, cuda: FakeCuda, job: Path) -> None:
        from trtcal.images import ImageLoader

        for number in (1, 2):
            (job / "images" / "cat" / f"{number}.png").write_bytes(b"no image")
        loader = ImageLoader(job / "images", on_bad_image="skip")
        calibrator = Entropy(loader, cuda=cuda)
        calibrator.prepare([TensorSpec("input", (2, 3, 16, 16), FLOAT)])
        Builder(names=["input"]).calibrate(calibrator)
        calibrator.finish()
        assert (calibrator.served, calibrator.planned) == (5, 5)


class TestTheCache:
    def test_that_fits_spares_the_calibration(self, path: Path) -> None:
        before = existing(path)
        calibrator = Entropy(numbered(3), cache=path)  # three do not fill batches of two, which does not matter now
        calibrator.prepare(specs(), MODEL)
        builder = Builder()
        assert builder.calibrate(calibrator)
        cache = calibrator.finish()
        assert cache == CalibrationCache.load(path) and path.read_bytes() == before
        assert builder.asked == ["get_batch_size", "read_calibration_cache"]

    def test_alone_is_enough(self, path: Path) -> None:
        existing(path)
        calibrator = Entropy(cache=path)
        calibrator.prepare(specs(), MODEL)
        Builder().calibrate(calibrator)
        assert calibrator.finish() is not None

    def test_that_is_not_there_is_an_error_without_batches(self, path: Path) -> None:
        with pytest.raises(CacheError, match="cannot read"):
            Entropy(cache=path).prepare(specs())

    @pytest.mark.parametrize("has_batches", [False, True])
    @pytest.mark.parametrize(
        ("header", "model", "message"),
        [
            ("TRT-8601-EntropyCalibration2", MODEL, "would ignore in silence"),
            ("TRT-101401-MinMaxCalibration", MODEL, "would ignore in silence"),
            ("TRT-101401-EntropyCalibration2", "c" * 64, "another model"),
        ],
    )
    def test_that_does_not_fit_is_refused_before_the_build(
        self, header: str, model: str, message: str, has_batches: bool, path: Path
    ) -> None:
        existing(path, header, model)
        calibrator = Entropy(numbered(4) if has_batches else None, cache=path)
        with pytest.raises(CacheMismatchError, match=message):
            calibrator.prepare(specs(), MODEL)
        assert calibrator.finish() is None

    @pytest.mark.parametrize(
        ("header", "model"), [("TRT-8601-EntropyCalibration2", MODEL), ("TRT-101401-EntropyCalibration2", "c" * 64)]
    )
    def test_that_does_not_fit_is_replaced_on_request(
        self, header: str, model: str, cuda: FakeCuda, path: Path
    ) -> None:
        existing(path, header, model)
        calibrator = Entropy(numbered(4), cache=path, recalibrate=True, cuda=cuda)
        calibrator.prepare(specs(), MODEL)
        (note,) = calibrator.notes
        assert note.startswith(f"calibrating again: {path} ")
        Builder().calibrate(calibrator)
        calibrator.finish()
        assert path.read_bytes() == WRITTEN

    def test_on_request_is_read_under_another_header(self, path: Path) -> None:
        before = existing(path, "TRT-8601-MinMaxCalibration")
        calibrator = Entropy(cache=path, allow_version_mismatch=True)
        calibrator.prepare(specs(), MODEL)
        given: list[bytes] = []
        Builder(takes_cache=lambda cache: not given.append(bytes(cache))).calibrate(calibrator)  # type: ignore[func-returns-value]
        cache = calibrator.finish()
        assert given == [b"TRT-101401-EntropyCalibration2\nx: 3a000000\n"]
        assert cache is not None and cache.dumps() == before == path.read_bytes()
        assert "read as if of TensorRT 10.14.1" in calibrator.notes[0]

    @pytest.mark.parametrize("has_batches", [False, True])
    def test_that_is_rejected_in_silence_is_an_error(self, has_batches: bool, path: Path) -> None:
        before = existing(path)
        calibrator = Entropy(numbered(4) if has_batches else None, cache=path)
        calibrator.prepare(specs(), MODEL)
        builder = Builder(takes_cache=lambda cache: False)
        assert not builder.calibrate(calibrator)
        with pytest.raises(CacheError, match=r"rejects the cache .*m\.cache without a reason.* recalibrate=True"):
            calibrator.finish(built=False)
        assert path.read_bytes() == before

    def test_that_is_rejected_in_silence_is_replaced_on_request(self, cuda: FakeCuda, path: Path) -> None:
        existing(path)
        calibrator = Entropy(numbered(4), cache=path, recalibrate=True, cuda=cuda)
        calibrator.prepare(specs(), MODEL)
        Builder(takes_cache=lambda cache: False).calibrate(calibrator)
        assert calibrator.finish() == CalibrationCache.parse(WRITTEN)
        assert path.read_bytes() == WRITTEN
        assert calibrator.notes[0].startswith("calibrating again: TensorRT 10.14.1.48 rejects the cache")
        assert calibrator.served == calibrator.planned == 2

    def test_that_is_no_cache_is_never_replaced(self, path: Path) -> None:
        path.write_bytes(b"\x08\x07\x12\x04onnx")
        with pytest.raises(CacheError, match="looks like an ONNX model"):
            Entropy(numbered(4), cache=path, recalibrate=True).prepare(specs())

    def test_that_cannot_be_written_is_refused_before_the_build(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="does not exist"):
            Entropy(numbered(4), cache=tmp_path / "none" / "m.cache").prepare(specs())

    def test_that_cannot_be_written_in_the_end_is_an_error(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        path.mkdir()
        for _ in range(2):
            with pytest.raises(OutputError, match="it is a folder"):
                calibrator.finish()


def failing(error: BaseException, after: int = 1) -> list[Array] | Batches:
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


class TestNothingIsSilent:
    def test_samples_that_are_left_over_are_refused_before_the_build(self) -> None:
        with pytest.raises(DataError, match=r"5 samples do not fill batches of 2, .* 1 would be left over"):
            Entropy(numbered(3, 2)).prepare(specs())

    def test_samples_that_turn_out_to_be_left_over_spoil_the_cache(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(iter(numbered(3, 2)), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        assert calibrator.planned is None
        Builder().calibrate(calibrator)
        with pytest.raises(DataError, match="1 would be left over"):
            calibrator.finish()
        assert not path.exists()

    @pytest.mark.parametrize("most", [1, 2])
    def test_batches_that_tensorrt_does_not_take(self, most: int, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(6), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder(most=most).calibrate(calibrator)
        for _ in range(2):
            with pytest.raises(BuildError, match=f"^TensorRT took {most} of 3 calibration batches and went on without"):
                calibrator.finish()
        assert not path.exists()

    def test_a_generator_that_is_not_used_up(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(iter(numbered(6)), cuda=cuda)
        calibrator.prepare(specs())
        Builder(most=1).calibrate(calibrator)
        with pytest.raises(BuildError, match="took 1 of an unknown number of calibration batches"):
            calibrator.finish()

    def test_a_build_without_the_calibrator(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(6), cuda=cuda)
        calibrator.prepare(specs())
        with pytest.raises(BuildError, match="never asked the calibrator"):
            calibrator.finish()

    def test_a_build_that_never_read_the_cache(self, path: Path) -> None:
        existing(path)
        calibrator = Entropy(cache=path)
        calibrator.prepare(specs(), MODEL)
        with pytest.raises(BuildError, match="never asked the calibrator"):
            calibrator.finish()

    def test_a_calibration_without_a_cache(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(4), cuda=cuda)
        calibrator.prepare(specs())
        Builder(writes=None).calibrate(calibrator)
        with pytest.raises(BuildError, match="took 2 of 2 calibration batches and wrote no cache"):
            calibrator.finish()

    @pytest.mark.parametrize("most", [0, 1])
    def test_a_build_that_failed_has_its_own_reasons(self, most: int, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder(most=most).calibrate(calibrator)
        assert calibrator.finish(built=False) is None
        assert not path.exists()

    def test_a_build_that_failed_after_the_calibration_keeps_the_cache(self, cuda: FakeCuda, path: Path) -> None:
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        assert calibrator.finish(built=False) is not None
        assert path.read_bytes() == WRITTEN

    def test_a_loader_that_gives_fewer_than_it_says(self, cuda: FakeCuda, path: Path) -> None:
        class Short:
            count = 6

            def __iter__(self) -> Iterator[Array]:
                return iter(numbered(4))

        calibrator = Entropy(Short(), cache=path, cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        with pytest.raises(DataError, match="should be 3 calibration batches of 2 samples, and 2 came"):
            calibrator.finish()
        assert not path.exists()

    def test_a_generator_serves_one_calibration(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(iter(numbered(4)), cuda=cuda)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        assert calibrator.finish() is not None
        with pytest.raises(DataError, match="a generator that has been read already"):
            calibrator.prepare(specs())
        assert calibrator.batches is not None
        with pytest.raises(DataError, match="a generator that has been read already"):
            iter(calibrator.batches)

    def test_inputs_that_the_batches_do_not_hold(self, cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(4), cuda=cuda)
        calibrator.prepare(specs())
        Builder(names=["x", "z"]).calibrate(calibrator)
        with pytest.raises(DataError, match="TensorRT asks for z, and the batches hold x"):
            calibrator.finish()

    def test_neither_batches_nor_cache(self) -> None:
        with pytest.raises(DataError, match="Entropy has nothing to go by: give batches, a calibration cache or both"):
            Entropy()

    @pytest.mark.parametrize("given_as", [np.zeros((4, 3), np.float32), {"x": np.zeros((4, 3))}, "images/"])
    def test_what_is_no_iterable_of_batches(self, given_as: Any) -> None:
        with pytest.raises(DataError, match=r"^the data is "):
            Entropy(given_as).prepare(specs())

    @pytest.mark.parametrize(
        "call",
        [
            lambda calibrator: calibrator.get_batch_size(),
            lambda calibrator: calibrator.get_batch(["x"]),
            lambda calibrator: calibrator.read_calibration_cache(),
            lambda calibrator: calibrator.write_calibration_cache(memoryview(WRITTEN)),
        ],
    )
    def test_callbacks_without_preparation(self, call: Callable[[Calibrator], object], cuda: FakeCuda) -> None:
        calibrator = Entropy(numbered(4), cuda=cuda)
        with pytest.raises(BuildError, match=r"is not prepared: call prepare\(\.\.\.\) before the build"):
            call(calibrator)
        calibrator.prepare(specs())
        Builder().calibrate(calibrator)
        calibrator.finish()
        with pytest.raises(BuildError, match="is not prepared"):
            call(calibrator)

    def test_a_tensorrt_without_calibrators(self) -> None:
        class Plain(Calibrator):
            _tensorrt = "TensorRT 11.4.0 has no calibrators"

        class Absent(Calibrator):
            _tensorrt = "TensorRT is not installed (no module)"
            _refusal = MissingDependencyError

        for kind, error in ((Plain, BuildError), (Absent, MissingDependencyError)):
            calibrator = kind(numbered(4))
            assert not calibrator.calibrates and calibrator.finish() is None
            for use in (lambda: calibrator.prepare(specs()), lambda: calibrator.get_batch(["x"])):  # noqa: B023
                with pytest.raises(error, match=f"^{kind.__name__} cannot calibrate, as TensorRT .*: give it to"):
                    use()


def test_open_cuda_is_asked_where_no_device_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with fake_cuda() as cuda:

        def opened() -> FakeCuda:
            asked.append(threading.current_thread().name)
            return cuda

        monkeypatch.setattr("calibrators.calibrator.open_cuda", opened)
        calibrator = Entropy(numbered(4))
        calibrator.prepare(specs())
        assert asked == []
        Builder().calibrate(calibrator)
        calibrator.finish()
    assert asked == [threading.current_thread().name]


def test_a_profile_of_another_size_cuts_anew(cuda: FakeCuda) -> None:
    calibrator = Entropy(numbered(5, 7), cuda=cuda)
    sizes: Sequence[int] = (1, 3, 12)
    for size in sizes:
        calibrator.prepare(specs(size))
        assert calibrator.get_batch_size() == size
        Builder().calibrate(calibrator)
        calibrator.finish()
        assert calibrator.served == 12 // size


def test_a_sidecar_of_ours_keeps_what_tensorrt_wrote_apart(cuda: FakeCuda, path: Path) -> None:
    """The second calibration's side-car is not mistaken for the first's."""
    for written in (WRITTEN, WRITTEN.replace(b"3d000000", b"3e000000")):
        path.unlink(missing_ok=True)
        calibrator = Entropy(numbered(4), cache=path, cuda=cuda)
        calibrator.prepare(specs(), MODEL)
        Builder(writes=written).calibrate(calibrator)
        cache = calibrator.finish()
        assert cache is not None
        beside = Sidecar.beside(path)
        assert beside is not None and cache.sidecar is not None
        assert beside == replace(cache.sidecar, cache_sha256=cache.sha256)
