"""The verbs of the command line, put together."""

import sys
from typing import Annotated

import typer

from trtcal import __version__
from trtcal.commands import (
    accuracy,
    benchmark,
    build,
    cache,
    cache_convert,
    calibrate,
    compare,
    demo,
    doctor,
    inspect,
    mixed_precision,
    quantize,
    sensitivity,
)

app = typer.Typer(
    name="trtcal",
    help="From a float ONNX model and images to a checked INT8 TensorRT engine.",
    no_args_is_help=False,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo", short_help="Do all of it with a small network and handwritten digits.")(demo.demo)
app.command("calibrate", short_help="Run a model over images and write its calibration cache.")(calibrate.calibrate)
app.command("compare", short_help="Rank range methods on images not calibrated on.")(compare.compare)
app.command("quantize", short_help="Write a cache's scales into a model as Q/DQ nodes.")(quantize.quantize)
app.command("sensitivity", short_help="Say what INT8 does to each layer, and which hurt.")(sensitivity.sensitivity)
app.command("mixed-precision", short_help="Choose the layers to leave in higher precision.")(
    mixed_precision.mixed_precision
)
app.command("build", short_help="Build an engine, and say in which precision it runs.")(build.build)
app.command("accuracy", short_help="Measure the accuracy of models side by side.")(accuracy.accuracy)
app.command("benchmark", short_help="Measure latency and throughput side by side.")(benchmark.benchmark)
caches = typer.Typer(help="Read, judge and convert calibration caches.")
caches.command("convert", short_help="Convert caches, encodings, ranges and Q/DQ models into each other.")(
    cache_convert.convert
)
caches.command("show", short_help="Show a cache's header, origin, scales and ranges.")(cache.show)
caches.command("check", short_help="Check that a cache fits a model.")(cache.check)
app.add_typer(caches, name="cache")
app.command("inspect", short_help="Show the precision of each layer, and what is wrong.")(inspect.inspect)
app.command("doctor", short_help="Tell what this machine has, and what works on it.")(doctor.doctor)


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
