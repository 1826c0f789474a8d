"""The commands put together: help in short, an example for each, and completion in the shell."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from trtcal.verbs import app

ROOT = Path(__file__).resolve().parents[2]


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and its name, in parts."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def _written(example: str) -> str | None:
    """What it writes, if it does."""
    words = shlex.split(example)
    return next((words[at + 1] for at, word in enumerate(words) if word in ("-o", "--output")), None)


EVERY = [*commands(typer.main.get_command(app))]


@pytest.mark.parametrize(("path", "leaf"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
class TestEachCommand:
    def test_has_an_example_that_parses(self, path, leaf):
        """To its last option: what it would do with the files is what the pages of docs/ try."""
        (line,) = [line.strip() for line in leaf.epilog.splitlines() if line.strip().startswith("trtcal ")]
        program, *arguments = shlex.split(line)
        assert (program, tuple(arguments[: len(path)])) == ("trtcal", path)
        context = leaf.make_context(" ".join(path), arguments[len(path) :])
        assert len(arguments) == len(path) or any(value is not None for value in context.params.values())

    def test_writes_over_no_file_of_another_example(self, path, leaf):
        written = [_written(each.epilog) for _, each in EVERY if each is not leaf]
        assert _written(leaf.epilog) is None or _written(leaf.epilog) not in written

    def test_shows_it_unbroken_below_its_help(self, path, leaf, command, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        code, out, err = command(*path, "-h")
        assert (code, err) == (0, "")
        shown = [line.strip() for line in out.splitlines()[-2:]]
        assert shown == ["Example:", leaf.epilog.splitlines()[-1].strip()]
        assert command(*path, "--help") == (code, out, err)


def test_short_help_of_the_whole(command):
    code, out, _ = command("-h")
    assert code == 0
    assert out == command("--help")[1] == command()[1]
    assert "-h, --help" in out
    assert "--install-completion" in out


@pytest.fixture
def shell(tmp_path):
    """Runs a script in bash, where `trtcal` is this tree's; its home folder is empty."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "trtcal").write_text(f"#!{sys.executable}\nfrom trtcal.cli import main\n\nmain()\n")
    (programs / "trtcal").chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    (tmp_path / "home").mkdir()

    def run(script: str) -> str:
        done = subprocess.run(
            [bash, "-c", f"{script}\nexit $?"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_completion_in_bash(shell, tmp_path):
    """Installed as a user does, then asked as bash asks: commands, options and their values."""
    assert "bash completion installed" in shell("trtcal --install-completion")
    (script,) = (tmp_path / "home" / ".bash_completions").iterdir()
    asked = (
        f"source {shlex.quote(str(script))}\n"
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _trtcal_completion trtcal; echo ${COMPREPLY[@]}; }\n'
    )
    assert shell(f"{asked} ask trtcal qu").split() == ["quantize"]
    assert shell(f"{asked} ask trtcal cache c").split() == ["convert", "check"]
    assert shell(f"{asked} ask trtcal calibrate --tensors ''").split() == ["all", "quantizable"]


@pytest.mark.parametrize(
    "variables",
    [
        {"_TRTCAL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "trtcal qu"},
        {
            "_TRTCAL_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": "trtcal qu",
        },
    ],
    ids=["zsh", "fish"],
)
def test_completion_as_other_shells_ask(shell, variables):
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    assert "quantize" in shell(f"{given} trtcal")
