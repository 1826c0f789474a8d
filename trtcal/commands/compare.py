"""`trtcal compare`: every range method from one pass over the images, ranked on others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtcal.analysis.comparison import Comparison, Ranked
    from trtcal.analysis.selection import Compared
    from trtcal.data.images import ImageLoader


def compare(
    model: options.Model,
    *,
    images: options.Images,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
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
    the same class), then by SQNR (how far the outputs are from the float model's, in dB); a detector's by SQNR alone.

    drop is in points of top-1, against the float model; lost are images that it gets right and the INT8 model wrong,
    gained the other way round; ranges is the time that a method took to find its ranges.
    """
    from engines.graph.model import load_model
    from trtcal.analysis.comparison import named
    from trtcal.analysis.selection import compare_images

    chosen = named(None if methods is None else [name.strip() for name in methods.split(",")])
    options.require_calibration_outputs(model, output, statistics, inputs=[images, test_images, labels, preprocess])
    load_model(model, weights=False)
    found = compare_images(
        model,
        images,
        test_images=test_images,
        methods=chosen,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
        step=console.progress,
    )
    if statistics is not None:
        found.statistics.save(statistics)
    if output is not None:
        found.comparison.winner.cache.save(output)
    if json:
        console.emit_json(_as_dict(model, found, output=output, statistics=statistics))
    else:
        _print(found)
        if output is not None:
            console.say(f"{output}: {len(found.comparison.winner.cache)} tensors by {found.comparison.winner.method}")
        if statistics is not None:
            console.say(f"statistics: {statistics}")
    say_notes(found, stated=preprocess is not None)


def summary(found: "Compared") -> str:
    """What was calibrated on and ranked on, in a line."""
    calibration, test = found.parts.calibration, found.parts.test
    criterion = found.comparison.criterion
    ranked = "SQNR" if criterion == "SQNR" else f"{criterion}, then SQNR"
    if test.source == calibration.source:
        source = f"{calibration.available} images of {calibration.source}"
        where = f"{calibration.count} of {source}, ranked on {test.count} others"
    else:
        where = f"{calibration.count} images of {calibration.source}, ranked on {test.count} of {test.source}"
    return f"calibrated on {where} by {ranked}"


def in_order(comparison: "Comparison") -> str:
    """The ranking in a line: methods by rank, with what they are ranked by."""

    def measured(each: "Ranked") -> str:
        row = cells(each.method, each.score, REFERENCE)
        column = {"top-1": "top-1", "agreement": "agree"}.get(comparison.criterion)
        return ", ".join(row[heading] for heading in (column, "SQNR") if heading)

    from trtcal.analysis.comparison import REFERENCE
    from trtcal.commands.accuracy import cells

    return "; ".join(f"{each.rank} {each.method} ({measured(each)})" for each in comparison.ranking)


def remarks(found: "Compared") -> list[str]:
    """What a reader of a ranking should know."""
    comparison = found.comparison
    winner = comparison.winner
    told = list(found.notes)
    told += [f"{each.method} has the same ranges as {each.same_as}" for each in comparison.ranking if each.same_as]
    if comparison.close:
        others = "1 other method is" if comparison.close == 1 else f"{comparison.close} other methods are"
        told.append(
            f"{others} within the 95 % interval of {winner.method}'s {comparison.criterion}: so small a difference may "
            "be chance; SQNR tells finer, and more images to rank on make the interval narrower"
        )
    if comparison.reference.nonfinite:
        told.append(
            f"the float model itself gives NaN or infinity for {comparison.reference.nonfinite} of "
            f"{comparison.reference.samples} images: mend it or leave them out"
        )
    told += [
        f"{each.method} gives NaN or infinity for {each.score.nonfinite} of {each.score.samples} images"
        for each in comparison.ranking
        if each.score.nonfinite and not each.same_as
    ]
    told += [f"left in float: {name}, for {why}" for name, why in winner.left_float.items()]
    return told


def say_notes(found: "Compared", *, stated: bool) -> None:
    """Tell, on standard error, what a user should know."""
    options.say_what_was_read(found.parts.calibration, stated=stated)
    options.say_what_was_read(found.parts.test, stated=True)
    options.say_if_few(found.parts.calibration)
    for note in remarks(found):
        console.note(f"note: {note}")


def _print(found: "Compared") -> None:
    from trtcal.analysis.comparison import REFERENCE
    from trtcal.commands.accuracy import cells

    comparison = found.comparison
    rows = [{"rank": "-", **cells(REFERENCE, comparison.reference, REFERENCE), "ranges": ""}]
    rows += [_row(each) for each in comparison.ranking]
    columns = [heading for heading in rows[-1] if any(row[heading] for row in rows)]
    console.say(summary(found))
    console.say(f"preprocessing: {found.parts.calibration.preprocess}; statistics collected in {found.seconds:.1f} s")
    console.table(
        "",
        ["method" if heading == "model" else heading for heading in columns],
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=[heading for heading in columns if heading != "model"],
        optional=("top-5", "lost", "gained"),
        styles=[None, *("green" if each.rank == 1 else None for each in comparison.ranking)],
    )
    console.say(f"winner: {comparison.winner.method}")
    for each in comparison.ranking:
        if each.picks:
            console.say(picked(each.picks))


def picked(picks: "Mapping[str, int]") -> str:
    """What `trtcal.analysis.comparison.picks` tells, as a line."""
    return f"best took {', '.join(f'{name} for {count}' for name, count in picks.items())} tensors"


def _row(each: "Ranked") -> dict[str, str]:
    from trtcal.analysis.comparison import REFERENCE
    from trtcal.commands.accuracy import cells

    return {
        "rank": str(each.rank),
        **cells(each.method, each.score, REFERENCE),
        "ranges": f"{1000 * each.seconds:.0f} ms",
    }


def _as_dict(model: Path, found: "Compared", *, output: Path | None, statistics: Path | None) -> dict[str, Any]:
    from trtcal.analysis.comparison import REFERENCE
    from trtcal.measure.accuracy import score_as_dict

    comparison = found.comparison
    return {
        "model": str(model),
        "preprocess": found.parts.calibration.preprocess.to_dict(),
        "calibration": images_as_dict(found.parts.calibration),
        "test": images_as_dict(found.parts.test),
        "tensors": len(found.statistics),
        "collection_seconds": round(found.seconds, 3),
        "criterion": comparison.criterion,
        "reference": score_as_dict(REFERENCE, comparison.reference, is_reference=True),
        "methods": [each.to_dict() for each in comparison.ranking],
        "winner": comparison.winner.method,
        "cache": None if output is None else str(output),
        "statistics": None if statistics is None else str(statistics),
        "notes": remarks(found),
    }


def images_as_dict(loader: "ImageLoader") -> dict[str, Any]:
    """Which images were used, for JSON."""
    return {
        "images": str(loader.source),
        "count": loader.count,
        "available": loader.available,
        "digest": loader.digest,
        "skipped": [{"name": name, "reason": reason} for name, reason in loader.skipped],
    }
