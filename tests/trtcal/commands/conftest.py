"""Fixtures of the commands' tests."""

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.trtcal.gathering import calibrate_plainly


@pytest.fixture
def calibrated(command: Command, job: Path) -> Path:
    """The job with its cache, `model.cache`, and its statistics, `model.npz`."""
    options = ["--images", job / "images", "--preprocess", "unit", "--statistics", job / "model.npz"]
    calibrate_plainly(command, job, job / "model.cache", *options)
    return job
