"""Fixtures that every test may use."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from calibrators.cuda.device import open_cuda
from calibrators.cuda.protocols import Cuda
from calibrators.errors import DeviceError, MissingDependencyError
from trtcal import cli
from trtcal.tables.ticking import TICKING

# A slow or busy machine is no failure.
settings.register_profile("trtcal", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trtcal")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

Command = Callable[..., tuple[int, str, str]]


def pytest_configure() -> None:
    """Processes of tests side by side have cores of their own: threads that wait for others on shared ones are slow."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if worker and count and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        place = int(worker.removeprefix("gw"))
        os.sched_setaffinity(0, set(cores[place :: int(count)]) or {cores[place % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a module that imports PyTorch tests has the marker `torch`."""
    for item in items:
        if hasattr(getattr(item, "module", None), "torch"):
            item.add_marker(pytest.mark.torch)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real third-party models, caches and images beside the checkout; tests skip where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("no real data beside the checkout (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def gpu() -> Cuda:
    """This machine's GPU, for tests marked `gpu`; they skip, with the reason, where none can be used."""
    try:
        return open_cuda()
    except (DeviceError, MissingDependencyError) as error:
        pytest.skip(f"needs a GPU: {error}")


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where PyTorch computes: here, and on a GPU."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU: PyTorch sees none")
    return str(request.param)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `trtcal ...` in this process; gives the exit code, standard output and standard error.

    Without the lines that tell how far long work is, as a slow or busy machine is no failure.
    """
    monkeypatch.setattr(TICKING, "every", 3600.0)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trtcal", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # this process goes on
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output and standard error a terminal of so many columns, without colours."""

    def of(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "dumb")
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)

    return of


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with a small classifier, `model.onnx`, and twelve images of its size, `images/{cat,dog}/*.png`.

    The other folders, of the further classes that it has, hold none.
    """
    import onnx
    from PIL import Image

    from tests.engines.networks import classifier

    onnx.save(classifier(), tmp_path / "model.onnx")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    for number in range(2, 16):
        (tmp_path / "images" / f"other{number}").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as in a terminal: a shell's background jobs, and what they start, begin with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
