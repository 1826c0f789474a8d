"""``python -m benchmarks.simulation``: what each scheme of simulated quantization loses, on a model and images."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from calibrators.errors import TrtcalError
from trtcal.measure.measures import Score
from trtcal.tables import console

SCHEMES = ("tf", "tf_enhanced", "percentile", "percentile:99.9", "entropy", "mse", "best")
BITS = "8,4"


def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", show_default=False)],
    *,
    images: Annotated[Path, typer.Option(help="To calibrate on.", metavar="PATH", show_default=False)],
    test_images: Annotated[Path, typer.Option(help="To measure on, labelled.", metavar="PATH", show_default=False)],
    labels: Annotated[Path | None, typer.Option(help="Of the test images.", metavar="FILE", show_default=False)] = None,
    preprocess: Annotated[str | None, typer.Option(metavar="NAME|FILE.toml", show_default=False)] = None,
    schemes: Annotated[str, typer.Option(help="Separated by commas.", metavar="NAMES")] = ",".join(SCHEMES),
    bits: Annotated[str, typer.Option(help="Of weights, separated by commas; activations have 8.")] = BITS,
) -> None:
    """Simulate a classifier by several schemes, and print what each loses; one pass over the test images."""
    from engines.collection.collect import collect
    from engines.graph.model import input_specs, loaded
    from trtcal.data.images import open_images
    from trtcal.measure.accuracy import evaluate
    from trtcal.quantsim.simulator import QuantSim

    inputs = input_specs(loaded(model))
    calibration = open_images(images, inputs, preprocess=preprocess, batch_size=50)
    test = open_images(test_images, inputs, preprocess=preprocess, labels=labels, batch_size=100)
    statistics = collect(model, calibration, tensors="quantizable")
    sims = {}
    for width in map(int, bits.split(",")):
        for scheme in schemes.split(","):
            sim = QuantSim(model, scheme, default_param_bw=width)
            sim.compute_encodings(statistics)
            sims[f"{scheme}, W{width}A8"] = sim
    with console.progress("images", test.count) as advance:
        report = evaluate({"FP32": model, **sims}, test, reference="FP32", progress=advance)
    console.table(
        f"{model.name}, {len(calibration.names)} images to calibrate on, {test.count} to measure on",
        ["version", "top-1 %", "points lost", "SQNR dB"],
        [row(name, score, reference=name == "FP32") for name, score in report.scores.items()],
        numeric=["top-1 %", "points lost", "SQNR dB"],
    )


def row(name: str, score: Score, *, reference: bool) -> list[str]:
    """A version's figures; the FP32 model has none but its accuracy."""
    if not score.top1.total:
        raise TrtcalError("the images have no labels, or the model no class scores: there is no accuracy to measure")
    rest = ["", ""] if reference else [f"{score.drop:.2f}", f"{score.distortion.sqnr:.1f}"]
    return [name, f"{score.top1.percent:.2f}", *rest]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)


if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks.simulation")
    except TrtcalError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        sys.exit(error.exit_code)
