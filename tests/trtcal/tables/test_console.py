"""What a terminal shows, and what a pipe gets."""

import io
import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.tables import console

LONG = "/layer1/0/downsample/downsample.1/BatchNormalization_output_0_QuantizeLinear"


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


def test_a_pipe_gets_everything_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("T", ("name", "what", "n"), [(LONG, "word " * 80, "1.5")], numeric=("n",), optional=("what",))
    console.note("long " * 50)
    output = capsys.readouterr()
    assert output.out.startswith("T\n")
    assert rows(output.out) == [[LONG, ("word " * 80).strip(), "1.5"]]
    assert output.err == "long " * 50 + "\n"


@pytest.mark.parametrize("width", [50, 64, 80, 100, 140])
def test_numbers_are_never_broken(
    width: int, capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]
) -> None:
    terminal(width)
    console.table("", ("name", "a", "b"), [(LONG, "1234.567", "89.012"), ("x", "0.001", "-7")], numeric=("a", "b"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    first, second = rows(out)
    assert (first[1:], second) == (["1234.567", "89.012"], ["x", "0.001", "-7"])
    assert first[0] == LONG if width >= 100 else re.fullmatch(r"/layer1/0\S*…\S*Linear", first[0])


def test_numbers_that_need_more_than_the_terminal_still_stay_whole(
    capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]
) -> None:
    terminal(30)
    numbers = [f"{number}.123456" for number in range(8)]
    console.table("", ("name", *numbers), [(LONG, *numbers)], numeric=numbers)
    (row,) = rows(capsys.readouterr().out)
    assert row[1:] == numbers


def test_optional_columns_go_first(capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]) -> None:
    for width, cells in ((80, ["name", "1", "more"]), (16, ["name", "1"])):
        terminal(width)
        console.table("", ("name", "n", "else"), [("name", "1", "more")], numeric=("n",), optional=("else",))
        assert rows(capsys.readouterr().out) == [cells]


def test_a_legend_takes_names_that_have_no_room(
    capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]
) -> None:
    terminal(30)
    console.table("", ("model", "n"), [(LONG, "1234.56789"), ("b", "2")], numeric=("n",), legend=True)
    out = capsys.readouterr().out
    assert rows(out) == [["1", "1234.56789"], ["2", "2"]]
    assert out.splitlines()[-2:] == [f"1: {LONG}", "2: b"]


def test_lines_wrap_at_words_in_a_terminal(capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]) -> None:
    terminal(40)
    message = f"note: --on-bad-image skips images that cannot be read, such as {LONG}; see --help"
    for print_line in (console.note, console.say):
        print_line(message)
    output = capsys.readouterr()
    assert output.out == output.err
    assert output.out.split() == message.split()
    assert all(len(line) <= 40 or line.startswith(LONG) for line in output.out.splitlines())


@given(st.text(alphabet="ab/ \n", max_size=60), st.integers(3, 20))
def test_cutting_shortens_long_words_and_no_others(text: str, longest: int) -> None:
    cut = console.cut(text, longest)
    assert len(cut.split()) == len(text.split())
    for before, after in zip(text.split(), cut.split(), strict=True):
        assert after == before if len(before) <= longest else (len(after), "…" in after) == (longest, True)


def test_stages_and_a_bar_in_a_terminal(
    capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(100)
    monkeypatch.setenv("TERM", "xterm")  # where nothing can be drawn over, nothing is shown
    with console.staged_progress("Building") as stages:
        stages.stage("Tactics [of] layer\x1b[31m")
        advance = stages.count("Calibrating", 40)
        advance(15)
        advance(10)
    err = capsys.readouterr().err
    assert "Building: Tactics [of] layer\\x1b[31m" in err
    assert "Calibrating" in err
    assert "25/40" in err


def test_stages_are_silent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with console.staged_progress("Building") as stages:
        stages.stage("Tactics")
        stages.count("Calibrating", 40)(15)
    assert capsys.readouterr() == ("", "")


def test_json_has_neither_nan_nor_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit_json({"a": [1.5, float("nan")], "b": (float("inf"), {"c": -float("inf")}), "d": True})
    assert json.loads(capsys.readouterr().out) == {"a": [1.5, None], "b": [None, {"c": None}], "d": True}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr("sys.stdout", stream)
    console.emit_json({"é": "ж\udc80"})
    stream.seek(0)
    assert json.loads(stream.read()) == {"é": "ж\udc80"}
