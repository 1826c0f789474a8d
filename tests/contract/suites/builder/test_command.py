"""`trtcal build --backend tensorrt`."""

import json
import sys

import numpy as np
import pytest

from calibrators.cache.text import CalibrationCache
from engines.inspection.engine_record import Engine
from tests.contract.builds import batches, cache_of


@pytest.fixture
def command(monkeypatch, capsys):
    from trtcal import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["trtcal", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


@pytest.mark.parametrize("method", ["entropy", "minmax"])
def test_images_on_the_command_line(trt, world, plain, target, tmp_path, command, weak, method):
    np.savez(tmp_path / "data.npz", x=np.concatenate(batches(6, 2)))
    code, out, err = command(
        "build", plain, "--images", tmp_path / "data.npz", "--preprocess", "none", "--count", 10, "--batch-size", 4,
        "--method", method, "--json", "-o", target,
    )  # fmt: skip
    assert code == 0, err
    value = json.loads(out)
    assert value["backend"] == "tensorrt"
    assert value["quantization"] == ("implicit" if weak else "explicit")
    assert len(value["cache"]["sha256"]) == 64
    if weak:
        assert world.calibration_profile.shapes["x"][1][0] == 2
        assert world.calibrated.count("get_batch") == 6
        base = {"entropy": trt.IInt8EntropyCalibrator2, "minmax": trt.IInt8MinMaxCalibrator}[method]
        assert isinstance(world.config.int8_calibrator, base)


def test_a_method_that_tensorrt_has_no_calibrator_for(world, plain, target, tmp_path, command, weak):
    """It is never replaced by one that TensorRT has: its ranges are read as a cache, or become nodes."""
    np.savez(tmp_path / "data.npz", x=np.concatenate(batches(6, 2)))
    given = ["--images", tmp_path / "data.npz", "--preprocess", "none", "--count", 10, "--method", "percentile:95"]
    code, out, err = command("build", plain, *given, "--json", "-o", target)
    assert code == 0, err
    value = json.loads(out)
    assert value["quantization"] == ("implicit" if weak else "explicit")
    tensors = ["--tensors", "all" if weak else "quantizable"]
    assert command("calibrate", plain, *given, *tensors, "-o", tmp_path / "percentile.cache")[0] == 0
    assert value["cache"]["sha256"] == CalibrationCache.load(tmp_path / "percentile.cache").sha256
    assert ("TensorRT has no calibrator that does percentile:95" in err) == weak
    assert world.calibrated == (["get_algorithm", "get_batch_size", "read_calibration_cache"] if weak else [])


def test_an_alias_is_the_calibrator_that_it_stands_for(trt, world, plain, target, tmp_path, command, weak):
    np.savez(tmp_path / "data.npz", x=np.concatenate(batches(6, 2)))
    given = ["--images", tmp_path / "data.npz", "--preprocess", "none", "--method", "absmax"]
    assert command("build", plain, *given, "-o", target)[0] == 0
    if weak:
        assert isinstance(world.config.int8_calibrator, trt.IInt8MinMaxCalibrator)
        assert "get_batch" in world.calibrated


def test_options_on_the_command_line(trt, world, plain, target, tmp_path, command, weak):
    given = [
        "--precision", "fp16", "--workspace", "4GiB", "--optimization-level", "2", "--hardware-compatibility",
        "ampere+",
        "--version-compatible", "--sparsity", "--timing-cache", tmp_path / "times",
    ]  # fmt: skip
    constrained = ["--layer-precision", "c1=fp32"]
    code, out, err = command("build", plain, *given, *(constrained if weak else []), "-o", target)
    assert code == 0, err
    assert "compute capability 8.0 and later" in out
    assert "what the engine runs is unknown" in err
    options = Engine.load(target).record.builder_options
    assert options["workspace"] == 1 << 32
    assert options["timing_cache"] == "times"
    assert options.get("layer_precisions") == ({"c1": "fp32"} if weak else None)
    assert world.pools == {trt.MemoryPoolType.WORKSPACE: 1 << 32}


def test_a_cache_of_another_tensorrt_on_the_command_line(world, plain, target, tmp_path, command, weak):
    CalibrationCache(dict(cache_of(plain)), version=8205).save(tmp_path / "old.cache")
    given = ["build", plain, "--cache", tmp_path / "old.cache", "-o", target]
    code, _, err = command(*given)
    assert code == (1 if weak else 0)
    assert err.startswith("trtcal: ") == weak
    assert command(*given, "--allow-version-mismatch")[0] == 0
