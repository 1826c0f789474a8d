"""A model with Q/DQ nodes, a float one, its cache, and where the engine goes."""

from pathlib import Path

import onnx
import pytest

from calibrators.cache.text import CalibrationCache


@pytest.fixture
def quantized(convolutions: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(convolutions, tmp_path / "quantized.onnx")
    return tmp_path / "quantized.onnx"


@pytest.fixture
def plain(float_convolutions: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(float_convolutions, tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "plain.cache"
    CalibrationCache({"x": 0.03, "c1_out": 0.02, "c1_relu_out": 0.02, "c2_out": 0.01, "c2_relu_out": 0.01}).save(path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "model.engine"
