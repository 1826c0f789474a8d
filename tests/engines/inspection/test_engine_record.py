"""Files that are no engines; `test_builder.py` has those that are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError
from engines.inspection.engine_record import Engine, EngineRecord, sidecar_path


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


TENSOR = {"name": "x", "type": "Float", "shape": [-1, 3]}
WHOLE: dict[str, Any] = {
    "format": 1,
    "engine": {"sha256": "a" * 64},
    "model": {"file": "m.onnx", "sha256": "b" * 64},
    "cache": {"file": None, "sha256": "c" * 64},
    "preprocess": None,
    "backend": "TensorRT-RTX",
    "versions": {"TensorRT-RTX": "1.2"},
    "options": {
        "precision": "int8",
        "rest": "fp32",
        "shapes": {"x": {"min": [1, 3], "opt": [1, 3], "max": [8, 3]}},
        "compute_capabilities": [],
        "portable": "any",
    },
    "inputs": [TENSOR],
    "outputs": [TENSOR],
    "operators": [{"node": "n", "op_type": "Conv", "precision": None, "kernel": None, "quantized": True}],
    "findings": [{"severity": "hint", "rule": "r", "nodes": ["n"], "message": "m"}],
    "notes": [],
    "warnings": [],
    "layers": [{"name": "k", "kind": "kgen", "nodes": ["n"], "inputs": [TENSOR], "constants": [], "outputs": []}],
    "layers_absent": "",
}


def test_a_whole_side_car_is_read_back() -> None:
    record = EngineRecord.parse(json.dumps(WHOLE))
    assert EngineRecord.parse(record.dumps()) == record
    assert EngineRecord.parse(json.dumps({**WHOLE, "layers": None, "cache": None})).kernels is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "it is no object"),
        ("{}", "it lacks 'format'"),
        *(
            (json.dumps({**WHOLE, **changed}), why)
            for changed, why in (
                ({"backend": ["x"]}, "backend is of the wrong kind: list"),
                ({"backend": "other"}, "it lacks 'other'"),
                ({"versions": "1.2"}, "versions is of the wrong kind: str"),
                ({"versions": {"TensorRT-RTX": 1}}, "versions.TensorRT-RTX is of the wrong kind: int"),
                ({"layers": 3}, "layers is of the wrong kind: int"),
                ({"layers": [{**WHOLE["layers"][0], "nodes": "n"}]}, "layers.nodes is of the wrong kind: str"),
                ({"inputs": ["x"]}, "inputs is of the wrong kind: str"),
                ({"inputs": [{"name": "x"}]}, "it lacks 'type'"),
                ({"inputs": [{**TENSOR, "shape": ["3"]}]}, "inputs.shape is of the wrong kind: str"),
                ({"options": {**WHOLE["options"], "shapes": {"x": {}}}}, "it lacks 'min'"),
                ({"findings": [{**WHOLE["findings"][0], "severity": "x"}]}, "findings.severity is of the wrong kind"),
                ({"cache": "c"}, "cache is of the wrong kind: str"),
                ({"preprocess": []}, "preprocess is of the wrong kind: list"),
            )
        ),
    ],
    ids=range(17),
)
def test_a_damaged_side_car_is_one_line(text: str, why: str) -> None:
    with pytest.raises(BuildError) as raised:
        EngineRecord.parse(text, source="m.engine.json")
    said = str(raised.value)
    assert said.startswith("m.engine.json is no side-car of an engine (")
    assert why in said
    assert said.endswith("): build the engine again")
    assert "\n" not in said


def test_keys_that_came_later_may_be_missing() -> None:
    record = EngineRecord.parse(json.dumps(WHOLE))
    assert (record.quantization, record.gpu, dict(record.builder_options)) == (None, None, {})
    gpu = {"name": "A GPU", "compute_capability": "8.6"}
    later = {"quantization": "implicit", "gpu": gpu, "builder_options": {"workspace": 5}}
    record = EngineRecord.parse(json.dumps({**WHOLE, **later}))
    assert EngineRecord.parse(record.dumps()) == record
    assert (record.quantization, record.gpu, record.builder_options) == ("implicit", gpu, {"workspace": 5})


@pytest.mark.parametrize(
    "wrong", [{"quantization": 1}, {"gpu": {"name": "A GPU"}}, {"gpu": "8.6"}, {"builder_options": []}]
)
def test_later_keys_of_another_kind(wrong: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match="is no side-car of an engine"):
        EngineRecord.parse(json.dumps({**WHOLE, **wrong}))
