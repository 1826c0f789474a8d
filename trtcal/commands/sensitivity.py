"""`trtcal sensitivity`: what INT8 does to each layer, and which layers hurt."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from trtcal.analysis.error_report import ErrorReport
    from trtcal.analysis.layer_analysis import LayerAnalysis
    from trtcal.analysis.layer_error import LayerError
    from trtcal.analysis.sensitivity import LayerSensitivity, Sensitivity
    from trtcal.measure.measures import Score


def sensitivity(
    model: options.Model,
    *,
    images: options.Images,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
    by: Annotated[
        Literal["top-1", "agreement", "SQNR"] | None,
        typer.Option(
            help="What layers are ranked by; what ties is ranked by SQNR. [default: top-1 where there are labels, else "
            "agreement; SQNR for a model without class scores]",
            show_default=False,
            case_sensitive=False,
        ),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Show the errors of all layers in INT8 only, without trying each.")
    ] = False,
    resume: options.Resume = None,
    method: options.Method = "entropy",
    config: options.Config = None,
    preprocess: options.Preprocess = None,
    count: options.CalibrationCount = 500,
    test_count: options.TestCount = 500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write what --json prints.", metavar="FILE.json", show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what INT8 does to each layer of a model, and which layers hurt its outputs.

    First the errors: all layers in INT8, in ONNX Runtime, beside the float model. For each layer, how far its input and
    its output are from the float model's (SQNR, in dB; more is better), the error of its input's own rounding, how much
    of it is clipped, and how far it uses its levels. Tensors that look wrong are named: outliers, ranges that are too
    wide, values clipped, dead channels, weights of which one channel is far larger than the others, and so on.

    Then the trials, four for each layer: it alone in INT8, only its input, only its weight, and all layers but it. The
    table has the layer that does most harm alone first. A drop of top-1 that may be chance, by its 95 % interval,
    counts as none: among such layers SQNR decides.

    Images are parted as by `trtcal compare`: those that are judged by were not calibrated on.
    """
    from calibrators.files import require_outputs
    from calibrators.ranges import method_named
    from engines.graph.model import files_of, load_model
    from trtcal.analysis.judging import calibrated
    from trtcal.analysis.layer_analysis import analyse_layers
    from trtcal.analysis.trial_cache import TrialCache
    from trtcal.config.settings import QuantConfig

    method_named(method)
    settings = None if config is None else QuantConfig.load(config)
    read = [Path(path) for path in (images, test_images, labels, preprocess, config) if path is not None]
    written = [path for path in (output, resume) if path is not None]
    require_outputs(written, inputs=[*files_of(model), *read])
    load_model(model, weights=False)
    try:
        with TrialCache(resume) as cache:
            judging = calibrated(
                model,
                images,
                step=console.progress,
                test_images=test_images,
                preprocess=preprocess,
                count=count,
                test_count=test_count,
                labels=labels,
                batch_size=batch_size,
                seed=seed,
                tensors="quantizable",
                on_bad_image=on_bad_image,
            )
            found = analyse_layers(
                model,
                judging,
                method=method,
                config=settings,
                criterion=by,
                errors_only=errors,
                cache=cache,
                step=console.progress,
            )
    except KeyboardInterrupt:
        if resume is not None and resume.exists():
            console.note(f"{resume} holds the trials that were done: the same command goes on from there")
        raise
    _report(model, method, found, output=output, json=json)
    parts = found.judging.parts
    options.say_what_was_read(parts.calibration, stated=preprocess is not None)
    options.say_what_was_read(parts.test, stated=True)
    options.say_if_few(parts.calibration)
    for note in remarks(found):
        console.note(f"note: {note}")


def remarks(found: "LayerAnalysis") -> Iterator[str]:
    """What a reader of the analysis should know."""
    yield from found.judging.notes
    for rule in found.unused:
        yield f"no layer fits the rule of --config for {rule}"
    for name, why in found.forms.left.items():
        yield f"left in float: {name}, for {why}"
    for what, score in (("float", found.errors.reference), ("INT8", found.errors.score)):
        if score.nonfinite:
            yield f"the {what} model gives NaN or infinity for {score.nonfinite} of {score.samples} images"
    if found.sensitivity is not None:
        yield from _of_ranking(found.sensitivity)
    if found.known:
        yield f"{found.known} of {found.known + found.tried} trials were done before"


def _of_ranking(ranking: "Sensitivity") -> Iterator[str]:
    if ranking.by_chance:
        layers = "1 layer drops" if ranking.by_chance == 1 else f"{ranking.by_chance} layers drop"
        yield (
            f"{layers} top-1 by no more than may be chance (the 95 % interval holds 0), which counts as no drop: SQNR "
            "ranks them; more images to judge by make intervals narrower"
        )
    if ranking.close:
        others = "1 other layer is" if ranking.close == 1 else f"{ranking.close} other layers are"
        yield (
            f"{others} within the 95 % interval of the first one's {ranking.criterion}: by that alone their order may "
            "be chance; SQNR tells finer"
        )
    ranks = [each.rank for each in ranking.layers]
    for rank in sorted({rank for rank in ranks if ranks.count(rank) > 1}):
        yield f"{ranks.count(rank)} layers share rank {rank}: they do the same harm"


