"""The measure's seconds, of a few images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_each_part_and_its_share(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    options = ("--images", "6", "--boxes", "5", "--classes", "2", "--json", str(path))
    command = [sys.executable, "-m", "benchmarks.task_measure", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    *parts, total = figures["seconds"].values()
    assert len(parts) == 3
    assert total == pytest.approx(sum(parts))
    assert figures["inference_seconds"] == pytest.approx(2 * 0.05 * 6)
    assert figures["share"] == pytest.approx(total / figures["inference_seconds"])
    assert "6 images of 5 boxes, 2 classes" in done.stdout
