"""A calibrator and the cache that it is given."""

from pathlib import Path

import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheError, CacheMismatchError, OutputError
from tests.calibrators.builder import Builder
from tests.calibrators.calibrating import MODEL, WRITTEN, Entropy, existing, numbered, specs
from tests.calibrators.device import FakeCuda


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
