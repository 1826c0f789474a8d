"""The bar of calibrations that are started from Python."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibrators.tensorrt.progress import shown
from tests.engines.networks import samples_of
from tests.engines.zoo import ZOO
from trtcal import EntropyCalibrator2, build_engine


class Terminal(io.StringIO):
    """What looks like a terminal and keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Makes standard error a terminal; to be called in the test, as pytest sets it anew before."""

    def made() -> Terminal:
        written = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", written)
        return written

    return made


@pytest.mark.parametrize("total", [6, None])
def test_a_terminal_shows_a_bar(at_terminal: Callable[[], Terminal], total: int | None) -> None:
    terminal = at_terminal()
    with shown(None, total) as advance:
        advance(2)
        advance(4)
    assert "Calibrating" in terminal.getvalue()
    assert f"6/{total or '?'}" in terminal.getvalue()


def test_nothing_else_does(capfd: pytest.CaptureFixture[str]) -> None:
    with shown(None, 6) as advance:
        advance(6)
    assert capfd.readouterr() == ("", "")


def test_who_is_told_shows_it_himself(at_terminal: Callable[[], Terminal]) -> None:
    told: list[int] = []
    terminal = at_terminal()
    with shown(told.append, 6) as advance:
        advance(6)
    assert (told, terminal.getvalue()) == ([6], "")


def test_ranges_that_onnx_runtime_collects(at_terminal: Callable[[], Terminal], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    model = ZOO["conv_bn_relu"]().model
    batches = [np.concatenate([sample["x"] for sample in samples_of(model, 6)])]
    terminal = at_terminal()
    build_engine(model, calibrator=EntropyCalibrator2(batches), backend="tensorrt-rtx", output=tmp_path / "m.engine")
    assert "6/6" in terminal.getvalue()
