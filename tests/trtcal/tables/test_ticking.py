"""Lines that tell how far the work is, where there is no terminal. No test waits for ten seconds."""

import io
import re
import sys
import threading
import time

import pytest

from trtcal.tables import console
from trtcal.tables.ticking import EVERY, TICKING, Step, Ticking, duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Step("Calibrating", 100, 500), "Calibrating: 0 of 500, 40 s so far"),
        (Step("Calibrating", 100, 500, done=100), "Calibrating: 100 of 500, 40 s so far, about 2 min 40 s left"),
        (Step("Building", 100), "Building, 40 s so far"),
        (Step("Measuring", 100, seconds=60), "Measuring, 40 s so far, about 20 s left"),
        (Step("Measuring", 100, seconds=30), "Measuring, 40 s so far"),
    ],
)
def test_a_line_says_what_is_done_and_what_is_left(step, line):
    assert step.line(140) == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_innermost_step_is_told_of_that_is_not_over():
    clock, said = Clock(), []
    ticking = Ticking(clock=clock, tell=said.append)
    whole = Step("at work", clock.now)
    with ticking.step("Building") as building:
        building.what = "Building: Parsing"
        with ticking.step("Calibrating", 4) as calibrating:
            clock.now += 10
            calibrating.advance(2)
            ticking.tell(whole)
            calibrating.advance(2)
            ticking.tell(whole)
    clock.now += 10
    ticking.tell(whole)
    assert said == [
        "Calibrating: 2 of 4, 10 s so far, about 10 s left",
        "Building: Parsing, 10 s so far",
        "at work, 20 s so far",
    ]


def test_lines_come_while_it_is_on_and_none_after():
    said = []
    enough = threading.Event()

    def tell(line):
        said.append(line)
        if len(said) >= 3:
            enough.set()

    ticking = Ticking(every=0.01, tell=tell)
    before = threading.active_count()
    with ticking.on(), ticking.step("Counting", 7):
        assert enough.wait(10)
    assert threading.active_count() == before
    count = len(said)
    assert all(line.startswith("Counting: 0 of 7, ") for line in said[:3])
    time.sleep(0.05)
    assert len(said) == count


def test_short_work_says_nothing(capsys):
    assert TICKING.every == EVERY == 10
    with TICKING.on(), console.progress("Counting", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_bars_instead(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    said = []
    with Ticking(every=0.001, tell=said.append).on():
        time.sleep(0.02)
    assert said == []


def test_an_error_ends_the_thread_and_closed_streams_are_no_failure(monkeypatch):
    closed = io.StringIO()
    closed.close()
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Ticking(every=0.001).on():
        monkeypatch.setattr(sys, "stderr", closed)
        time.sleep(0.02)
        raise ZeroDivisionError
    assert threading.active_count() == before


class TestOfCommands:
    """Every line is on standard error, and standard output stays what it was."""

    @pytest.fixture(autouse=True)
    def quickly(self, command, monkeypatch):
        monkeypatch.setattr(TICKING, "every", 0.001)

    def lines(self, err, what):
        return [line for line in err.splitlines() if re.match(rf"{what}(: \d+ of \d+)?, \d+ s so far", line)]

    def test_calibrate(self, command, job):
        arguments = ["--images", job / "images", "--preprocess", "unit", "-o", job / "m.cache", "--json"]
        code, out, err = command("calibrate", job / "model.onnx", *arguments)
        assert (code, out[0]) == (0, "{")
        assert self.lines(err, "Calibrating")

    @pytest.mark.parametrize(
        ("verb", "steps"),
        [("sensitivity", ["Calibrating", "Comparing layers", "Trying layers"]), ("compare", ["Comparing"])],
    )
    def test_searches(self, command, job, verb, steps):
        code, out, err = command(verb, job / "model.onnx", "--images", job / "images", "--preprocess", "unit")
        assert code == 0
        assert "so far" not in out
        assert all(self.lines(err, step) for step in steps)

    def test_accuracy_and_benchmark(self, command, job):
        _, _, err = command("accuracy", job / "model.onnx", "--images", job / "images", "--preprocess", "unit")
        assert self.lines(err, "Measuring accuracy")
        code, _, err = command("benchmark", job / "model.onnx", "--duration", "0.1")
        assert code == 0
        assert self.lines(err, r"Measuring 1 model\(s\) for 0.1 s each, after a warm-up")

    def test_build(self, command, job):
        pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
        arguments = ["--precision", "fp32", "--backend", "tensorrt-rtx", "-o", job / "m.engine"]
        code, _, err = command("build", job / "model.onnx", *arguments)
        assert code == 0
        assert self.lines(err, "Building with tensorrt-rtx: .+")
