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
    optimize,
    quantize,
    report,
    sensitivity,
)

app = typer.Typer(
    name="trtcal",
    help="From a float ONNX model and images to a checked INT8 TensorRT engine.",
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _example(line: str) -> str:
    """How a command is used, below its help; the mark keeps click from wrapping it."""
    return f"\b\nExample:\n  {line}"


app.command(
    "demo",
    short_help="Do all of it with a small network and handwritten digits.",
    epilog=_example("trtcal demo --output trtcal-demo"),
)(demo.demo)
app.command(
    "optimize",
    short_help="Find the engine to deploy, within a bound, and say why.",
    epilog=_example("trtcal optimize model.onnx --images photos --preprocess imagenet --max-drop 1 -o optimized"),
)(optimize.optimize)
app.command(
    "calibrate",
    short_help="Run a model over images and write its calibration cache.",
    epilog=_example("trtcal calibrate model.onnx --images photos --preprocess imagenet -o model.cache"),
)(calibrate.calibrate)
app.command(
    "compare",
    short_help="Rank range methods on images not calibrated on.",
    epilog=_example("trtcal compare model.onnx --images photos --preprocess imagenet -o best.cache"),
)(compare.compare)
app.command(
    "quantize",
    short_help="Write a cache's scales into a model as Q/DQ nodes.",
    epilog=_example("trtcal quantize model.onnx --cache model.cache -o model.int8.onnx"),
)(quantize.quantize)
app.command(
    "sensitivity",
    short_help="Say what INT8 does to each layer, and which hurt.",
    epilog=_example("trtcal sensitivity model.onnx --images photos --preprocess imagenet"),
)(sensitivity.sensitivity)
app.command(
    "mixed-precision",
    short_help="Choose the layers to leave in higher precision.",
    epilog=_example("trtcal mixed-precision model.onnx --images photos --max-drop 0.5 -o mixed.toml"),
)(mixed_precision.mixed_precision)
app.command(
    "build",
    short_help="Build an engine, and say in which precision it runs.",
    epilog=_example("trtcal build model.onnx --cache model.cache -o model.engine"),
)(build.build)
app.command(
    "accuracy",
    short_help="Measure the accuracy of models side by side.",
    epilog=_example("trtcal accuracy model.onnx model.int8.onnx --images photos --max-drop 1"),
)(accuracy.accuracy)
app.command(
    "benchmark",
    short_help="Measure latency and throughput side by side.",
    epilog=_example("trtcal benchmark model.onnx model.int8.onnx --batch-size 8"),
)(benchmark.benchmark)
caches = typer.Typer(help="Read, judge and convert calibration caches.")
caches.command(
    "convert",
    short_help="Convert caches, encodings, ranges and Q/DQ models into each other.",
    epilog=_example("trtcal cache convert model.int8.onnx -o old.cache --tensorrt-version 8.6.1"),
)(cache_convert.convert)
caches.command(
    "show",
    short_help="Show a cache's header, origin, scales and ranges.",
    epilog=_example("trtcal cache show model.cache --sort scale"),
)(cache.show)
caches.command(
    "check", short_help="Check that a cache fits a model.", epilog=_example("trtcal cache check model.onnx model.cache")
)(cache.check)
app.add_typer(caches, name="cache")
app.command(
    "inspect",
    short_help="Show the precision of each layer, and what is wrong.",
    epilog=_example("trtcal inspect model.engine --kernels"),
)(inspect.inspect)
app.command(
    "report",
    short_help="Write one page of what was measured, or of two runs.",
    epilog=_example("trtcal report optimized"),
)(report.report)
app.command("doctor", short_help="Tell what this machine has, and what works on it.", epilog=_example("trtcal doctor"))(
    doctor.doctor
)


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
