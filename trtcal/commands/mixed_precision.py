"""`trtcal mixed-precision`: which layers to leave in higher precision for a target accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from calibrators.errors import CheckFailedError, DataError, OutputError
from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.inspection.layer_times import Precision
    from trtcal.precision.ladders import Candidate, Ladder
    from trtcal.precision.result import Point
    from trtcal.precision.run import PrecisionRun


def mixed_precision(
    model: options.Model,
    *,
    images: options.Images,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Points of top-1 that may be lost against the float model; without labels, percent of images of "
            "another class than its own.",
            metavar="POINTS",
            show_default=False,
        ),
    ] = None,
    target_accuracy: Annotated[
        float | None, typer.Option(help="Or the top-1 to reach, in percent.", metavar="PERCENT", show_default=False)
    ] = None,
    target_sqnr: Annotated[
        float | None,
        typer.Option(
            help="Or, as for a detector, how near the outputs must be to the float model's: signal to noise ratio.",
            metavar="DB",
            show_default=False,
        ),
    ] = None,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
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
    resume: options.Resume = None,
    method: options.Method = "entropy",
    preprocess: options.Preprocess = None,
    count: options.CalibrationCount = 500,
    test_count: Annotated[
        int, typer.Option(help="Images to judge by first, at most, each class its share.", metavar="N", min=1)
    ] = 500,
    confirm_count: Annotated[
        int,
        typer.Option(
            help="Further images, at most, on which a choice must hold that does on those of --test-count; 0 asks no "
            "more.",
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
    one. Each such group is tried by itself: it alone in higher precision, and it alone in lower. In order of the noise
    that a switch takes out of the outputs for what it costs, a binary search finds how many switches reach the target;
    then groups go back to lower precision while it still holds. Costs are MACs x bits, or the times of --profile.

    Choices are judged by images that were not calibrated on. Of many choices the cheapest would reach the target by
    luck on a few of them, so one that does on those of --test-count must reach it on these and those of
    --confirm-count together. Exit code 1, and no settings are written, where no choice reaches the target.

    The table shows the choices that no other one beats in both accuracy and cost. drop is in points of top-1 against
    the float model, cost in percent of the model in FP32 (in milliseconds with --profile).
    """
    from calibrators.files import require_outputs
    from calibrators.ranges import calibrate
    from engines.graph.model import files_of, load_model
    from trtcal.commands.mixed_precision_report import as_dict, layers_of, show
    from trtcal.config.settings import QuantConfig
    from trtcal.precision.run import choose_precisions
    from trtcal.precision.target import Target

    Target.of(max_drop, target_accuracy, target_sqnr)
    chosen = _candidates(candidates)
    profiles = [_profile(text) for text in profile or ()]
    read = [Path(path) for path in (images, test_images, labels, preprocess, config) if path is not None]
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
        step=console.progress,
    )
    if statistics is not None:
        found.judging.statistics.save(statistics)
    if save_cache is not None:
        calibrate(found.judging.statistics, method).save(save_cache)
    if found.result.config is not None:
        found.result.config.save(output)
    if json:
        console.emit_json(as_dict(model, output, found, list(remarks(found))))
    else:
        show(found)
        if found.result.best is not None:
            console.say(f"{output}: {layers_of(found.result, found.result.best)}")
    options.say_what_was_read(found.judging.parts.calibration, stated=preprocess is not None)
    options.say_what_was_read(found.judging.parts.test, stated=True)
    options.say_if_few(found.judging.parts.calibration)
    for remark in remarks(found):
        console.note(f"note: {remark}")
    if found.result.best is None:
        raise CheckFailedError(_failure(found))


def remarks(found: "PrecisionRun") -> "Iterator[str]":
    """What a reader of the result should know."""
    from trtcal.commands.mixed_precision_report import in_words

    result = found.result
    yield from found.notes
    for rule in result.unused:
        yield f"no layer fits the rule of --config for {rule}"
    for name, why in result.ladders.left.items():
        yield f"left in float: {name}, for {why}"
    for name in ("int8", "fp16"):
        groups = [each for each in result.ladders.groups if _dropped(each, name)]
        if groups:
            yield (
                f"{name} is no candidate for {len(groups)} group(s) of layers, such as {groups[0].layers[0]}'s: by the "
                "profile they are no faster in it than in higher precision"
            )
    for name, point in result.uniform.items():
        if point.reaches is False:
            alike = "as --config has them" if name == "config" else f"in {name}"
            yield f"all layers {alike} do not reach the target: {in_words(point.score)}"
    if result.passed:
        yield (
            f"{len(result.passed)} choice(s) reach the target with layers rounded to FP16, but not as quantize writes "
            "them, in float for ONNX Runtime: passed over"
        )
    if result.best is not None:
        yield from _of_best(found, result.best)
    if found.remembered:
        yield f"{found.remembered} scores are those of an earlier run"


def _of_best(found: "PrecisionRun", best: "Point") -> "Iterator[str]":
    result, score = found.result, best.score
    if not {"config", "int8"} & set(result.ladders.counts(best.levels)):
        yield "no layer is left in INT8: build the float model with --precision fp16 and no cache"
    if unsure := result.target.within_noise(score):
        yield f"{unsure}: more images to judge by make the interval narrower"
    if found.further is None and result.found.top is not None:
        yield (
            f"the choice is the best of {result.evaluations} on these {score.samples} images, and luck is on its side: "
            "give more images, or --test-count and --confirm-count"
        )
    if score.nonfinite:
        yield f"the result gives NaN or infinity for {score.nonfinite} of {score.samples} images"


def _dropped(group: "Ladder", name: str) -> bool:
    return any(group.names[level] == name for level in group.names if level not in group.levels)


def _failure(found: "PrecisionRun") -> str:
    from trtcal.commands.mixed_precision_report import in_words, layers_of

    result = found.result
    nearest = max(result.points, key=lambda point: (point.worth, -point.cost))
    return (
        f"none of {result.evaluations} choices evaluated reaches {result.target}: the nearest is "
        f"{layers_of(result, nearest)}, with {in_words(nearest.score)}; the float model itself has "
        f"{in_words(result.reference)}; ask for less, or give other --candidates, --method or --config"
    )


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
