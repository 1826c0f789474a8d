"""The command, end to end on four images."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> "tuple[subprocess.CompletedProcess[str], dict[str, Any]]":
    path = tmp_path_factory.mktemp("figures") / "figures.json"
    options = ("--models", "mobilenetv2", "--images", "4", "--rounds", "1", "--no-peers")
    process = command(*options, "--markdown", "--json", str(path))
    assert process.returncode == 0, process.stderr
    return process, json.loads(path.read_text())


@pytest.mark.slow
def test_every_figure_is_in_the_json(done: "tuple[subprocess.CompletedProcess[str], dict[str, Any]]") -> None:
    figures = done[1]
    assert figures["settings"] == {"models": ["mobilenetv2"], "images": 4, "rounds": 1, "peers_images": 0}
    assert {"processor", "cores", "memory", "python", "numpy", "onnx", "onnxruntime", "numba"} <= set(
        figures["machine"]
    )
    assert "?" not in figures["machine"].values()
    assert len(figures["help"]["runs"]) == 10
    assert figures["help"]["seconds"] > 0
    assert set(figures["start_up_seconds"]) == {"compiling", "loading"}
    model = figures["models"]["mobilenetv2"]
    assert (model["nodes"], model["tensors"]) == (100, 101)
    assert list(model["calibration"]) == ["fetch", "entropy", "quantizable", "decode", "files"]
    for task, times in model["calibration"].items():
        parts = {"ratio", "seconds", "floor"} | (set() if task in ("fetch", "decode") else {"collect", "search"})
        assert set(times) == parts | {"rounds"}
        assert {name: len(each) for name, each in times["rounds"].items()} == dict.fromkeys(parts, 1)
        assert all(times[name] > 0 for name in parts)
    assert set(model["memory_mb"]) == {"inference", "entropy"}
    assert all(set(peaks) == {"1", "4"} and min(peaks.values()) > 20 for peaks in model["memory_mb"].values())
    peaks = model["memory_mb"]["entropy"]
    assert model["memory_growth"] == pytest.approx(peaks["4"] / peaks["1"])
    assert {"entropy", "minmax"} <= set(model["search"])
    assert all(search["tensors"] == 101 and search["median_ms"] > 0 for search in model["search"].values())
    assert model["onnxruntime"] == {"calibration": {}, "memory_mb": {}, "search_by_bins": {}}


@pytest.mark.slow
def test_tables_come_out_in_markdown_and_progress_on_standard_error(
    done: "tuple[subprocess.CompletedProcess[str], dict[str, Any]]",
) -> None:
    process, figures = done
    titles = [line.strip("*") for line in process.stdout.splitlines() if line.startswith("**")]
    words = [title.split()[0].rstrip(",") for title in titles]
    assert words == ["Machine", "Wall", "Peak", "Threshold", "Start", "Targets"]
    table = [
        line.strip("| ").split(" | ")
        for line in process.stdout.splitlines()
        if line.startswith("| mobilenetv2 | trtcal entropy |")
    ]
    ratio = figures["models"]["mobilenetv2"]["calibration"]["entropy"]["ratio"]
    assert f"{ratio:.2f}" in table[0]
    assert "onnxruntime Entropy" not in process.stdout
    assert "mobilenetv2: peak memory" in process.stderr
    assert "too few rounds" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "resnet50,vgg16"], "there is no model 'vgg16' to make: choose among resnet50, mobilenetv2"),
        (["--models", ""], "there is no model '' to make"),
        (["--json", "missing/figures.json"], "the folder missing does not exist"),
        (["--images", "0"], "--images"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_bad_usage_is_told_before_any_work(arguments: list[str], message: str) -> None:
    process = command(*arguments)
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
