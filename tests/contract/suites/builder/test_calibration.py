"""Builds that calibrate, read a cache, or write Q/DQ nodes where `tensorrt` has no calibrators."""

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.errors import (
    BuildError,
    CacheError,
    CacheMismatchError,
)
from calibrators.ranges import calibrate
from calibrators.tensorrt import int8
from engines.build.builder import build_engine
from engines.collection.collect import collect
from tests.contract.builds import batches, cache_of, flags, left_alone, nodes
from tests.engines.conftest import Network


@pytest.mark.usefixtures("only_weak")
def test_a_calibrator(world, plain, target, tmp_path, version):
    given = batches(4, 2)
    seen: list[float] = []
    size = 8 * 16 * 8 * 8

    def on_batch(names, addresses):
        assert names == ["x"]
        seen.append(float(np.ctypeslib.as_array((ctypes.c_float * size).from_address(addresses[0])).sum()))

    world.on_batch = on_batch
    calibrator = int8.EntropyCalibrator2(given, cache=tmp_path / "model.cache")
    record = build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator).record
    assert flags(world) == {"INT8", "FP16"}
    assert world.calibration_profile.shapes == {"x": ((8, 16, 8, 8),) * 3}  # all eight samples at once
    assert seen == pytest.approx([float(np.concatenate(given).sum())], rel=1e-5)
    cache = CalibrationCache.load(tmp_path / "model.cache")
    assert cache.algorithm == "EntropyCalibration2"
    assert cache.sidecar.model_sha256 == record.model_sha256
    assert cache.sidecar.versions["tensorrt"] == version
    assert (record.quantization, record.cache, record.cache_sha256) == ("implicit", "model.cache", cache.sha256)
    assert nodes(world) == ["c1", "c1_relu", "c2", "c2_relu"]


@pytest.mark.usefixtures("only_weak")
@pytest.mark.parametrize(
    ("count", "size", "note"),
    [(8, 4, ()), (6, 6, ("calibrated in batches of 6, which 6 samples fill, not 8",)), (7, 7, None), (22, 2, None)],
)
def test_the_batch_of_the_calibration_profile(world, plain, target, count, size, note):
    loader = Loader(count, 4 if count == 8 else 8)
    calibrator = int8.MinMaxCalibrator(loader)
    record = build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator).record
    assert world.calibration_profile.shapes["x"][1][0] == size
    assert calibrator.served * size == count
    if note is not None:
        assert tuple(line for line in record.notes if "batches of" in line and "dynamic" not in line) == note


class Loader:
    """Samples with a batch size of their own."""

    def __init__(self, count, batch_size):
        self.count, self.batch_size = count, batch_size

    def __iter__(self):
        for start in range(0, self.count, self.batch_size):
            yield np.ones((min(self.batch_size, self.count - start), 16, 8, 8), np.float32)


@pytest.mark.usefixtures("only_weak")
def test_a_fixed_batch_is_the_calibrations(world, target, tmp_path):
    built = Network(2, 16, 8, 8)
    onnx.save(built.model(built.conv("x", "c1", (16, 16), activations=False, weights=False)), tmp_path / "fixed.onnx")
    calibrator = int8.EntropyCalibrator2(Loader(6, 3))
    build_engine(tmp_path / "fixed.onnx", output=target, backend="tensorrt", calibrator=calibrator)
    assert world.profiles == []
    assert world.calibration_profile.shapes == {"x": ((2, 16, 8, 8),) * 3}
    assert calibrator.served == 3


@pytest.mark.usefixtures("only_strong")
def test_a_calibrator_where_there_are_none(world, plain, target, tmp_path):
    told: list[int] = []
    calibrator = int8.MinMaxCalibrator(batches(), cache=tmp_path / "model.cache", progress=told.append)
    record = build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator).record
    assert flags(world) == set()
    assert sum(told) == 8
    cache = CalibrationCache.load(tmp_path / "model.cache")
    assert cache.algorithm == "MinMaxCalibration"
    assert cache == calibrate(collect(plain, batches()), "minmax")
    assert (record.quantization, record.cache, record.cache_sha256) == ("explicit", "model.cache", cache.sha256)
    assert any("ranges (minmax) were collected in ONNX Runtime, and Q/DQ nodes" in note for note in record.notes)
    assert any("QuantizeLinear" in name for name in nodes(world))
    world.calibrated.clear()
    again = build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator).record
    assert again.cache_sha256 == cache.sha256
    assert any("were written into the model" in note for note in again.notes)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_cache_that_trtcal_computed(world, plain, target, tmp_path, weak, in_memory):
    cache = cache_of(plain)
    cache.save(tmp_path / "model.cache")
    record = build_engine(
        plain, output=target, backend="tensorrt", cache=cache if in_memory else tmp_path / "model.cache"
    ).record
    assert record.quantization == ("implicit" if weak else "explicit")
    assert record.cache == (None if in_memory else "model.cache")
    assert record.cache_sha256 == cache.sha256
    assert world.calibrated == (["get_algorithm", "get_batch_size", "read_calibration_cache"] if weak else [])
    assert any("QuantizeLinear" in name for name in nodes(world)) == (not weak)
    said = "was computed without TensorRT" if weak else "has no calibrators: Q/DQ nodes were written into the model"
    assert any(said in note for note in record.notes)
    if weak:
        assert world.calibration_profile.shapes == {"x": ((8, 16, 8, 8),) * 3}
        assert tmp_path.joinpath("model.cache").read_bytes() == cache.dumps()


