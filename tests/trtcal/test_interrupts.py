"""Ctrl-C and SIGTERM, at any moment: one line and exit code 130."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from calibrators.errors import ModelError
from calibrators.tensorrt.interrupts import Interrupts, postponed
from trtcal import verbs

ROOT = Path(__file__).resolve().parents[2]

SAID = "trtcal: interrupted; no file is half-written\n"

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def working(command, monkeypatch):
    """Runs a verb that does this work."""

    def run(work):
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command("work")(work)
        app.callback()(lambda: None)
        monkeypatch.setattr(verbs, "app", app)
        return command("work")

    return run


@SIGNALS
@pytest.mark.parametrize("kind", [RuntimeError, ImportError, SystemExit, ModelError, BrokenPipeError])
def test_what_a_library_makes_of_an_interrupt_is_one(working, number, kind):
    def work():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise kind("CPU dispatcher tracer already initialized") from error

    assert working(work) == (130, "", SAID)


@SIGNALS
def test_either_interrupts_and_leaves_the_handlers_as_they_were(working, number):
    before = signal.getsignal(signal.SIGTERM)
    assert working(lambda: signal.raise_signal(number)) == (130, "", SAID)
    assert signal.getsignal(signal.SIGTERM) is before


@SIGNALS
def test_either_waits_for_what_is_done_in_one_go(working, number):
    done = []

    def work():
        with postponed():
            signal.raise_signal(number)
            done.append("all of it")

    assert working(work) == (130, "", SAID)
    assert done == ["all of it"]


@SIGNALS
def test_either_is_reported_where_another_language_would_lose_it(working, number):
    reported = []

    def work():
        interrupts = Interrupts(reported.append)
        try:
            signal.raise_signal(number)
        finally:
            interrupts.end()

    assert working(work) == (130, "", SAID)
    assert [type(error) for error in reported] == [KeyboardInterrupt]


@SIGNALS
def test_one_that_comes_in_a_callback_is_not_lost(working, number):
    """As in those of the import system, where Python drops an exception."""

    class Dropping:
        def __del__(self):
            signal.raise_signal(number)

    def work():
        Dropping()
        time.sleep(60)

    assert working(work) == (130, "", SAID)


def test_sigterm_where_ctrl_c_is_ignored(working):
    """As behind `nohup`, or in the background of a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert working(lambda: signal.raise_signal(signal.SIGTERM)) == (130, "", SAID)


def test_an_error_without_an_interrupt_is_told(working):
    def work():
        raise ModelError("the model is damaged")

    assert working(work) == (2, "", "trtcal: the model is damaged\n")


@SIGNALS
@pytest.mark.parametrize("seconds", [0, 0.2, 0.6])
def test_an_early_one_in_a_real_process(number, seconds, job):
    program = "from trtcal.cli import main; print('here', flush=True); main()"
    words = ["calibrate", job / "model.onnx", "--images", job / "images", "-o", job / "out"]
    for _ in range(5):  # on a busy machine the work may be done before the signal comes
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        time.sleep(0.05 + seconds)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        if process.returncode != 0:
            break
        for path in job.glob("out*"):
            path.unlink()
    assert (process.returncode, err) == (130, SAID)
    assert sorted(path.name for path in job.iterdir()) == ["images", "model.onnx"]
