"""Fixtures of the commands' tests."""

from pathlib import Path

import pytest

from tests.conftest import Command


@pytest.fixture
def calibrated(command: Command, job: Path) -> Path:
    """The job with its cache, `model.cache`, and its statistics, `model.npz`."""
    options = ["--images", job / "images", "--preprocess", "unit", "--statistics", job / "model.npz"]
    assert (
        command(
            "calibrate",
            job / "model.onnx",
            *options,
            "--method",
            "entropy",
            "--float-budget",
            0,
            "-o",
            job / "model.cache",
        )[0]
        == 0
    )
    return job
