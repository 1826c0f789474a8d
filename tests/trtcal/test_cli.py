"""The command line itself: help, exit codes, one line per error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from calibrators.errors import BuildError, CacheMismatchError, CheckFailedError, DataError
from trtcal import verbs

ROOT = Path(__file__).resolve().parents[2]
VERBS = ["demo", "calibrate", "quantize", "build", "accuracy", "benchmark", "compare", "sensitivity"]
VERBS += ["mixed-precision", "cache", "inspect", "doctor", "optimize", "report"]


def commands():
    """Every command with its options, as the program knows them."""
    top = typer.main.get_command(verbs.app)
    found = {}

    def walk(command, path):
        found[path] = command
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*path, name))

    walk(top, ())
    return found


COMMANDS = commands()


def test_the_verbs_are_those_of_the_design():
    assert {path[0] for path in COMMANDS if len(path) == 1} == set(VERBS)
    assert {path[1] for path in COMMANDS if len(path) == 2} >= {"show", "check"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_of_every_command_names_every_option(command, path):
    code, out, err = command(*path, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(['trtcal', *path])} ")
    for parameter in COMMANDS[path].params:
        if parameter.param_type_name == "option":
            assert max(parameter.opts, key=len) in out
            assert parameter.help, f"{parameter.name} has no help"


@pytest.mark.parametrize("path", [(), ("cache",)])
def test_lists_of_commands_are_not_cut_short(command, path):
    listed = command(*path, "--help")[1].split("Commands:\n")[1].splitlines()
    assert len(listed) >= 3
    assert not [line for line in listed if not line.endswith(".") or line.endswith("...")]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_alone_it_shows_its_help(command, arguments):
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["bogus"], "trtcal: No such command 'bogus'; see `trtcal --help`\n"),
        (["--bogus"], "trtcal: No such option: --bogus"),
        (["calibrate", "--bogus"], "trtcal: No such option: --bogus"),
        (["calibrate"], "trtcal: Missing argument 'MODEL.onnx'"),
        (["calibrate", "m.onnx"], "trtcal: Missing option '--output' / '-o'"),
        (["calibrate", "m.onnx", "-o", "m.cache", "--count", "none"], "trtcal: Invalid value for '--count'"),
        (["calibrate", "m.onnx", "-o", "m.cache", "--count", "0"], "trtcal: Invalid value for '--count'"),
        (["calibrate", "m.onnx", "-o", "m.cache", "--tensors", "few"], "trtcal: Invalid value for '--tensors'"),
        (["quantize", "m.onnx", "--cache", "m.cache"], "trtcal: Missing option '--output' / '-o'"),
        (["quantize", "m.onnx", "more.onnx", "-o", "o", "--cache", "c"], "trtcal: Got unexpected extra argument"),
        (["cache", "bogus"], "trtcal: No such command 'bogus'; see `trtcal cache --help`\n"),
    ],
)
def test_bad_usage_is_one_line_and_2(command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert "--help`" in err


class TestErrors:
    """What a verb raises, for one verb whose work is replaced."""

    @pytest.fixture
    def failing(self, command, monkeypatch):
        def run(error, *arguments):
            def work():
                raise error

            app = typer.Typer(pretty_exceptions_enable=False)
            app.command("work")(work)
            app.callback()(lambda: None)
            monkeypatch.setattr(verbs, "app", app)
            return command(*arguments, "work")

        return run

    @pytest.mark.parametrize(
        "error, code", [(DataError, 2), (BuildError, 2), (CheckFailedError, 1), (CacheMismatchError, 1)]
    )
    def test_one_line_and_the_kinds_exit_code(self, failing, error, code):
        assert failing(error("what, where:\n  what to do")) == (code, "", "trtcal: what, where: what to do\n")

    def test_ctrl_c(self, failing):
        code, out, err = failing(KeyboardInterrupt())
        assert (code, out) == (130, "")
        assert err == "trtcal: interrupted; no file is half-written\n"

    @pytest.mark.parametrize("error, code", [(DataError, 2), (CheckFailedError, 1)])
    def test_debug_shows_where_and_keeps_the_exit_code(self, failing, error, code):
        got, out, err = failing(error("what"), "--debug")
        assert (got, out) == (code, "")
        assert ", in work\n" in err
        assert err.endswith(f"{error.__name__}: what\n")

    def test_a_path_that_the_system_refuses(self, failing):
        with pytest.raises(OSError, match="too long") as caught:
            Path("x" * 5000).stat()
        assert failing(caught.value) == (
            2,
            "",
            f"trtcal: cannot use {'x' * 5000}: File name too long; give another path\n",
        )

    def test_what_nobody_foresaw_comes_out_as_it_is(self, failing):
        with pytest.raises(ZeroDivisionError):
            failing(ZeroDivisionError())


def program(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from trtcal.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, env=environment, text=True, check=False, **options)


@pytest.mark.parametrize("place", [0, 3])
def test_debug_shows_the_traceback_wherever_it_stands(place, tmp_path):
    arguments = ["quantize", tmp_path / "missing.onnx", "--cache", tmp_path / "no.cache", "-o", tmp_path / "o.onnx"]
    quiet = program(*arguments, capture_output=True)
    assert quiet.returncode == 2
    assert quiet.stderr.count("\n") == 1
    loud = program(*arguments[:place], "--debug", *arguments[place:], capture_output=True)
    assert loud.returncode == 2
    assert "Traceback (most recent call last):" in loud.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    cache = tmp_path / "long.cache"
    cache.write_text("TRT-8601-EntropyCalibration2\n" + "".join(f"t{place}: 3c010204\n" for place in range(20000)))
    read, write = os.pipe()
    os.close(read)
    result = program("cache", "show", cache, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")
