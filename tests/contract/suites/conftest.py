"""What suites may use; see ../README.md."""

import os
from typing import Any

import pytest

from tests.contract.world import World


@pytest.fixture(scope="session")
def trt() -> Any:
    """NVIDIA's real module."""
    import tensorrt

    assert tensorrt.__version__ == os.environ["TRTCAL_CONTRACT_VERSION"]
    return tensorrt


@pytest.fixture(scope="session")
def version(trt: Any) -> str:
    """Its version."""
    return str(trt.__version__)


@pytest.fixture(scope="session")
def major(version: str) -> int:
    """8, 10 or 11."""
    return int(version.partition(".")[0])


@pytest.fixture
def world(trt: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    """A TensorRT to build and to run with, in place of what needs the libraries."""
    made = World(trt)
    made.install(monkeypatch)
    return made