@pytest.mark.parametrize("method", ["entropy", "minmax"])
def test_a_cache_goes_to_the_calibrator_of_its_kind(trt, world, plain, target, tmp_path, weak, method):
    calibrate(collect(plain, batches()), method).save(tmp_path / "model.cache")
    record = build_engine(plain, output=target, backend="tensorrt", cache=tmp_path / "model.cache").record
    assert record.quantization == ("implicit" if weak else "explicit")
    if weak:
        base = {"entropy": trt.IInt8EntropyCalibrator2, "minmax": trt.IInt8MinMaxCalibrator}[method]
        assert isinstance(world.config.int8_calibrator, base)


@pytest.mark.usefixtures("only_weak")
def test_a_cache_for_nodes_alone_becomes_nodes(world, plain, target):
    record = build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain, "quantizable")).record
    assert record.quantization == "explicit"
    assert world.calibrated == []
    assert flags(world) == {"INT8", "FP16"}
    assert any("(--tensors quantizable): they were written from it" in note for note in record.notes)


def test_a_cache_of_another_tensorrt(world, plain, target, tmp_path, weak):
    other = CalibrationCache(dict(cache_of(plain)), version=8205)
    other.save(tmp_path / "old.cache")
    options: dict[str, Any] = {"output": target, "backend": "tensorrt", "cache": tmp_path / "old.cache"}
    if weak:
        with pytest.raises(CacheMismatchError, match=r"old\.cache is a cache of TensorRT 8\.2\.5"):
            build_engine(plain, **options)
        assert left_alone(target)
    record = build_engine(plain, **options, allow_version_mismatch=True).record
    assert record.cache_sha256 == other.sha256
    assert "get_batch" not in world.calibrated


def test_a_cache_of_another_model(world, plain, target, tmp_path):
    cache = cache_of(plain)
    cache.sidecar = replace(cache.sidecar, model_sha256="1" * 64)
    cache.save(tmp_path / "model.cache")
    with pytest.raises(CacheMismatchError, match="made of another model"):
        build_engine(plain, output=target, backend="tensorrt", cache=tmp_path / "model.cache")
    assert left_alone(target)


@pytest.mark.usefixtures("only_weak")
def test_a_cache_without_a_sidecar_is_compared_by_names(world, plain, target, tmp_path):
    scales = dict(cache_of(plain))
    CalibrationCache({f"other_{name}": scale for name, scale in scales.items()}).save(tmp_path / "model.cache")
    given = {"output": target, "backend": "tensorrt", "cache": tmp_path / "model.cache", "allow_version_mismatch": True}
    with pytest.raises(CacheMismatchError, match=r"no name in the cache .*model\.cache is a tensor of the model"):
        build_engine(plain, **given)
    assert left_alone(target)
    del scales["c1_out"], scales["c2_relu_out"]
    CalibrationCache(scales).save(tmp_path / "model.cache")
    notes = build_engine(plain, **given).record.notes
    said = "2 of 5 tensors have no scale in the cache, and layers on them stay float: c1_out, c2_relu_out"
    assert said in notes


@pytest.mark.usefixtures("only_weak")
def test_a_cache_of_another_model_that_may_be_replaced(world, plain, target, tmp_path):
    cache = cache_of(plain)
    cache.sidecar = replace(cache.sidecar, model_sha256="1" * 64)
    cache.save(tmp_path / "model.cache")
    calibrator = int8.EntropyCalibrator2(batches(), cache=tmp_path / "model.cache", recalibrate=True)
    notes = build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator).record.notes
    assert any(note.startswith("calibrating again: ") for note in notes)
    assert CalibrationCache.load(tmp_path / "model.cache") != cache
    assert world.calibrated.count("get_batch") == 2


@pytest.mark.usefixtures("only_weak")
def test_a_cache_that_tensorrt_does_not_take(world, plain, target):
    world.accepts_cache = False
    with pytest.raises(CacheError, match="rejects the cache"):
        build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain))
    assert left_alone(target)


@pytest.mark.parametrize("model", ["quantized", "plain"])
def test_ranges_that_nobody_needs(world, request, target, model):
    path = request.getfixturevalue(model)
    options = {} if model == "quantized" else {"precision": "fp16"}
    with pytest.raises(BuildError, match="leave out the calibrator"):
        build_engine(path, output=target, backend="tensorrt", calibrator=int8.EntropyCalibrator2(batches()), **options)
    with pytest.raises(BuildError, match="leave out the cache"):
        build_engine(path, output=target, backend="tensorrt", cache=CalibrationCache({"x": 0.1}), **options)


def test_ranges_from_two_sources_or_from_none(world, plain, target):
    calibrator = int8.EntropyCalibrator2(batches())
    with pytest.raises(BuildError, match="either a cache or a calibrator"):
        build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain), calibrator=calibrator)
    with pytest.raises(BuildError, match="needs ranges"):
        build_engine(plain, output=target, backend="tensorrt")
    with pytest.raises(BuildError, match=r"object is no calibrator of trtcal's"):
        build_engine(plain, output=target, backend="tensorrt", calibrator=object())
