"""The command line: assembles the verbs of `trtcal.commands`, turns errors into one line and an exit code."""

import os
import sys
from typing import Annotated

import typer

from calibrators.errors import TrtcalError
from trtcal.commands import accuracy, benchmark, build, cache, calibrate, demo, doctor, inspect, quantize

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

app = typer.Typer(
    name="trtcal",
    help="From a float ONNX model and images to a checked INT8 TensorRT engine.",
    no_args_is_help=True,
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
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """From a float ONNX model and images to a checked INT8 TensorRT engine."""


def main() -> None:
    """Run the command line; exit code 0 done, 1 a check failed, 2 bad usage or bad input, 130 interrupted."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(args=arguments, prog_name="trtcal")
    except TrtcalError as error:
        if debug:
            raise
        sys.stderr.write(f"trtcal: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except SystemExit as left:
        if left.code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt, without a word
            sys.stderr.write("trtcal: interrupted; nothing was written\n")
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
