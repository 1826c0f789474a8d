"""The smaller model, written once."""

from pathlib import Path

import onnx
import pytest

from benchmarks.models import mobilenet_v2


@pytest.fixture(scope="session")
def mobilenet_v2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mobilenetv2.onnx"
    onnx.save(mobilenet_v2(), path)
    return path
