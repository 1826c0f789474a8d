"""A record: report.json, and what other commands said; nothing in it is ignored in silence."""

import io
import json
import signal
import sys

import pytest

from calibrators.errors import DataError
from tests.trtcal.optimizing import digits_job
from trtcal import cli
from trtcal.report.page import page_of
from trtcal.report.record import load_record, section_of


def run(*words):
    """A command's exit code, standard output and standard error, for fixtures that many tests share."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as left:
        patched.setattr(sys, "argv", ["trtcal", *map(str, words)])
        patched.setattr(sys, "stdout", streams[0])
        patched.setattr(sys, "stderr", streams[1])
        cli.main()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # this process goes on
    for stream in streams:
        stream.flush()
    return int(left.value.code or 0), *(stream.buffer.getvalue().decode() for stream in streams)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What commands say with --json, in files."""
    folder = tmp_path_factory.mktemp("said")
    job = digits_job(folder / "job")
    model, images = job["model"], ["--images", job["images"], "--preprocess", "unit"]
    test = ["--test-images", job["test_images"]]
    cache, int8, engine = folder / "job" / "m.cache", folder / "job" / "m.int8.onnx", folder / "job" / "m.engine"
    commands = {
        "calibration": ["calibrate", model, *images, "-o", cache, "--statistics", folder / "job" / "m.stats.npz"],
        "quantized": ["quantize", model, "--cache", cache, "-o", int8],
        "built": ["build", int8, "-o", engine],
        "engines": ["inspect", engine],
        "structure": ["inspect", int8],
        "accuracy": ["accuracy", model, int8, "--images", job["test_images"], "--preprocess", "unit", "--worst", "3"],
        "compare": ["compare", model, *images, *test, "--methods", "mse,minmax"],
        "sensitivity": ["sensitivity", model, *images, *test, "--test-count", "8"],
        "mixed_precision": [
            "mixed-precision",
            model,
            *images,
            *test,
            "--target-sqnr",
            "37",
            "-o",
            folder / "job" / "m.toml",
        ],
        "benchmark": ["benchmark", model, "--duration", "0.05"],
        "cache": ["cache", "show", cache],
        "machine": ["doctor"],
    }
    for name, words in commands.items():
        code, out, err = run(*words, "--json")
        assert code == 0, err
        (folder / f"{name}.json").write_text(out)
    return folder


def test_each_command_is_recognised_by_what_it_says(said):
    for file in said.glob("*.json"):
        assert section_of(json.loads(file.read_text())) == file.stem, file.name


def test_a_folder_of_them_is_a_record(said):
    found = load_record(said)
    sections = {"accuracy", "compare", "sensitivity", "mixed_precision", "benchmark", "engines"}
    assert sections <= found.record.keys()
    assert len(found.parts) == 12 and not any("not used" in why for why in found.parts.values())


def test_a_page_shows_what_they_say(said):
    pytest.importorskip("vl_convert", reason="vl-convert-python is not installed (extra [report])")
    record = load_record(said).record
    page = page_of(record)
    for name in ("sensitivity", "pareto"):
        assert f'data-spec="spec-{name}"' in page
    points = record["mixed_precision"]["points"]
    assert len(points) > 1 and all(f"{each['cost']:.4g}" in page for each in points)
    for each in (*record["compare"]["methods"], *record["accuracy"]["models"][1:]):
        assert f"{each['sqnr_db']:.4g}" in page
    assert "lone-quantize" in page and "m.engine" in page
    for command in ("calibrate", "quantize", "inspect MODEL.onnx", "cache show", "doctor"):
        assert f"<code>trtcal {command} --json</code></summary>" in page
    assert "left_float.classifier" in page


def test_what_is_no_command_s_is_named(tmp_path):
    (tmp_path / "other.json").write_text('{"hello": 1}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="holds nothing for a report"):
        load_record(tmp_path)
    (tmp_path / "report.json").write_text('{"report": 1, "title": "mine", "verdict": {}}')
    found = load_record(tmp_path)
    assert found.record["title"] == "mine"
    assert found.parts["other.json"] == "not used: no command of trtcal says such JSON"
    assert found.parts["broken.json"].startswith("not used: it cannot be read as JSON")
    assert found.parts["list.json"] == "not used: it holds no JSON object"


def test_what_is_not_there_and_what_is_of_another_version(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_record(tmp_path / "absent")
    (tmp_path / "report.json").write_text('{"report": 99}')
    with pytest.raises(DataError, match="version 99"):
        load_record(tmp_path)


def test_statistics_are_a_record_of_ranges(said):
    found = load_record(said / "job" / "m.stats.npz")
    assert found.record["ranges"]["tensors"]