def _report(model: Path, method: str, found: "LayerAnalysis", *, output: Path | None, json: bool) -> None:
    """Print and write what was found."""
    from calibrators.files import write_whole

    content = _as_dict(model, method, found)
    if output is not None:
        write_whole(output, console.as_json(content, spelled=True))
    if json:
        console.emit_json(content)
    else:
        _print(found)
        if output is not None:
            console.say(f"{output}: all of it")


def _print(found: "LayerAnalysis") -> None:
    from trtcal.analysis.comparison import REFERENCE
    from trtcal.commands.accuracy import cells

    calibration, test = found.judging.parts.calibration, found.judging.parts.test
    console.say(
        f"calibrated on {calibration.count} images of {calibration.source}, judged by {test.count} of {test.source}"
    )
    console.say(f"preprocessing: {calibration.preprocess}")
    scores = {REFERENCE: found.errors.reference, "INT8": found.errors.score}
    rows = [cells(name, score, REFERENCE) for name, score in scores.items()]
    headings = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    console.table("", headings, [[row[each] or "-" for each in headings] for row in rows], numeric=headings[1:])
    _print_errors(found.errors)
    if found.sensitivity is not None:
        _print_ranking(found.sensitivity)


def _print_errors(report: "ErrorReport") -> None:
    named: dict[str, dict[str, bool]] = {}
    for each in report.suspicions:
        for layer in each.layers:
            named.setdefault(layer, {})[each.reason] = each.harms
    console.table(
        "All layers in INT8, against the float model; SQNR in dB",
        ("layer", "operator", "input", "rounding", "output", "cosine", "clipped", "reach", "levels", "suspicious"),
        [[*_error_cells(error), ", ".join(named.get(error.layer.name, ()))] for error in report.layers],
        numeric=("input", "rounding", "output", "cosine", "clipped", "reach", "levels"),
        optional=("operator", "cosine", "levels"),
        styles=["yellow" if any(named.get(error.layer.name, {}).values()) else None for error in report.layers],
    )
    for heading, harms in (("suspicious", True), ("worth knowing", False)):
        for each in report.suspicions:
            if each.harms == harms:
                console.say(f"{heading}: {each.tensor} ({', '.join(each.layers)}): {each.reason}: {each.why}")


def _error_cells(each: "LayerError") -> list[str]:
    return [
        each.layer.name,
        each.layer.type,
        _decibels(each.arrives.sqnr),
        _decibels(each.rounded.sqnr),
        _decibels(each.gives.sqnr),
        f"{each.gives.cosine:.5f}",
        f"{100 * each.use.saturation:.3f} %",
        f"{100 * each.use.reach:.0f} %",
        f"{100 * each.use.occupied:.0f} %",
    ]


def _print_ranking(ranking: "Sensitivity") -> None:
    headings = ["rank", "layer", "operator", *_headings(ranking), "SQNR", "input", "weight", "all but", "its rank"]
    console.table(
        f"Each layer alone in INT8, by {ranking.criterion}; its input and its weight apart; and all layers but it",
        headings,
        [_rank_cells(each, ranking) for each in ranking.layers],
        numeric=[heading for heading in headings if heading not in ("layer", "operator")],
        optional=("operator", "its rank"),
    )


def _headings(ranking: "Sensitivity") -> list[str]:
    return {"top-1": ["drop", "95 % CI"], "agreement": ["agree"], "SQNR": []}[ranking.criterion]


def _rank_cells(each: "LayerSensitivity", ranking: "Sensitivity") -> list[str]:
    return [
        str(each.rank),
        each.layer.name,
        each.layer.type,
        *_harm(each.alone, ranking),
        _decibels(each.alone.distortion.sqnr),
        _decibels(each.activation.distortion.sqnr),
        "-" if each.weight is None else _decibels(each.weight.distortion.sqnr),
        ", ".join([*_harm(each.rest, ranking)[:1], _decibels(each.rest.distortion.sqnr)]),
        str(each.rest_rank),
    ]


def _harm(score: "Score", ranking: "Sensitivity") -> list[str]:
    """What `_headings` stand over."""
    from trtcal.analysis.sensitivity import drop_interval

    if ranking.criterion == "SQNR":
        return []
    if ranking.criterion == "agreement":
        return [f"{score.agreement.percent:.2f} %"]
    low, high = drop_interval(score)
    return [f"{score.drop:.2f}", f"{low:.1f} to {high:.1f}"]


def _decibels(value: float) -> str:
    return "same" if value == float("inf") else f"{round(value, 1) + 0.0:.1f}"  # never -0.0


def _as_dict(model: Path, method: str, found: "LayerAnalysis") -> dict[str, Any]:
    from trtcal.analysis.sensitivity import measured
    from trtcal.commands.compare import images_as_dict

    parts = found.judging.parts
    return {
        "model": str(model),
        "method": method,
        "preprocess": parts.calibration.preprocess.to_dict(),
        "calibration": images_as_dict(parts.calibration),
        "test": images_as_dict(parts.test),
        "reference": measured(found.errors.reference),
        "int8": measured(found.errors.score),
        "left_float": dict(found.forms.left),
        "errors": found.errors.to_dict(),
        "sensitivity": None if found.sensitivity is None else found.sensitivity.to_dict(),
        "trials": {"run": found.tried, "known": found.known},
        "notes": list(remarks(found)),
    }
