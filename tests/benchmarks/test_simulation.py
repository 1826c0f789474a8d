"""The table of schemes, on a small network."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_row_for_each_scheme_and_width(job: Path) -> None:
    images = str(job / "images")
    done = run(
        job,
        *(str(job / "model.onnx"), "--images", images, "--test-images", images, "--preprocess", "unit"),
        *("--schemes", "tf,mse", "--bits", "8,4"),
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "FP32" in line or "A8" in line]
    assert [line.split("  ")[0].strip(" │|") for line in lines] == [
        "FP32",
        *("tf, W8A8", "mse, W8A8", "tf, W4A8", "mse, W4A8"),
    ]
    assert "12 images to calibrate on, 12 to measure on" in done.stdout


def test_without_labels_it_says_so(job: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, image in enumerate((job / "images").rglob("*.png")):
        (flat / f"{number}.png").write_bytes(image.read_bytes())
    arguments = [str(job / "model.onnx"), "--images", str(flat), "--test-images", str(flat), "--preprocess", "unit"]
    done = run(job, *arguments, "--schemes", "tf", "--bits", "8")
    assert done.returncode == 2
    assert "no labels" in done.stderr
