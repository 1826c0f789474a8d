"""`trtcal calibrate`: from images to a calibration cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calibrators.errors import DataError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from trtcal.tables.calibration import Calibrated

_CALIBRATION = ("preprocess", "count", "batch_size", "seed", "tensors", "on_bad_image")

_JUDGING = ("task", "annotations", "confidence")


def calibrate(
    context: typer.Context,
    model: options.Model,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The cache to write; its side-car is FILE.json.",
            metavar="MODEL.cache",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="A folder of images, or arrays: .npz or .npy.", metavar="PATH", show_default=False),
    ] = None,
    method: options.MethodOrAuto = options.AUTO,
    float_budget: options.FloatBudget = 5.0,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    preprocess: options.Preprocess = None,
    count: options.Count = 500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    tensors: Annotated[
        Literal["all", "quantizable"],
        typer.Option(
            help="Every float activation, as TensorRT's calibrators need them, or only those that Q/DQ nodes need."
        ),
    ] = "all",
    on_bad_image: options.OnBadImage = "error",
    statistics: options.Statistics = None,
    statistics_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="Kept statistics instead of --images and what goes with images; those of several shards merge.",
            metavar="FILE.npz...",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run the model over images on the CPU and write its calibration cache, in TensorRT's own format.

    Images are run one at a time, so that the result depends neither on the batch size nor on the number of processor
    cores.

    Where nothing is asked for, trtcal chooses what measures best. --method auto judges a few range methods by the worst
    output of the model in INT8, on 32 of 256 or more images while the others give the ranges, and takes the best; the
    ranges that are written are that method's from all images. With --task it ranks every method by the task's measure
    instead, on up to 500 further images, as `trtcal compare` does. --method entropy is what TensorRT's own calibrator
    does. Layers that cost the outputs most stay in float, as far as --float-budget has room for them: the side-car
    names each with its reason, and quantize and build obey it.
    """
    from engines.graph.model import load_model
    from trtcal.analysis.auto_method import require_method
    from trtcal.choice.calibration import calibrate_images
    from trtcal.data.split import ImageChoice
    from trtcal.tables.calibration import Calibrated, as_dict, say_images, show

    require_method(method)
    read = [images, annotations, preprocess, *(statistics_from or [])]
    options.require_calibration_outputs(model, output, statistics, inputs=read)
    if (images is None) == (not statistics_from):
        raise DataError("give either --images or --statistics-from: one of them says what to calibrate on")
    if images is None:
        options.require_no_calibration(context, (*_CALIBRATION, "float_budget", *_JUDGING))
    if method != options.AUTO:
        options.require_no_calibration(context, _JUDGING, goes_with="--method auto, which judges methods by a task")
    judged_by = options.stated_task(context, task, annotations, confidence)
    load_model(model, weights=False)
    if images is None:
        done = _merged(model, statistics_from or [], method)
    else:
        choice = ImageChoice(
            images,
            preprocess=preprocess,
            count=count,
            batch_size=batch_size,
            seed=seed,
            on_bad_image=on_bad_image,
            task=judged_by,
        )
        chosen = calibrate_images(
            model, choice, method=method, float_budget=float_budget, tensors=tensors, step=console.progress
        )
        done = Calibrated.by(chosen)
    if statistics is not None:
        done.statistics.save(statistics)
    done.cache.save(output)
    if json:
        console.emit_json({"cache": str(output), **as_dict(done), "statistics": statistics and str(statistics)})
    else:
        show(output, done)
        if statistics is not None:
            console.say(f"statistics: {statistics}")
    say_images(done, stated=preprocess is not None)
    for line in done.notes:
        console.note(f"note: {line}")


def _merged(model: Path, files: list[Path], method: str) -> "Calibrated":
    from calibrators.methods.names import DEFAULT
    from calibrators.ranges import calibrate
    from calibrators.statistics.file import merged_files
    from trtcal.pipeline import require_same_model
    from trtcal.tables.calibration import Calibrated

    statistics = merged_files(files)
    require_same_model(statistics, model)
    if method == options.AUTO:
        method = DEFAULT
        console.note(f"note: ranges by {method}: statistics hold no images to judge methods on; --method names another")
    console.note("note: no layer was tried in float, as statistics hold no images to try it on: all will be in INT8")
    return Calibrated(statistics, calibrate(statistics, method), method)
