"""`trtcal optimize`: the whole job, to a decided engine."""

from pathlib import Path
from typing import Annotated

import typer

from trtcal.commands import options
from trtcal.tables import console


def optimize(
    model: options.Model,
    *,
    images: options.Images,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write: a new one, an empty one, or that of an earlier run, which goes on where it was.",
            metavar="FOLDER",
            show_default=False,
        ),
    ],
    max_drop: Annotated[
        float,
        typer.Option(
            help="What may be lost against the float model: points of top-1 or of the task's measure; without labels "
            "or annotations, percent of the images with another class, or points of agreement.",
            metavar="POINTS",
        ),
    ] = 1.0,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
    preprocess: options.Preprocess = None,
    precisions: Annotated[
        str, typer.Option(help="Precisions of the engines to choose among.", metavar="NAMES")
    ] = "int8,fp16,fp32",
    backend: options.Backend = "auto",
    shapes: options.Shapes = None,
    count: options.CalibrationCount = 500,
    test_count: options.TestCount = 500,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done and about how long, and stop.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Find the engine to deploy: calibrate, quantize, measure, build, and say why.

    Calibrates once. Where INT8 loses more than --max-drop, it tries in this order, until the bound holds: the range
    method that ranks best, more layers in float, recovery, mixed precision. Each step is judged by up to --test-count
    images that were not calibrated on; whether it holds is then asked of as many others, where there are more.

    Then it builds an engine in each of --precisions. With a GPU it times them, and takes the fastest that holds the
    bound: that may be FP16. Without one, it takes the cheapest by the builder's own record of what runs in which
    precision, and says what is still to be measured, with the commands to type.

    The folder gets the chosen engine, the model with Q/DQ nodes, the cache, the statistics, what was tried, and a
    report: report.html to look at, and report.json. A second run with the same inputs does nothing again that stands.
    Exits with 1 where no engine holds the bound: the best one is written all the same.
    """
    from trtcal.data.split import ImageChoice
    from trtcal.optimization.dry_run import forecast
    from trtcal.optimization.request import Request, checked, precisions_named
    from trtcal.optimization.run import optimized
    from trtcal.optimization.showing import as_dict, show, show_forecast

    choice = ImageChoice(
        images,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        seed=seed,
        on_bad_image=on_bad_image,
        task=options.task_of(task, annotations, confidence),
    )
    names = [name.strip() for name in precisions.split(",") if name.strip()]
    request = Request(model, output, choice, max_drop, precisions_named(names), backend, shapes)
    job = checked(request)
    if dry_run:
        show_forecast(forecast(job), json=json)
        return
    done = optimized(job, step=console.progress)
    if json:
        console.emit_json(as_dict(done))
    else:
        show(done)
    for note in done.notes:
        console.note(f"note: {note}")
    done.require_chosen()
