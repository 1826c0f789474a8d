"""`trtcal mixed-precision`: which layers to leave in higher precision for a target accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from calibrators.errors import CheckFailedError, DataError
from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.layer_times import Precision
    from trtcal.measures import Score
    from trtcal.mixed_precision import MixedPrecision, Point
    from trtcal.precision_ladders import Candidate, Ladder
    from trtcal.precision_run import PrecisionRun


def mixed_precision(
    model: options.Model,
    *,
    images: Annotated[
        Path, typer.Option(help="A folder of images, or arrays: .npz or .npy.", metavar="PATH", show_default=False)
    ],
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
    test_images: Annotated[
        Path | None,
        typer.Option(help="Images to judge by, instead of others of --images.", metavar="PATH", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels of the images to judge by: a CSV file of rows `file,label`; for arrays an .npy of class "
            "numbers (default: sub-folders; in an .npz, the array `labels`).",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
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
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep the scores of evaluations in this file, and take those that are in it: an interrupted run goes "
            "on where it was. They count for the same model, images and ranges only.",
            metavar="FILE.json",
            show_default=False,
        ),
    ] = None,
    method: options.Method = "entropy",
    preprocess: options.Preprocess = None,
    count: Annotated[
        int, typer.Option(help="Images to calibrate on at most, each class its share.", metavar="N", min=1)
    ] = 500,
    test_count: Annotated[
        int, typer.Option(help="Images to search by at most, each class its share.", metavar="N", min=1)
    ] = 500,
    confirm_count: Annotated[
        int,
        typer.Option(
            help="Further images that the result is confirmed on, at most; 0 confirms nothing.", metavar="N", min=0
        ),
    ] = 1500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The settings to write, which quantize and build obey.", metavar="FILE"),
    ] = Path("quant.toml"),
    json: options.Json = False,
) -> None:
    """Find the layers to leave in higher precision so that the model reaches a target as cheaply as possible.

    Layers switch together where they share a quantized tensor or a scale, or where a residual addition is fused into
    one. Each such group is tried by itself: it alone in higher precision, and it alone in lower. In order of the noise
    that a switch takes out of the outputs for what it costs, a binary search finds how many switches reach the target;
    then groups go back to lower precision while it still holds. Costs are MACs x bits, or the times of --profile.

    The search goes by images that were not calibrated on. Its result must hold on further ones as well; where it does
    not, the search goes on. Exit code 1, and nothing is written, where no choice reaches the target.

    The table shows the choices that no other one beats in both accuracy and cost. drop is in points of top-1 against
    the float model, cost in percent of the model in FP32 (in milliseconds with --profile).
    """
    from calibrators.files import require_outputs
    from engines.graph import files_of, load_model
    from trtcal.config import QuantConfig
    from trtcal.precision_run import search_images
    from trtcal.precision_target import Target

    target = Target.of(max_drop, target_accuracy, target_sqnr)
    chosen = _candidates(candidates)
    profiles = [_profile(text) for text in profile or ()]
    read = [Path(path) for path in (images, test_images, labels, preprocess, config) if path is not None]
    read += [path for path, _ in profiles]
    outputs = [output] if resume is None else [output, resume]
    require_outputs(outputs, inputs=[*files_of(model), *(path for path in read if path != config)])
    load_model(model, weights=False)
    found = search_images(
        model,
        images,
        target,
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
    if found.result.config is not None:
        found.result.config.save(output)
    if json:
        console.emit_json(_as_dict(model, output, found))
    else:
        _print(found)
        if found.result.best is not None:
            console.say(f"{output}: {_layers(found.result, found.result.best)}")
    options.say_what_was_read(found.judging.parts.calibration, stated=preprocess is not None)
    options.say_what_was_read(found.judging.parts.test, stated=True)
    options.say_if_few(found.judging.parts.calibration)
    for remark in remarks(found):
        console.note(f"note: {remark}")
    if found.result.best is None:
        raise CheckFailedError(_failure(found))


def remarks(found: "PrecisionRun") -> "Iterator[str]":
    """What a reader of the result should know."""
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
        if not point.reaches:
            yield f"all layers in {name} do not reach the target: {_measured(point.score)}"
    for each in result.confirmations[:-1]:
        yield (
            f"a choice of {_cost_cell(found, each.levels)} reached the target by luck: on all {each.both.samples} "
            f"images, {_measured(each.both)}; the search went on"
        )
    if result.best is None:
        return
    total = result.confirmations[-1].both if result.confirmations else result.best.score
    if unsure := result.target.within_noise(total):
        yield f"{unsure}: more images to judge by make the interval narrower"
    if not result.confirmations and result.found.top is not None:
        yield (
            f"the choice is the best of {result.evaluations} on the images of the search, and not confirmed on others: "
            "there are none, or --confirm-count is 0"
        )
    if total.nonfinite:
        yield f"the result gives NaN or infinity for {total.nonfinite} of {total.samples} images"
    if found.remembered:
        yield f"{found.remembered} scores are those of an earlier run"


def _dropped(group: "Ladder", name: str) -> bool:
    return any(group.names[level] == name for level in group.names if level not in group.levels)


def _failure(found: "PrecisionRun") -> str:
    result = found.result
    nearest = max(result.points, key=lambda point: (point.worth, -point.cost))
    told = f"the nearest is {_layers(result, nearest)}, with {_measured(nearest.score)}"
    if result.confirmations:
        told = f"on all images, the nearest has {_measured(result.confirmations[-1].both)}"
    return (
        f"none of {result.evaluations} choices reaches {result.target}: {told}; the float model itself has "
        f"{_measured(result.reference)}; ask for less, or give other --candidates, --method or --config"
    )


def _print(found: "PrecisionRun") -> None:
    result, parts = found.result, found.judging.parts
    others = (
        f", confirmed on {found.further.count} others" if found.further is not None and result.confirmations else ""
    )
    console.say(
        f"calibrated on {parts.calibration.count} images of {parts.calibration.source}, searched by {parts.test.count} "
        f"of {parts.test.source}{others}"
    )
    console.say(f"preprocessing: {parts.calibration.preprocess}")
    console.say(f"target: {result.target}; {result.evaluations} evaluations, cost in {found.unit}")
    _print_groups(found)
    _print_choices(found)
    for each in result.confirmations[-1:] if result.best is not None else ():
        console.say(f"confirmed on {each.score.samples} other images: {_measured(each.score)}")
        console.say(f"on all {each.both.samples}: {_measured(each.both)}")


def _print_choices(found: "PrecisionRun") -> None:
    from trtcal.commands.accuracy import cells
    from trtcal.comparison import REFERENCE

    result = found.result
    uniform = {point.levels for point in result.uniform.values()}
    points = [each for each in result.points if each.front or each.levels in uniform or each is result.best]
    rows = [{**cells("FP32", result.reference, REFERENCE), "cost": _cost_cell(found, None), "target": ""}]
    for each in points:
        reached = "yes" if each.reaches else "no"
        row = cells(_layers(result, each), each.score, REFERENCE)
        rows.append({**row, "cost": _cost_cell(found, each.levels), "target": reached})
    columns = ["model", "cost", *(heading for heading in rows[-1] if heading not in ("model", "cost"))]
    columns = [heading for heading in columns if any(row[heading] for row in rows)]
    console.table(
        "Choices that no other beats in accuracy and cost, and all layers alike",
        ["layers" if heading == "model" else heading for heading in columns],
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=[heading for heading in columns if heading not in ("model", "target")],
        optional=("top-5", "lost", "gained", "agree"),
        styles=[None, *("green" if each is result.best else None for each in points)],
    )


def _print_groups(found: "PrecisionRun") -> None:
    from trtcal.precision_search import changed

    result, top, floor = found.result, found.result.found.top, found.result.found.floor
    if top is None or not result.found.order:
        return
    places = {step.group: place for place, step in reversed(list(enumerate(result.found.order)))}
    rows = []
    for group in sorted(places, key=lambda each: places[each]):
        ladder = result.ladders.groups[group]
        alone, lifted = (result.at(changed(top, group, floor[group])), result.at(changed(floor, group, top[group])))
        assert alone is not None and lifted is not None  # the search measures each group both ways
        share = 100 * ladder.costs[floor[group]] / result.ladders.total(floor)
        chosen = "" if result.best is None else ladder.names[result.best.levels[group]]
        rows.append([_group(ladder), f"{share:.1f} %", *_effect(result, alone), *_effect(result, lifted), chosen])
    drop = [] if result.criterion == "SQNR" else ["drop"]
    headings = ["switch together", "cost", *drop, "SQNR", *(f"{each} if lifted" for each in (*drop, "SQNR")), "chosen"]
    console.table(
        "Groups in the order of noise removed for cost added: each alone at its lowest, and alone lifted",
        headings,
        rows,
        numeric=headings[1:-1],
        optional=("cost",),
    )


def _effect(result: "MixedPrecision", point: "Point") -> list[str]:
    """What `_print_groups` tells of a point: the drop in points, or percent of images of another class; and SQNR."""
    from trtcal.commands.accuracy import decibels

    score, drop = point.score, list[str]()
    if result.criterion != "SQNR":
        drop = [f"{score.drop if result.criterion == 'top-1' else 100 - score.agreement.percent:.2f}"]
    return [*drop, decibels(score.distortion.sqnr)]


def _group(ladder: "Ladder") -> str:
    others = len(ladder.layers) - 1
    return ladder.layers[0] + (f" and {others} more" if others else "")


def _layers(result: "MixedPrecision", point: "Point") -> str:
    """How many layers are in what, such as "13 int8, 7 fp16"."""
    return ", ".join(f"{count} {name}" for name, count in result.ladders.counts(point.levels).items())


def _cost_cell(found: "PrecisionRun", levels: "tuple[int, ...] | None") -> str:
    ladders = found.result.ladders
    whole = ladders.whole["fp32"]
    cost = whole if levels is None else ladders.total(levels)
    return f"{cost:.4g} ms" if found.unit == "ms" else f"{100 * cost / whole:.2f} %"


def _measured(score: "Score") -> str:
    """A score in words."""
    from trtcal.commands.accuracy import decibels

    said = []
    if score.top1.total:
        said.append(f"top-1 {score.top1.percent:.2f} %")
        if score.distortions:
            low, high = score.drop_interval()
            said.append(f"a drop of {score.drop:.2f} points (95 % interval {low:.2f} to {high:.2f})")
    elif score.agreement.total:
        low, high = score.agreement.interval()
        said.append(f"agreement {score.agreement.percent:.2f} % (95 % interval {low:.2f} to {high:.2f})")
    if score.distortions:
        said.append(f"SQNR {decibels(score.distortion.sqnr)}")
    return ", ".join(said) or "nothing to compare with"


def _candidates(text: str) -> "Sequence[Candidate]":
    from trtcal.mixed_precision import CANDIDATES

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in CANDIDATES:
            raise DataError(f"--candidates {text}: {name!r} is none of {', '.join(CANDIDATES)}")
    return tuple(each for each in CANDIDATES if each in names)


def _profile(text: str) -> "tuple[Path, Precision | None]":
    from engines.layer_times import Precision

    for precision in get_args(Precision):
        if text.startswith(f"{precision}="):
            return Path(text[len(precision) + 1 :]), precision
    return Path(text), None


def _as_dict(model: Path, output: Path, found: "PrecisionRun") -> dict[str, Any]:
    from trtcal.accuracy import score_as_dict
    from trtcal.commands.compare import _images
    from trtcal.comparison import REFERENCE

    result, parts = found.result, found.judging.parts
    return {
        "model": str(model),
        "preprocess": parts.calibration.preprocess.to_dict(),
        "calibration": _images(parts.calibration),
        "test": _images(parts.test),
        "target": {"kind": result.target.kind, "value": result.target.value},
        "criterion": result.criterion,
        "reference": score_as_dict(REFERENCE, result.reference, is_reference=True),
        "cost_unit": found.unit,
        "cost_of_whole": dict(result.ladders.whole),
        "evaluations": result.evaluations,
        "remembered": found.remembered,
        "config": None if result.best is None else str(output),
        "result": None if result.best is None else _point(result, result.best),
        "confirmations": [
            {
                "cost": result.ladders.total(each.levels),
                "reaches": each.reaches,
                "further": _score(each.score),
                "together": _score(each.both),
            }
            for each in result.confirmations
        ],
        "groups": [_group_dict(result, group) for group in range(len(result.ladders.groups))],
        "order": [
            {
                "group": step.group,
                "from": result.ladders.groups[step.group].names[step.start],
                "to": result.ladders.groups[step.group].names[step.stop],
                "noise_removed": step.gain,
                "cost_added": step.price,
            }
            for step in result.found.order
        ],
        "prefix": result.found.prefix,
        "points": [_point(result, each) for each in result.points],
        "left_float": dict(result.ladders.left),
        "notes": list(remarks(found)),
    }


def _point(result: "MixedPrecision", point: "Point") -> dict[str, Any]:
    groups = zip(result.ladders.groups, point.levels, strict=True)
    return {
        "precisions": [ladder.names[level] for ladder, level in groups],
        "layers": result.ladders.counts(point.levels),
        "cost": point.cost,
        "reaches": point.reaches,
        "front": point.front,
        **_score(point.score),
    }


def _group_dict(result: "MixedPrecision", group: int) -> dict[str, Any]:
    from trtcal.precision_search import changed

    ladder, floor, top = result.ladders.groups[group], result.found.floor, result.found.top
    measured: dict[str, dict[str, Any]] = {"alone": {}, "lifted": {}}
    for way, others in (("alone", top), ("lifted", floor)):
        for level in ladder.levels:
            point = None if others is None else result.at(changed(others, group, level))
            if point is not None:
                measured[way][ladder.names[level]] = _score(point.score)
    return {
        "layers": list(ladder.layers),
        "ties": list(ladder.ties),
        "costs": {ladder.names[level]: ladder.costs[level] for level in ladder.levels},
        **measured,
        "chosen": None if result.best is None else ladder.names[result.best.levels[group]],
    }


def _score(score: "Score") -> dict[str, Any]:
    from trtcal.accuracy import score_as_dict

    found = score_as_dict("", score, is_reference=False)
    del found["name"]
    if found["drop"] is not None:
        found["drop"]["interval95"] = score.drop_interval()
    return found
