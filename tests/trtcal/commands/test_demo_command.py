import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.installation import pip_install
from engines.graph.model import load_model, model_digest
from engines.inspection.engine_record import Engine
from trtcal.choice.calibration import Chosen, calibrate_model
from trtcal.data.images import ImageLoader
from trtcal.demo import DETECTOR, MODEL, run, subjects
from trtcal.optimization import stages
from trtcal.optimization.ladder import rungs

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def complete() -> None:
    """What the extra [demo] installs is there."""
    for library in ("sklearn", "tensorrt_rtx"):
        pytest.importorskip(library, reason=f"{library} is not installed (extra [demo])")


@pytest.mark.usefixtures("complete")
def test_the_demo_does_the_main_job_and_can_be_run_again(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    code, out, _ = command("demo", "--output", folder, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["chosen"] == "int8" and result["max_drop"] == run.MAX_DROP
    engines = {engine["name"]: engine for engine in result["candidates"]}
    assert set(engines) == {"int8", "fp16", "fp32"}
    assert engines["int8"]["accuracy"] >= 98 and engines["int8"]["drop"] <= 1 and engines["int8"]["sqnr_db"] > 20

    places = run.Places(folder)
    cache = CalibrationCache.load(places.cache)
    sidecar = Sidecar.beside(places.cache)
    assert sidecar is not None and sidecar.model_sha256 == model_digest(places.fp32)
    assert places.fp32.read_bytes() == MODEL.read_bytes()
    assert {node.op_type for node in load_model(places.int8).graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    left = json.loads((folder / "digits.int8.onnx.json").read_text())["left_float"]
    assert "classifier" in left  # of ten classes
    assert all(name == "classifier" or "% of the multiply-accumulates" in why for name, why in left.items())
    fp32, int8 = (Engine.load(path).record for path in (places.fp32_engine, places.int8_engine))
    assert fp32.operators_by_precision == {"FP32": 18}  # 17 convolutions and the classifier
    assert int8.operators_by_precision == {"FP16": len(left), "INT8": 18 - len(left)}
    assert int8.model == places.int8.name
    assert all(Path(path).exists() for path in result["files"].values())

    listed = {line.split()[0].rstrip("/") for line in run.SUBJECTS["classify"].about.split("\n\n")[1].splitlines()} - {
        "*.json"
    }
    found = {path.name for path in folder.iterdir()} - {"README.txt"}
    assert {name for name in found if not name.endswith(".json")} == listed
    assert {name.removesuffix(".json") for name in found if name.endswith(".json")} <= listed

    (folder / "notes.txt").write_text("mine")
    code, out, _ = command("demo", "--output", folder)
    assert code == 0
    *_, said, _, about, last = out.splitlines()
    assert said.startswith("int8 is the cheapest that holds the bound")
    assert about == f"what each file is: {folder / 'README.txt'}"
    assert last == f"next: trtcal inspect {places.int8_engine}"
    assert command(*last.split()[2:])[0] == 0
    assert CalibrationCache.load(places.cache) == cache
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("complete")
def test_an_int8_model_that_loses_too_much_is_not_chosen(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def badly(model: Path, images: ImageLoader, **options: Any) -> Chosen:
        found = calibrate_model(model, images, **options)
        return replace(found, cache=found.cache.with_scales({"image": 1e-4}))

    monkeypatch.setattr(stages, "calibrate_model", badly)
    monkeypatch.setattr(stages, "rungs", lambda: islice(rungs(), 1))
    code, out, _ = command("demo", "--output", tmp_path)
    assert code == 0  # FP16 holds the bound
    assert "fp16 is the cheapest that holds the bound" in out and "int8 does not hold it: it loses" in out
    assert f"next: trtcal sensitivity {tmp_path / 'digits.onnx'} --images" in out


@pytest.mark.parametrize("content", ["holiday.jpg", "README.txt"])
@pytest.mark.usefixtures("complete")
def test_a_folder_with_other_files_is_refused_and_left_alone(command: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_bytes(b"\xff mine")
    code, out, err = command("demo", "--output", tmp_path)
    assert (code, out) == (2, "")
    assert err == (
        f"trtcal: cannot write to {tmp_path}: it holds other files; give a new or empty folder with --output\n"
    )
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(content, b"\xff mine")]


@pytest.mark.usefixtures("complete")
def test_a_file_in_place_of_the_folder_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    code, out, err = command("demo", "--output", tmp_path / "demo")
    assert (code, out) == (2, "")
    assert err == f"trtcal: cannot write to {tmp_path / 'demo'}: it is a file; give a folder with --output\n"


@pytest.mark.usefixtures("complete")
def test_a_folder_that_cannot_be_made_is_said_in_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, out, err = command("demo", "--output", tmp_path / "file" / "demo")
    assert (code, out) == (2, "")
    assert err == f"trtcal: cannot write {tmp_path / 'file' / 'demo'}: Not a directory; choose another place\n"


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ({"sklearn"}, "scikit-learn"),
        ({"tensorrt_rtx"}, "tensorrt-rtx"),
        ({"sklearn", "tensorrt_rtx"}, "scikit-learn and tensorrt-rtx"),
    ],
)
def test_a_missing_library_is_said_before_anything_is_written(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: set[str], said: str
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None if name in absent else importlib.util.find_spec("json"))
    code, out, err = command("demo", "--output", tmp_path / "demo")
    assert (code, out) == (2, "")
    assert err == f"trtcal: the demo needs {said}, not installed here: {pip_install('demo')}\n"
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("complete")
def test_a_detector_goes_the_same_way_and_is_drawn(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(subjects, "SCENES", 100)
    monkeypatch.setattr(subjects, "IMAGES", 100)
    code, out, _ = command("demo", "--task", "detect", "--output", tmp_path / "scenes", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["measure"] == "mAP 50-95" and result["chosen"] == "int8"
    int8, _, float_model = result["candidates"]
    assert float_model["accuracy"] > 75 and int8["drop"] == pytest.approx(float_model["accuracy"] - int8["accuracy"])
    assert int8["drop"] <= run.MAX_DROP
    places = run.Places(tmp_path / "scenes", "scenes")
    assert places.fp32.read_bytes() == DETECTOR.read_bytes()
    assert len(json.loads(places.annotations.read_text())["images"]) == 100
    assert len(list(places.calibration.iterdir())) == len(list(places.masks.iterdir())) == 100
    assert len(list(places.pictures.iterdir())) == 6
    listed = {line.split()[0].rstrip("/") for line in places.about.read_text().split("\n\n")[1].splitlines()}
    found = {path.name for path in places.folder.iterdir()} - {"README.txt"}
    assert {name for name in found if not name.endswith(".json")} == listed - {"*.json", places.annotations.name}

    code, out, err = command("demo", "--output", places.folder)
    assert (code, out) == (2, "") and "it holds other files" in err
