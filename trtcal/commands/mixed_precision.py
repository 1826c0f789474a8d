"""`trtcal mixed-precision`: which layers to leave in higher precision for a target accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from calibrators.errors import CheckFailedError, DataError, OutputError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.inspection.layer_times import Precision
    from trtcal.precision.ladders import Candidate


def mixed_precision(
    model: options.Model,
    *,
    images: options.Images,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Points of top-1, or of the task's measure, that may be lost against the float model; of class scores "
            "without labels, percent of images of another class than its own.",
            metavar="POINTS",
            show_default=False,
        ),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(
            help="Or the top-1, or the task's measure, to reach, in percent.", metavar="PERCENT", show_default=False
        ),
    ] = None,
    target_sqnr: Annotated[
        float | None,
        typer.Option(
            help="Or, as for a detector, how near the worst output must be to the float model's: signal to noise.",
            metavar="DB",
            show_default=False,
        ),
    ] = None,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings to begin with, such as weights of 4 bits; layers that they leave in float stay there "
            "(default: all in INT8, as TensorRT has it).",
            metavar="quant.toml",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        str,
        typer.Option(
            help="What layers may be switched to. int8 counts where --config has coarser grids than TensorRT's INT8.",
            metavar="A,B,C",
        ),
    ] = "int8,fp16,fp32",
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Measured layer times to save, instead of MACs x bits: of an engine of that precision (int8 where "
            "none is said), by trtexec --exportProfile; or milliseconds by layer name. May be repeated.",
            metavar="[PRECISION=]FILE.json",
            show_default=False,
        ),
    ] = None,
    choose: Annotated[
        int | None,
        typer.Option(
            help="Take this row of the table of choices instead of the cheapest that reaches the target; with --resume "
            "of the same file nothing is measured again.",
            metavar="ROW",
            min=1,
            show_default=False,
        ),
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive",
            help="Try each group by itself in whole choices, on all images of --test-count, instead of predicting the "
            "noise of choices: about ten times as long.",
        ),
    ] = False,
    resume: options.Resume = None,
    method: options.MethodOrAuto = options.AUTO,
    preprocess: options.Preprocess = None,
    count: options.CalibrationCount = 500,
    test_count: Annotated[
        int, typer.Option(help="Images to judge by first, at most, each class its share.", metavar="N", min=1)
    ] = 500,
    confirm_count: Annotated[
        int,
        typer.Option(
            help="Further images, at most, on which a choice must hold that does on those of --test-count, where these "
            "leave a doubt; 0 asks no more.",
            metavar="N",
            min=0,
        ),
    ] = 1500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The settings to write, which quantize and build obey. [default: quant.toml, which must not be there]",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    save_cache: Annotated[
        Path | None,
        typer.Option(
            help="Write the calibration cache too, of the ranges that choices were judged with; its side-car is "
            "FILE.json.",
            metavar="MODEL.cache",
            show_default=False,
        ),
    ] = None,
    statistics: options.Statistics = None,
    json: options.Json = False,
) -> None:
    """Find the layers to leave in higher precision so that the model reaches a target as cheaply as possible.

    Layers switch together where they share a quantized tensor or a scale, or where a residual addition is fused into
    one. The noise of each such group is measured alone, on few images. Noise adds up, nearly, so that the cheapest
    choice of groups for a target can be reckoned; it is measured as a whole, which corrects the prediction, until no
    choice is left that is cheaper by more than 2 % and might do. Costs are MACs x bits, or the times of --profile.

    Choices are judged by images that were not calibrated on. The cheapest would reach the target by luck on a few of
    them, so one that does on those of --test-count is measured on those of --confirm-count too, until chance leaves no
    doubt or none are left, and must reach it on all of them together. Exit code 1, and no settings are written, where
    no choice reaches the target. --exhaustive measures every group in whole choices, and what does on all images.

    The last table shows the choices that no other one beats in both accuracy and cost: switched are the groups, by
    their numbers in the table before, that are in higher precision. --choose takes another row than the cheapest that
    reaches the target. drop is in points of top-1 against the float model, cost in percent of the model in FP32 (in
    milliseconds with --profile); operators count as quantize counts them, residual additions among them.
    """
    from calibrators.files import require_outputs
    from calibrators.ranges import calibrate
    from engines.graph.model import files_of, load_model
    from trtcal.config.settings import QuantConfig
    from trtcal.precision.run import choose_precisions
    from trtcal.precision.target import Target
    from trtcal.tables.images import say_if_few, say_what_was_read
    from trtcal.tables.mixed_precision import as_dict, failure, layers_of, remarks, show

    Target.of(max_drop, target_accuracy, target_sqnr)
    judged_by = options.task_of(task, annotations, confidence)
    chosen = _candidates(candidates)
    profiles = [_profile(text) for text in profile or ()]
    read = [Path(path) for path in (images, test_images, labels, annotations, preprocess, config) if path is not None]
    read += [path for path, _ in profiles]
    if output is None:
        output = _default_output()
    written = [path for path in (output, resume) if path is not None]
    require_outputs(written, inputs=[*files_of(model), *read])
    options.require_calibration_outputs(model, save_cache, statistics, inputs=[*read, *written])
    load_model(model, weights=False)
    found = choose_precisions(
        model,
        images,
        max_drop=max_drop,
        target_accuracy=target_accuracy,
        target_sqnr=target_sqnr,
        test_images=test_images,
        config=None if config is None else QuantConfig.load(config),
        candidates=chosen,
        exhaustive=exhaustive,
        choose=choose,
        profiles=profiles,
        trials_file=resume,
        method=method,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        confirm_count=confirm_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
        task=judged_by,
        step=console.progress,
    )
    if statistics is not None:
        found.judging.statistics.save(statistics)
    if save_cache is not None:
        calibrate(found.judging.statistics, found.judging.method).save(save_cache)
    if found.result.config is not None:
        found.result.config.save(output)
    if json:
        console.emit_json(as_dict(model, output, found, list(remarks(found))))
    else:
        show(found)
        if found.result.best is not None:
            console.say(f"{output}: {layers_of(found.result, found.result.best)}")
    say_what_was_read(found.judging.parts.calibration, stated=preprocess is not None)
    say_what_was_read(found.judging.parts.test, stated=True)
    say_if_few(found.judging.parts.calibration)
    for remark in remarks(found):
        console.note(f"note: {remark}")
    if found.result.best is None:
        raise CheckFailedError(failure(found))


def _candidates(text: str) -> "Sequence[Candidate]":
    from trtcal.precision.result import CANDIDATES

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in CANDIDATES:
            raise DataError(f"--candidates {text}: {name!r} is none of {', '.join(CANDIDATES)}")
    return tuple(each for each in CANDIDATES if each in names)


def _profile(text: str) -> "tuple[Path, Precision | None]":
    from engines.inspection.layer_times import Precision

    for precision in get_args(Precision):
        if text.startswith(f"{precision}="):
            return Path(text[len(precision) + 1 :]), precision
    return Path(text), None


def _default_output() -> Path:
    """Where settings go that are given no place: a file of that name may be the user's own configuration."""
    path = Path("quant.toml")
    if path.exists():
        raise OutputError(f"{path} is there already: name the settings to write, such as -o mixed.toml or -o {path}")
    return path
