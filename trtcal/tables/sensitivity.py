"""Errors layer by layer, and sensitivity: which layers hurt."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trtcal.analysis.errors.error_report import ErrorReport
from trtcal.analysis.errors.layer_error import LayerError
from trtcal.analysis.judged_methods import REFERENCE
from trtcal.analysis.layer_analysis import LayerAnalysis
from trtcal.analysis.sensitivity import LayerSensitivity, Part, Sensitivity, measured
from trtcal.measure.chance import drop_of, interval_of, measure_named
from trtcal.measure.measures import Score
from trtcal.tables import console
from trtcal.tables.images import images_as_dict
from trtcal.tables.left_float import left_in_float
from trtcal.tables.scores import DETAILS, cells, of_other_sizes, of_the_worst

MOST = 10
"""Tensors of a kind that are named, the worst; JSON has them all."""

ERRORS_LEGEND = (
    "input, output: SQNR of what arrives at the layer and of what it gives; rounding: of rounding its input alone\n"
    "clipped: share of its input beyond the range; reach: the largest level in use, of all there are\n"
    "levels: how many of them are in use; suspicious: what looks wrong, the worst first"
)
RANKING_LEGEND = (
    "rank: 1 does most harm; drop (or agree), SQNR: with the layer alone in INT8; input, weight: with that part alone\n"
    "all but: with all layers but it; its rank: 1 for the layer whose absence helps most"
)
PREDICTED_LEGEND = "~: predicted from two other trials, as differences add up nearly; --exhaustive runs all trials"


def remarks(found: LayerAnalysis) -> Iterator[str]:
    """What a reader of the analysis should know."""
    yield from found.judging.notes
    yield from found.rule_notes
    yield from left_in_float(found.forms.left)
    yield from of_the_worst(found.errors.score, "the INT8 model")
    for what, score in (("float", found.errors.reference), ("INT8", found.errors.score)):
        if score.nonfinite:
            yield f"the {what} model gives NaN or infinity for {score.nonfinite} of {score.samples} images"
    yield from of_other_sizes([found.errors.score], REFERENCE)
    if found.errors.unlike:
        layers = f"{len(found.errors.unlike)} layer(s), such as {next(iter(found.errors.unlike))}"
        yield f"what {layers}, reads or gives has another size in the float model in some samples: the others count"
    if found.sensitivity is not None:
        yield from _of_ranking(found.sensitivity)
    if found.known:
        yield f"{found.known} of {found.known + found.tried} trials were done before"


def _of_ranking(ranking: Sensitivity) -> Iterator[str]:
    if ranking.by_chance:
        layers = "1 layer drops" if ranking.by_chance == 1 else f"{ranking.by_chance} layers drop"
        measure = "top-1" if ranking.criterion == "agreement" else _measure(ranking)
        yield (
            f"{layers} {measure} by no more than may be chance (the 95 % interval holds 0), which counts as no drop: "
            "SQNR ranks them; more images to judge by make intervals narrower"
        )
    if ranking.close:
        others = "1 other layer is" if ranking.close == 1 else f"{ranking.close} other layers are"
        yield (
            f"{others} within the 95 % interval of the first one's {_measure(ranking)}: by that alone their order may "
            "be chance; SQNR tells finer"
        )
    few = [each.alone for each in ranking.layers if each.alone.samples < ranking.reference.samples]
    if few:
        yield (
            f"{len(few)} of {len(ranking.layers)} layers were tried on the first {few[0].samples} images only, as they "
            "do least harm; what input, weight and all but it do was measured on these, or predicted"
        )
    ranks = [each.rank for each in ranking.layers]
    for rank in sorted({rank for rank in ranks if ranks.count(rank) > 1}):
        yield f"{ranks.count(rank)} layers share rank {rank}: they do the same harm"


def show(found: LayerAnalysis) -> None:
    """Print the errors, and the ranking where layers were tried."""
    calibration, test = found.judging.parts.calibration, found.judging.parts.test
    console.say(
        f"calibrated on {calibration.count} images of {calibration.source}, judged by {test.count} of {test.source}"
    )
    console.say(f"preprocessing: {calibration.preprocess}")
    _print_scores({REFERENCE: found.errors.reference, "INT8": found.errors.score})
    _print_errors(found.errors)
    if found.sensitivity is not None:
        _print_ranking(found.sensitivity)


def _print_scores(scores: Mapping[str, Score]) -> None:
    rows = [cells(name, score, REFERENCE) for name, score in scores.items()]
    headings = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    console.table(
        "",
        headings,
        [[row[each] or "-" for each in headings] for row in rows],
        numeric=headings[1:],
        optional=(*DETAILS, "lost", "gained"),
    )


def _print_errors(report: ErrorReport) -> None:
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
    console.say(ERRORS_LEGEND)
    for heading, harms in (("suspicious", True), ("worth knowing", False)):
        found = [each for each in report.suspicions if each.harms == harms]
        for each in found[:MOST]:
            console.say(f"{heading}: {each.tensor} ({', '.join(each.layers)}): {each.reason}: {each.why}")
            console.say(f"    to try: {each.advice}")
        if len(found) > MOST:
            console.say(f"{heading}: {len(found) - MOST} more, less bad: --json and -o FILE.json have them all")


def _error_cells(each: LayerError) -> list[str]:
    return [
        each.layer.name,
        each.layer.type,
        _decibels(each.arrives.sqnr),
        _decibels(each.rounded.sqnr),
        _decibels(each.gives.sqnr),
        "-" if math.isnan(each.gives.cosine) else f"{each.gives.cosine:.5f}",
        f"{100 * each.use.saturation:.3f} %",
        f"{100 * each.use.reach:.0f} %",
        f"{100 * each.use.occupied:.0f} %",
    ]


def _print_ranking(ranking: Sensitivity) -> None:
    headings = ["rank", "layer", "operator", *_headings(ranking), "SQNR", "input", "weight", "all but", "its rank"]
    console.table(
        f"Each layer alone in INT8, by {_measure(ranking)}; its input and its weight apart; and all layers but it",
        headings,
        [_rank_cells(each, ranking) for each in ranking.layers],
        numeric=[heading for heading in headings if heading not in ("layer", "operator")],
        optional=("operator", "its rank"),
    )
    console.say(RANKING_LEGEND)
    if any(each.predicted for each in ranking.layers):
        console.say(PREDICTED_LEGEND)


def _headings(ranking: Sensitivity) -> list[str]:
    drop = ["drop", "95 % CI"]
    return {"top-1": drop, "task": drop, "agreement": ["agree"], "SQNR": []}[ranking.criterion]


def _measure(ranking: Sensitivity) -> str:
    return measure_named(ranking.criterion, ranking.reference)


def _rank_cells(each: LayerSensitivity, ranking: Sensitivity) -> list[str]:
    return [
        str(each.rank),
        each.layer.name,
        each.layer.type,
        *_harm(each.alone, ranking),
        _decibels(each.alone.sqnr),
        _decibels(each.activation.sqnr),
        "-" if each.weight is None else _predicted("weight", each) + _decibels(each.weight.sqnr),
        _predicted("rest", each) + ", ".join([*_harm(each.rest, ranking)[:1], _decibels(each.rest.sqnr)]),
        str(each.rest_rank),
    ]


def _predicted(part: Part, layer: LayerSensitivity) -> str:
    return "~" if part in layer.predicted else ""


def _harm(score: Score, ranking: Sensitivity) -> list[str]:
    """What `_headings` stand over."""
    if ranking.criterion == "SQNR":
        return []
    if ranking.criterion == "agreement":
        return [f"{score.agreement.percent:.2f} %"]
    low, high = interval_of(score, ranking.criterion)
    return [f"{drop_of(score, ranking.criterion):.2f}", f"{low:.1f} to {high:.1f}"]


def _decibels(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "same" if value == math.inf else f"{round(value, 1) + 0.0:.1f}"  # never -0.0


def as_dict(model: Path, method: str, found: LayerAnalysis) -> dict[str, Any]:
    """All of it, for JSON."""
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
