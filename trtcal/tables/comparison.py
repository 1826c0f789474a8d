"""Range methods compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtcal.analysis.comparison import Comparison, Ranked
from trtcal.analysis.judged_methods import REFERENCE
from trtcal.analysis.selection import Compared
from trtcal.measure.chance import measure_named, worth_of
from trtcal.measure.report import score_as_dict
from trtcal.tables import console
from trtcal.tables.images import images_as_dict, say_if_few, say_what_was_read
from trtcal.tables.left_float import left_in_float
from trtcal.tables.scores import DETAILS, cells, of_other_sizes, of_the_worst


def summary(found: Compared) -> str:
    """What was calibrated on and ranked on, in a line."""
    calibration, test = found.parts.calibration, found.parts.test
    criterion = measure_named(found.comparison.criterion, found.comparison.reference)
    ranked = "SQNR" if criterion == "SQNR" else f"{criterion}, then SQNR"
    if test.source == calibration.source:
        source = f"{calibration.available} images of {calibration.source}"
        where = f"{calibration.count} of {source}, ranked on {test.count} others"
    else:
        where = f"{calibration.count} images of {calibration.source}, ranked on {test.count} of {test.source}"
    return f"calibrated on {where} by {ranked}"


def in_order(comparison: Comparison) -> str:
    """The ranking in a line: methods by rank, with what they are ranked by."""

    def measured(each: Ranked) -> str:
        row = cells(each.method, each.score, REFERENCE)
        measure = measure_named(comparison.criterion, comparison.reference)
        column = {"agreement": "agree", "SQNR": None}.get(measure, measure)
        return ", ".join(row[heading] for heading in (column, "SQNR") if heading)

    return "; ".join(f"{each.rank} {each.method} ({measured(each)})" for each in comparison.ranking)


def remarks(found: Compared) -> list[str]:
    """What a reader of a ranking should know."""
    comparison = found.comparison
    winner = comparison.winner
    told = list(found.notes)
    told += [f"{each.method} has the same ranges as {each.same_as}" for each in comparison.ranking if each.same_as]
    if comparison.tied and comparison.criterion != "SQNR":
        told.append(_tie(comparison))
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
    told += of_the_worst(winner.score, winner.method)
    told += of_other_sizes((each.score for each in comparison.ranking), REFERENCE)
    return told + left_in_float(winner.left_float)


def _tie(comparison: Comparison) -> str:
    """Which methods are tied with the winner, and why it is the winner all the same."""
    others = [each.method for each in comparison.tied]
    measure = measure_named(comparison.criterion, comparison.reference)
    if len({worth_of(each.score, comparison.criterion) for each in (comparison.winner, *comparison.tied)}) == 1:
        return (
            f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} the same {measure} as "
            f"{comparison.winner.method}, so SQNR decides; more images to rank on tell finer"
        )
    verb = "is" if len(others) == 1 else "are"
    return (
        f"{', '.join(others)} {verb} tied with {comparison.winner.method}: the difference in {measure} "
        "may be chance, so SQNR decides; more images to rank on tell finer"
    )


def say_notes(found: Compared, *, stated: bool) -> None:
    """Tell, on standard error, what a user should know."""
    say_what_was_read(found.parts.calibration, stated=stated)
    say_what_was_read(found.parts.test, stated=True)
    say_if_few(found.parts.calibration)
    for note in remarks(found):
        console.note(f"note: {note}")


def show(found: Compared) -> None:
    """Print the ranking."""
    comparison, winner = found.comparison, found.comparison.winner.method
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
        optional=(*DETAILS, "lost", "gained"),
        styles=[None, *("green" if winner in (each.method, each.same_as) else None for each in comparison.ranking)],
    )
    tied = comparison.tied and comparison.criterion != "SQNR"
    ahead = ", of the highest SQNR among those tied in rank 1" if tied else ""
    console.say(f"winner: {winner}{ahead}")
    for each in comparison.ranking:
        if each.picks:
            console.say(picked(each.picks))


def picked(picks: Mapping[str, int]) -> str:
    """What `trtcal.analysis.comparison.picks` tells, as a line."""
    return f"best took {', '.join(f'{name} for {count}' for name, count in picks.items())} tensors"


def _row(each: Ranked) -> dict[str, str]:
    return {
        "rank": str(each.rank),
        **cells(each.method, each.score, REFERENCE),
        "ranges": f"{1000 * each.seconds:.0f} ms",
    }


def as_dict(model: Path, found: Compared, *, output: Path | None, statistics: Path | None) -> dict[str, Any]:
    """All of it, for JSON."""
    comparison = found.comparison
    return {
        "model": str(model),
        "preprocess": found.parts.calibration.preprocess.to_dict(),
        "calibration": images_as_dict(found.parts.calibration),
        "test": images_as_dict(found.parts.test),
        "tensors": len(found.statistics),
        "collection_seconds": round(found.seconds, 3),
        "criterion": measure_named(comparison.criterion, comparison.reference),
        "reference": score_as_dict(REFERENCE, comparison.reference, is_reference=True),
        "methods": [each.to_dict() for each in comparison.ranking],
        "winner": comparison.winner.method,
        "cache": None if output is None else str(output),
        "statistics": None if statistics is None else str(statistics),
        "notes": remarks(found),
    }
