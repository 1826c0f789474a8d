"""The command line: assembles the verbs of `trtcal.commands`, turns errors into one line and an exit code."""

import os
import sys
from typing import Annotated

import typer

from calibrators.errors import TrtcalError
from trtcal import __version__
from trtcal.commands import accuracy, benchmark, build, cache, calibrate, demo, doctor, inspect, quantize

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

app = typer.Typer(
    name="trtcal",
    help="From a float ONNX model and images to a checked INT8 TensorRT engine.",
    no_args_is_help=False,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("calibrate")(calibrate.calibrate)
app.command("quantize")(quantize.quantize)
app.command("build")(build.build)
app.command("accuracy")(accuracy.accuracy)
app.command("benchmark")(benchmark.benchmark)
app.add_typer(cache.app, name="cache")
app.command("inspect")(inspect.inspect)
app.command("doctor")(doctor.doctor)


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """From a float ONNX model and images to a checked INT8 TensorRT engine."""
    if version:
        sys.stdout.write(f"trtcal {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main() -> None:
    """Run the command line; exit code 0 done, 1 a check failed, 2 bad usage or bad input, 130 interrupted."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        code = app(args=_repeated(arguments), prog_name="trtcal", standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt, without a word
            raise KeyboardInterrupt
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich and typer make an exit of a reader that has left; we never raise one
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except BaseException as error:
        if debug:
            raise
        said = _said(error)
        if said is None:
            raise
        message, code = said
        sys.stderr.write(f"trtcal: {' '.join(message.split())}\n")
    sys.exit(code if isinstance(code, int) else 0)


def _said(error: BaseException) -> tuple[str, int] | None:
    """One line and an exit code for an error that a user can do something about; None for any other."""
    if isinstance(error, TrtcalError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return "interrupted; no file is half-written", INTERRUPTED
    if hasattr(error, "format_message"):  # what typer says of wrong usage, whichever click it rests on
        command = getattr(getattr(error, "ctx", None), "command_path", "trtcal")
        return f"{error.format_message().rstrip('.')}; see `{command} --help`", 2
    return None


def _repeated(arguments: list[str]) -> list[str]:
    """Let `--statistics-from` take several files in a row: the option is repeated before each."""
    repeated: list[str] = []
    several = False
    for argument in arguments:
        several = argument == FILES or (several and argument.endswith(".npz"))
        if several and argument != FILES and repeated[-1] != FILES:
            repeated.append(FILES)
        repeated.append(argument)
    return repeated


FILES = "--statistics-from"
