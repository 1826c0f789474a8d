"""What commands do, as functions of `trtcal`: the same words, and results that are values and tables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import trtcal
from tests.conftest import Command
from tests.trtcal.test_package import HEAVY

SEARCH = {"count": 8, "test_count": 4, "preprocess": "unit"}


@pytest.fixture
def calibrated(job: Path) -> Path:
    """The job with its cache, `model.cache`, and the model with Q/DQ nodes, `model.int8.onnx`."""
    loader = trtcal.ImageLoader(job / "images", preprocess="unit")
    cache = trtcal.calibrate(trtcal.collect(job / "model.onnx", loader))
    cache.save(job / "model.cache")
    trtcal.quantize(job / "model.onnx", job / "model.cache", output=job / "model.int8.onnx")
    return job


def require_table(found, columns=()):
    """Rows are dictionaries of plain cells, alike in their columns, and HTML comes of them."""
    rows = found.rows()
    assert rows
    assert set(columns) <= set(rows[0])
    for row in rows:
        assert type(row) is dict
        assert list(row) == list(rows[0])
        assert all(value is None or type(value) in (str, int, float, bool) for value in row.values()), row
    html = found._repr_html_()
    assert html.count("<tr>") == len(rows) + 1
    return rows


def test_their_names_load_nothing_heavy():
    names = "sensitivity", "inspect", "benchmark", "convert", "check_cache", "doctor", "ImageLoader"
    assert set(names) <= set(trtcal.__all__)
    code = "import sys, trtcal; dir(trtcal); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(done.stdout.split()) == set()


def test_sensitivity_is_the_commands(job: Path, command: Command) -> None:
    found = trtcal.sensitivity(job / "model.onnx", job / "images", **SEARCH)
    options = ["--count", 8, "--test-count", 4, "--preprocess", "unit", "--json"]
    code, out, _ = command("sensitivity", job / "model.onnx", "--images", job / "images", *options)
    assert code == 0
    said = json.loads(out)
    rows = require_table(found, ["layer", "rank", "drop", "agreement", "sqnr_db", "output_sqnr_db", "suspicious"])
    assert [row["layer"] for row in rows] == [each["layer"] for each in said["sensitivity"]["layers"]]
    assert [row["sqnr_db"] for row in rows] == [each["alone"]["sqnr_db"] for each in said["sensitivity"]["layers"]]
    errors = {each["layer"]: each["output_sqnr_db"] for each in said["errors"]["layers"]}
    assert [row["output_sqnr_db"] for row in rows] == [errors[row["layer"]] for row in rows]
    require_table(found.sensitivity)
    require_table(found.errors)


def test_errors_alone_and_a_file_of_trials(job: Path) -> None:
    found = trtcal.sensitivity(job / "model.onnx", job / "images", errors=True, **SEARCH)
    assert found.sensitivity is None
    assert "rank" not in require_table(found)[0]
    for known in (False, True):
        again = trtcal.sensitivity(job / "model.onnx", job / "images", resume=job / "trials.json", **SEARCH)
        assert (again.known > 0) == known


def test_inspect_of_a_model(calibrated: Path, command: Command) -> None:
    path = calibrated / "model.int8.onnx"
    rows = require_table(trtcal.inspect(path), ["node", "operator", "activation", "weights"])
    said = json.loads(command("inspect", path, "--json")[1])
    assert [(row["node"], row["int8"]) for row in rows] == [
        (each["node"], each["quantized"]) for each in said["operators"]
    ]
    assert not any(row["int8"] for row in trtcal.inspect(calibrated / "model.onnx").rows())


def test_inspect_of_an_engine(calibrated: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    built = trtcal.build_engine(
        calibrated / "model.int8.onnx", output=calibrated / "model.engine", backend="tensorrt-rtx"
    )
    found = trtcal.inspect(calibrated / "model.engine")
    assert found == built
    assert {row["precision"] for row in require_table(found)} <= {"INT8", "FP16", "FP32", None}
    (image,) = found.inputs
    assert (image.name, image.shape, str(image.dtype)) == ("image", (None, 3, 16, 16), "float32")
    for path in ("model.engine", "model.int8.onnx"):
        loader = trtcal.ImageLoader(calibrated / "images", model=calibrated / path)
        assert "pixel / 255" in str(loader.preprocess)
        assert next(iter(loader))["image"].shape == (8, 3, 16, 16)


def test_benchmark(calibrated: Path) -> None:
    paths = [calibrated / "model.onnx", calibrated / "model.int8.onnx"]
    found = trtcal.benchmark(paths, duration=0.02, threads=1)
    rows = require_table(found, ["model", "median_ms", "samples_per_second", "speedup"])
    assert [(row["model"], row["int8"]) for row in rows] == [("model.onnx", False), ("model.int8.onnx", True)]
    assert rows[1]["speedup"] == pytest.approx(rows[0]["median_ms"] / rows[1]["median_ms"])
    named = trtcal.benchmark({"a": paths[0]}, duration=0.02, shapes={"image": (2, 3, 16, 16)})
    assert [(row["model"], row["batch_size"]) for row in named.rows()] == [("a", 2)]
    assert list(trtcal.benchmark(str(paths[0]), duration=0.02).latencies) == ["model.onnx"]


def test_convert_and_check(calibrated: Path, command: Command) -> None:
    source, model = calibrated / "model.cache", calibrated / "model.onnx"
    assert command("cache", "convert", source, "--to", "trtcal", "-o", calibrated / "one.json")[0] == 0
    found = trtcal.convert(source, to="trtcal", output=calibrated / "two.json")
    assert (found.source_format, found.format, found.cache, found.model) == ("tensorrt", "trtcal", None, None)
    assert (calibrated / "one.json").read_bytes() == (calibrated / "two.json").read_bytes()
    back = trtcal.convert(calibrated / "two.json", output=calibrated / "back.cache", tensorrt_version="8.6.1")
    assert back.cache is not None
    assert (back.cache.version, dict(back.cache)) == (8601, dict(trtcal.CalibrationCache.load(source)))
    written = trtcal.convert(source, model, to="qdq", output=calibrated / "model.q.onnx")
    assert written.model is not None
    require_table(written.model, ["layer", "int8", "scale", "why"])
    fit = trtcal.check_cache(model, source)
    assert fit.fits
    assert {row["found"] for row in require_table(fit) if row["needed"]} == {"matched"}
    with pytest.raises(trtcal.TrtcalError, match="there is no format 'tensorflow': choose among tensorrt, qdq"):
        trtcal.convert(source, to="tensorflow", output=calibrated / "no")


def test_tables_of_searches(calibrated: Path) -> None:
    model, images = calibrated / "model.onnx", calibrated / "images"
    loader = trtcal.ImageLoader(images, model=calibrated / "model.int8.onnx", count=4)
    report = trtcal.evaluate({"float": model, "int8": calibrated / "model.int8.onnx"}, loader, reference="float")
    rows = require_table(report, ["model", "samples", "agreement", "sqnr_db"])
    assert (rows[0]["sqnr_db"], rows[1]["samples"]) == (None, 4)
    statistics = trtcal.collect(model, trtcal.ImageLoader(images, preprocess="unit", count=4))
    compared = trtcal.compare(model, statistics, loader, methods=["minmax", "entropy"])
    assert {row["method"] for row in require_table(compared)} == {"FP32", "minmax", "entropy"}
    run = trtcal.choose_precisions(model, images, target_sqnr=10, confirm_count=0, **SEARCH)
    assert sum(row["chosen"] for row in require_table(run, ["cost", "reaches", "front"])) == 1
    recovered = trtcal.quantize_recovered(
        model, calibrated / "model.cache", images, steps=["bias-correction"], count=8, test_count=4
    )
    assert [row["step"] for row in require_table(recovered)] == ["float", "quantized", "bias-correction"]
    require_table(trtcal.quantize_dynamic(model), ["layer", "int8", "why"])


@pytest.mark.parametrize("nothing", [[], {}, ""])
def test_a_benchmark_of_nothing_is_refused(nothing):
    with pytest.raises(trtcal.TrtcalError, match="nothing to benchmark"):
        trtcal.benchmark(nothing)
