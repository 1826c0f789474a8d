"""The verbs of the command line, put together."""

import sys
from typing import Annotated

import typer

from trtcal import __version__
from trtcal.commands import accuracy, benchmark, build, cache, calibrate, demo, doctor, inspect, quantize

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
