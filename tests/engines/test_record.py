"""Files that are no engines; `test_builder.py` has those that are."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibrators.cache import CalibrationCache
from calibrators.errors import BuildError
from calibrators.sidecar import Sidecar
from engines.record import Engine, sidecar_path


def test_what_is_no_engine_is_named(float_convolutions: onnx.ModelProto, tmp_path: Path) -> None:
    plain, cache = tmp_path / "plain.onnx", tmp_path / "plain.cache"
    onnx.save(float_convolutions, plain)
    origin = Sidecar(model_sha256="a" * 64, method="entropy", tensors="all", image_sets=(), images=4)
    CalibrationCache({"x": 0.03}).save(cache)
    sidecar_path(cache).write_text(origin.dumps())
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    np.save(tmp_path / "a.npy", np.ones(2))
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.engine").write_bytes(b"")
    (tmp_path / "a.bin").write_bytes(plain.read_bytes())
    cases = {
        cache: "a calibration cache: trtcal cache show reads it",
        plain: "an ONNX model: trtcal build makes an engine of it",
        tmp_path / "a.bin": "an ONNX model: trtcal build makes an engine of it",
        tmp_path / "a.npz": "a ZIP archive, as .npz files are",
        tmp_path / "a.npy": "an .npy file of numbers",
        tmp_path / "a.json": "JSON: give the file that it is the side-car of",
        tmp_path / "a.engine": "an empty file: build the engine again",
    }
    for path, said in cases.items():
        with pytest.raises(BuildError) as raised:
            Engine.load(path)
        assert str(raised.value).startswith(f"{path} is no engine but {said}")
    (tmp_path / "other.engine").write_bytes(b"\x08\x07 no model")
    with pytest.raises(BuildError, match="has no side-car"):
        Engine.load(tmp_path / "other.engine")
