"""Where ranges come from, with TensorRT-RTX, which has no calibrators; tests/contract has those that do."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibrators.batches import TensorSpec
from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError, CacheError, CacheMismatchError, OutputError
from calibrators.ranges import calibrate
from calibrators.tensorrt import int8
from engines.backends.shapes import Profile
from engines.build.builder import build_engine
from engines.build.calibration import calibration_shapes, largest_batch
from engines.collection.collect import collect


def batches(count: int = 2, size: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(0, 1, (size, 16, 16, 16)).astype(np.float32) for _ in range(count)]


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("kept", [False, True])
def test_a_calibrator_without_calibrators(plain: Path, target: Path, tmp_path: Path, kept: bool) -> None:
    told: list[int] = []
    path = tmp_path / "model.cache"
    calibrator = int8.EntropyCalibrator2(batches(), cache=path if kept else None, progress=told.append)
    record = build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=calibrator).record
    assert record.operators_by_precision == {"INT8": 2}
    assert (record.quantization, record.cache) == ("explicit", "model.cache" if kept else None)
    assert sum(told) == 6
    assert (
        "TensorRT-RTX has no calibrators: ranges (entropy) were collected in ONNX Runtime, and Q/DQ nodes "
        in "".join(record.notes)
    )
    expected = calibrate(collect(plain, batches(), tensors="all" if kept else "quantizable"), "entropy")
    assert record.cache_sha256 == expected.sha256
    assert path.exists() == kept


@pytest.mark.usefixtures("rtx")
def test_a_calibrators_cache_spares_the_calibration(plain: Path, target: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.cache"
    cache = calibrate(collect(plain, batches()))
    cache.save(path)
    told: list[int] = []
    calibrator = int8.EntropyCalibrator2(batches(1), cache=path, progress=told.append)
    record = build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=calibrator).record
    assert (record.cache_sha256, told) == (cache.sha256, [])
    again = int8.EntropyCalibrator2(batches(1), cache=path, progress=told.append, recalibrate=True)
    record = build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=again).record
    assert record.cache_sha256 == CalibrationCache.load(path).sha256 != cache.sha256
    assert sum(told) == 3


@pytest.mark.usefixtures("rtx")
def test_a_calibrators_cache_of_another_model(plain: Path, target: Path, tmp_path: Path, network: Any) -> None:
    built = network("N", 16, 16, 16)
    other = tmp_path / "other.onnx"
    onnx.save(built.model(built.conv("x", "c1", (16, 8), activations=False, weights=False)), other)
    calibrate(collect(other, batches())).save(tmp_path / "model.cache")
    calibrator = int8.EntropyCalibrator2(cache=tmp_path / "model.cache")
    with pytest.raises(CacheMismatchError, match=r"made of another model .* than plain\.onnx"):
        build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=calibrator)


@pytest.mark.usefixtures("rtx")
def test_where_the_engine_would_overwrite_the_calibrators_cache(plain: Path, tmp_path: Path) -> None:
    cache = calibrate(collect(plain, batches()))
    cache.save(tmp_path / "model.cache")
    calibrator = int8.EntropyCalibrator2(batches(), cache=tmp_path / "model.cache")
    with pytest.raises(OutputError, match="it is read, and would be lost"):
        build_engine(plain, output=tmp_path / "model.cache", backend="tensorrt-rtx", calibrator=calibrator)
    new = int8.EntropyCalibrator2(batches(), cache=tmp_path / "new")
    with pytest.raises(OutputError, match="two outputs would be this one file"):
        build_engine(plain, output=tmp_path / "new", backend="tensorrt-rtx", calibrator=new)
    nowhere = int8.EntropyCalibrator2(batches(), cache=tmp_path / "absent" / "new.cache")
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        build_engine(plain, output=tmp_path / "new", backend="tensorrt-rtx", calibrator=nowhere)


@pytest.mark.usefixtures("rtx")
def test_a_cache_that_is_the_model_is_never_written(plain: Path, target: Path) -> None:
    model = plain.read_bytes()
    calibrator = int8.EntropyCalibrator2(batches(1), cache=plain, recalibrate=True)
    with pytest.raises(OutputError, match="it is read, and would be lost"):
        build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=calibrator)
    assert plain.read_bytes() == model
    assert not target.exists()


@pytest.mark.usefixtures("rtx")
def test_what_is_no_cache_is_never_replaced(plain: Path, target: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a cache")
    calibrator = int8.EntropyCalibrator2(batches(1), cache=path, recalibrate=True)
    with pytest.raises(CacheError, match=r"notes\.txt"):
        build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=calibrator)
    assert path.read_text() == "not a cache"


@pytest.mark.usefixtures("rtx")
def test_a_class_in_place_of_a_calibrator(plain: Path, target: Path) -> None:
    kind: Any = int8.EntropyCalibrator2
    with pytest.raises(BuildError, match=r"is a class: give one made of it, EntropyCalibrator2\(batches\)"):
        build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=kind)


@pytest.mark.usefixtures("rtx")
def test_a_cache_that_is_missing_and_no_batches(plain: Path, target: Path, tmp_path: Path) -> None:
    calibrator = int8.EntropyCalibrator2(cache=tmp_path / "none.cache")
    with pytest.raises(CacheError, match="No such file"):
        build_engine(plain, output=target, backend="tensorrt-rtx", calibrator=calibrator)


@pytest.mark.usefixtures("rtx")
def test_ranges_from_two_sources(plain: Path, target: Path) -> None:
    calibrator = int8.EntropyCalibrator2(batches())
    with pytest.raises(BuildError, match="either a cache or a calibrator"):
        build_engine(
            plain, output=target, backend="tensorrt-rtx", cache=CalibrationCache({"x": 0.1}), calibrator=calibrator
        )


@pytest.mark.parametrize(
    ("wanted", "samples", "size"), [(8, None, 8), (8, 16, 8), (8, 500, 5), (8, 3, 3), (8, 499, 1), (1, 7, 1), (8, 0, 8)]
)
def test_the_largest_batch_that_samples_fill(wanted: int, samples: int | None, size: int) -> None:
    assert largest_batch(wanted, samples) == size


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(np.float32))


def test_the_shapes_to_calibrate_in() -> None:
    free, fixed = spec("free", "N", 3, "H"), spec("fixed", 4, 2)
    profiles = {"free": Profile((1, 3, 8), (6, 3, 16), (32, 3, 32))}
    assert calibration_shapes((free,), profiles, None) == ({"free": (6, 3, 16)}, ())
    data = [np.zeros((5, 3, 16), np.float32)]
    note = "calibrated in batches of 5, which 5 samples fill, not 6"
    assert calibration_shapes((free,), profiles, data) == ({"free": (5, 3, 16)}, (note,))
    assert calibration_shapes((free, fixed), profiles, data) == ({"free": (4, 3, 16), "fixed": (4, 2)}, ())
    assert calibration_shapes((fixed,), {}, None) == ({"fixed": (4, 2)}, ())
