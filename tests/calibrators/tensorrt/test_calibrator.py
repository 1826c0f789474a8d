import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import Array, TensorSpec
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError, DataError, MissingDependencyError
from calibrators.tensorrt.calibrator import Calibrator
from tests.calibrators.builder import Builder
from tests.calibrators.calibrating import FLOAT, MODEL, WRITTEN, Entropy, Reader, existing, numbered, specs
from tests.calibrators.device import FakeCuda, fake_cuda


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
        from trtcal.data.images import ImageLoader

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
        from trtcal.data.images import ImageLoader

        for number in (1, 2):
            (job / "images" / "cat" / f"{number}.png").write_bytes(b"no image")
        loader = ImageLoader(job / "images", on_bad_image="skip")
        calibrator = Entropy(loader, cuda=cuda)
        calibrator.prepare([TensorSpec("input", (2, 3, 16, 16), FLOAT)])
        Builder(names=["input"]).calibrate(calibrator)
        calibrator.finish()
        assert (calibrator.served, calibrator.planned) == (5, 5)


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
        with pytest.raises(
            BuildError, match=r"is not prepared: build within `with calibrator\.calibrating\(network, config\):`"
        ):
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

        monkeypatch.setattr("calibrators.tensorrt.calibrator.open_cuda", opened)
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
