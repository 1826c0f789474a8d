"""Mixed precision: the choices, the groups of layers that switch together, and what was chosen."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trtcal.analysis.judged_methods import REFERENCE
from trtcal.analysis.sensitivity import measured
from trtcal.measure.chance import drop_interval, drop_of, interval_of, measure_named
from trtcal.measure.distortion import in_runs
from trtcal.measure.measures import Score
from trtcal.precision.ladders import Ladder
from trtcal.precision.result import MixedPrecision
from trtcal.precision.run import PrecisionRun
from trtcal.precision.scores import Point
from trtcal.tables import console
from trtcal.tables.images import images_as_dict
from trtcal.tables.left_float import left_in_float
from trtcal.tables.scores import DETAILS, cells, decibels, measured_value, of_other_sizes, of_the_worst

NAMED = 3
"""Layers of a group that are named; JSON has them all."""


def show(found: PrecisionRun) -> None:
    """Print the tables, and what was chosen."""
    result, parts = found.result, found.judging.parts
    others = "" if found.further is None else f", and by {found.further.count} others what reaches the target there"
    console.say(
        f"calibrated on {parts.calibration.count} images of {parts.calibration.source}, judged by {parts.test.count} "
        f"of {parts.test.source}{others}"
    )
    console.say(f"preprocessing: {parts.calibration.preprocess}")
    further = f", {result.further} of them on further images" if found.further is not None else ""
    console.say(
        f"target: {result.target}; {_groups_alone(result)}{_counted(result.evaluations)}{further}; cost in {found.unit}"
    )
    _print_groups(found)
    _print_choices(found)
    if result.best is not None:
        row = f"row {result.row_of(result.best)}"
        console.say(f"chosen: {row}, {layers_of(result, result.best)}, {in_words(result.best.score)}")
        if result.written is not None and result.written != result.best.score:
            console.say(f"as quantize writes it, FP16 layers in FP32 in ONNX Runtime: {in_words(result.written)}")


def _groups_alone(result: MixedPrecision) -> str:
    if result.exhaustive or not result.groups:
        return ""
    samples = max(score.samples for score in result.groups.values())
    return f"{len(result.groups)} trials of one group on {samples} images; "


def _counted(evaluations: int) -> str:
    return "1 evaluation" if evaluations == 1 else f"{evaluations} evaluations"


def _print_choices(found: PrecisionRun) -> None:
    result = found.result
    whole = _cost(found, result.ladders.whole["fp32"])
    images = str(result.reference.samples)
    told = {"row": "", "switched": "", "cost": whole, "images": images, "target": ""}
    rows = [{**cells("FP32", result.reference, REFERENCE), **told}]
    for number, each in enumerate(result.choices, 1):
        reached = {True: "yes", False: "no", None: "at first"}[each.reaches]
        row = cells(layers_of(result, each), each.score, REFERENCE)
        told = {"row": str(number), "switched": _switched(result, each), "cost": _cost(found, each.cost)}
        rows.append({**row, **told, "images": str(each.score.samples), "target": reached})
    first = ("row", "model", "switched", "cost", "images")
    columns = [*first, *(heading for heading in rows[-1] if heading not in first)]
    columns = [heading for heading in columns if any(row[heading] for row in rows)]
    console.table(
        "Choices that no other beats in accuracy and cost, and all layers alike",
        ["operators" if heading == "model" else heading for heading in columns],
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=[heading for heading in columns if heading not in ("model", "switched", "target")],
        optional=("images", "95 % CI", *DETAILS, "lost", "gained", "agree"),
        styles=[None, *("green" if each is result.best else None for each in result.choices)],
    )


def _print_groups(found: PrecisionRun) -> None:
    result, top, floor = found.result, found.result.found.top, found.result.found.floor
    if top is None or not result.found.order:
        return
    shown = [result.groups, result.without] if result.exhaustive else [result.groups]
    rows = []
    for group, number in _numbers(result).items():
        ladder, ends = result.ladders.groups[group], (floor[group], top[group])
        share = 100 * ladder.costs[floor[group]] / result.ladders.total(floor)
        chosen = "" if result.best is None else ladder.names[result.best.levels[group]]
        scores = [each[group, end] for each, end in zip(shown, ends, strict=False)]
        effects = [cell for score in scores for cell in _effect(result, score)]
        rows.append([str(number), _group(ladder), f"{share:.1f} %", *effects, chosen])
    measures = ["SQNR"] if result.criterion == "SQNR" or not result.exhaustive else ["drop", "SQNR"]
    without = [f"{each} without" for each in measures if result.exhaustive]
    headings = ["group", "layers", "cost", *measures, *without, "chosen"]
    console.table(
        "Groups of layers that switch together, first those that gain most for their cost in higher precision",
        headings,
        rows,
        numeric=[heading for heading in headings if heading not in ("layers", "chosen")],
        optional=("cost",),
    )
    told = "with this group alone in lower precision"
    console.say(f"{', '.join(measures)}: {told}{'; without: with all groups but this one in it' if without else ''}")


def _numbers(result: MixedPrecision) -> dict[int, int]:
    """By group, its number in the table: from 1, in the order in which lifting them pays."""
    return {group: number for number, group in enumerate(dict.fromkeys(step.group for step in result.found.order), 1)}


def _switched(result: MixedPrecision, point: Point) -> str:
    """The groups in higher precision than the lowest, by their numbers, such as "fp16 1-4, 7"."""
    numbers, groups = _numbers(result), result.ladders.groups
    found: dict[str, list[int]] = {}
    for group, (level, lowest) in enumerate(zip(point.levels, result.found.floor, strict=True)):
        if level != lowest:
            found.setdefault(groups[group].names[level], []).append(numbers.get(group, 0))
    if len(found) == 1 and len(*found.values()) == len(groups):
        return f"{next(iter(found))} all"
    return "; ".join(f"{name} {in_runs(sorted(each))}" for name, each in found.items())


def _effect(result: MixedPrecision, score: Score) -> list[str]:
    """What `_print_groups` tells: the drop in points, or percent of images of another class; and SQNR.

    Of few images no drop is told.
    """
    drop = list[str]()
    if result.criterion != "SQNR" and result.exhaustive:
        drop = [f"{drop_of(score, result.criterion):.2f}"]
    return [*drop, decibels(score.sqnr)]


def _group(ladder: Ladder) -> str:
    others = len(ladder.layers) - NAMED
    return ", ".join(ladder.layers[:NAMED]) + (f" and {others} more" if others > 0 else "")


def layers_of(result: MixedPrecision, point: Point) -> str:
    """How many operators are in what, such as "13 int8, 7 fp16"; as `quantize` counts them."""
    return ", ".join(f"{count} {name}" for name, count in result.ladders.counts(point.levels).items())


def _cost(found: PrecisionRun, cost: float) -> str:
    return f"{cost:.4g} ms" if found.unit == "ms" else f"{100 * cost / found.result.ladders.whole['fp32']:.2f} %"


def in_words(score: Score) -> str:
    """A score in words."""
    said = []
    if score.task is not None:
        found = score.task.result
        said.append(f"{found.measure} {measured_value(found)}")
        if found.drop is not None:
            low, high = interval_of(score, "task")
            said.append(f"a drop of {found.drop:.2f} points (95 % interval {low:.2f} to {high:.2f})")
    elif score.top1.total:
        said.append(f"top-1 {score.top1.percent:.2f} %")
        if score.counted:
            low, high = drop_interval(score)
            said.append(f"a drop of {score.drop:.2f} points (95 % interval {low:.2f} to {high:.2f})")
    elif score.agreement.total:
        low, high = score.agreement.interval()
        said.append(f"agreement {score.agreement.percent:.2f} % (95 % interval {low:.2f} to {high:.2f})")
    if score.counted:
        said.append(f"SQNR {decibels(score.sqnr)}")
    return ", ".join(said) or "nothing to compare with"


def remarks(found: PrecisionRun) -> Iterator[str]:
    """What a reader of the result should know."""
    result = found.result
    yield from found.notes
    yield from result.rule_notes
    yield from left_in_float(result.ladders.left)
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


def _of_best(found: PrecisionRun, best: Point) -> Iterator[str]:
    result, score = found.result, best.score
    if not {"config", "int8"} & set(result.ladders.counts(best.levels)):
        yield "no layer is left in INT8: build the float model with --precision fp16 and no cache"
    if not best.reaches:
        reached = (
            "does not reach the target"
            if best.reaches is False
            else ("reaches the target on the first images, and was not measured on the further ones")
        )
        yield f"row {result.row_of(best)}, which was asked for, {reached}"
    elif unsure := result.target.within_noise(score):
        yield f"{unsure}: more images to judge by make the interval narrower"
    if found.further is None and result.found.top is not None and best.levels == result.found.best:
        yield (
            f"the choice is the best of {result.evaluations} on these {score.samples} images, and luck is on its side: "
            "give more images, or --test-count and --confirm-count"
        )
    yield from of_the_worst(score, "the choice")
    yield from of_other_sizes([score], REFERENCE)
    if score.nonfinite:
        yield f"the result gives NaN or infinity for {score.nonfinite} of {score.samples} images"


def _dropped(group: Ladder, name: str) -> bool:
    return any(group.names[level] == name for level in group.names if level not in group.levels)


def failure(found: PrecisionRun) -> str:
    """Why no settings come of it."""
    result = found.result
    nearest = max(result.points, key=lambda point: (point.worth, -point.cost))
    return (
        f"none of {result.evaluations} choices evaluated reaches {result.target}: the nearest is "
        f"{layers_of(result, nearest)}, with {in_words(nearest.score)}; the float model itself has "
        f"{in_words(result.reference)}; ask for less, take a row with --choose, or give other --candidates, --method "
        "or --config"
    )


def as_dict(model: Path, output: Path, found: PrecisionRun, notes: Sequence[str]) -> dict[str, Any]:
    """All of it, for JSON."""
    result, parts = found.result, found.judging.parts
    return {
        "model": str(model),
        "preprocess": parts.calibration.preprocess.to_dict(),
        "calibration": images_as_dict(parts.calibration),
        "test": images_as_dict(parts.test),
        "further": None if found.further is None else images_as_dict(found.further),
        "target": {"kind": result.target.kind, "value": result.target.value},
        "criterion": measure_named(result.criterion, result.reference),
        "reference": measured(result.reference),
        "exhaustive": result.exhaustive,
        "cost_unit": found.unit,
        "cost_of_whole": dict(result.ladders.whole),
        "evaluations": result.evaluations,
        "evaluations_on_further_images": result.further,
        "remembered": found.remembered,
        "config": None if result.best is None else str(output),
        "result": None if result.best is None else _point(result, result.best),
        "written": None if result.written is None else measured(result.written),
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
        "notes": list(notes),
    }


def _point(result: MixedPrecision, point: Point) -> dict[str, Any]:
    groups = zip(result.ladders.groups, point.levels, strict=True)
    return {
        "precisions": [ladder.names[level] for ladder, level in groups],
        "layers": result.ladders.counts(point.levels),
        "cost": point.cost,
        "reaches": point.reaches,
        "front": point.front,
        "row": result.row_of(point) or None,
        **measured(point.score),
    }


def _group_dict(result: MixedPrecision, group: int) -> dict[str, Any]:
    ladder = result.ladders.groups[group]
    ways = {
        way: {name: measured(scores[group, level]) for level, name in ladder.names.items() if (group, level) in scores}
        for way, scores in (("alone", result.groups), ("lifted", result.without))
    }
    return {
        "number": _numbers(result).get(group),
        "layers": list(ladder.layers),
        "ties": list(ladder.ties),
        "costs": {ladder.names[level]: ladder.costs[level] for level in ladder.levels},
        **ways,
        "chosen": None if result.best is None else ladder.names[result.best.levels[group]],
    }
