"""`trtcal compare`: every range method from one pass over the images, ranked on others."""

from pathlib import Path
from typing import Annotated

import typer

from trtcal.commands import options
from trtcal.tables import console


def compare(
    model: options.Model,
    *,
    images: options.Images,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    methods: Annotated[
        str | None,
        typer.Option(
            help=f"The methods to compare (default: all): {options.METHODS}.", metavar="A,B,C", show_default=False
        ),
    ] = None,
    preprocess: options.Preprocess = None,
    count: options.CalibrationCount = 500,
    test_count: options.TestCount = 500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    statistics: options.Statistics = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the winner's cache; its side-car is FILE.json.",
            metavar="MODEL.cache",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Derive ranges by every method from one pass over some images, and rank the INT8 models on other images.

    The images to rank on are none of those calibrated on, nor copies of them; a folder that is too small for both is
    divided. Each method's ranges are written into the model as Q/DQ nodes, which run in ONNX Runtime beside the float
    model. With labels methods rank by top-1, else by agreement (the share of images for which the float model chooses
    the same class); with --task by that task's measure, such as mAP; else by SQNR alone (how far the worst output is
    from the float model's, in dB). Methods whose difference may be chance, by its 95 % interval, are tied: they share a
    rank, and the higher SQNR comes first.

    drop is in points of top-1, against the float model; lost are images that it gets right and the INT8 model wrong,
    gained the other way round; ranges is the time that a method took to find its ranges.
    """
    from engines.graph.model import load_model
    from trtcal.analysis.comparison import named
    from trtcal.analysis.selection import compare_images
    from trtcal.data.split import ImageChoice
    from trtcal.tables.comparison import as_dict, say_notes, show

    chosen = named(None if methods is None else [name.strip() for name in methods.split(",")])
    options.require_calibration_outputs(
        model, output, statistics, inputs=[images, test_images, labels, annotations, preprocess]
    )
    load_model(model, weights=False)
    choice = ImageChoice(
        images,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
        task=options.task_of(task, annotations, confidence),
    )
    found = compare_images(model, choice, methods=chosen, step=console.progress)
    if statistics is not None:
        found.statistics.save(statistics)
    if output is not None:
        found.comparison.winner.cache.save(output)
    if json:
        console.emit_json(as_dict(model, found, output=output, statistics=statistics))
    else:
        show(found)
        if output is not None:
            console.say(f"{output}: {len(found.comparison.winner.cache)} tensors by {found.comparison.winner.method}")
        if statistics is not None:
            console.say(f"statistics: {statistics}")
    say_notes(found, stated=preprocess is not None)
