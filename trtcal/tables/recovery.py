"""Recovery: each step with its measured effect."""

from pathlib import Path

from trtcal.analysis.judged_methods import REFERENCE
from trtcal.measure.chance import measure_named
from trtcal.recovery.plan import Recovered
from trtcal.recovery.run import RecoveryRun
from trtcal.recovery.steps import Attempt
from trtcal.tables import console
from trtcal.tables.images import say_if_few, say_what_was_read
from trtcal.tables.quantized import report
from trtcal.tables.scores import cells, of_other_sizes, of_the_worst


def report_recovery(output: Path, run: RecoveryRun, *, json: bool) -> None:
    """Say what became of a model, and of each step; on standard error, what a user should know."""
    parts = run.judged.parts
    report(output, run.recovered.quantized, json=json, more={"recovery": run.to_dict()})
    if not json:
        criterion = measure_named(run.recovered.criterion, run.recovered.reference)
        by = criterion if criterion == "SQNR" else f"{criterion}, then SQNR"
        console.say(f"learned from {parts.calibration.count} images, judged by {parts.test.count} others by {by}")
        _table(run.recovered)
    say_what_was_read(parts.calibration, stated=True)
    say_what_was_read(parts.test, stated=True)
    say_if_few(parts.calibration)
    sizes = of_other_sizes(
        [run.recovered.plain, *(each.after for each in run.recovered.attempts if each.after)], REFERENCE
    )
    for note in (
        *run.judged.notes,
        *of_the_worst(run.recovered.plain, "the model before recovery"),
        *sizes,
        *run.notes,
    ):
        console.note(f"note: {note}")


def title(attempt: Attempt) -> str:
    """A step's name, and its variant's."""
    return f"{attempt.name}, {attempt.variant}" if attempt.variant else attempt.name


def _table(found: Recovered) -> None:
    rows = [cells(REFERENCE, found.reference, REFERENCE), cells("quantized", found.plain, REFERENCE)]
    rows += [
        cells(title(each), each.after, REFERENCE) if each.after else {"model": title(each)} for each in found.attempts
    ]
    told = [("", "", ""), ("", "", "")]
    told += [("kept" if each.kept else "left out", f"{each.seconds:.1f} s", each.note) for each in found.attempts]
    measure = measure_named(found.criterion, found.reference)
    shown = ("model", measure, "top-1", "drop", "agree", "SQNR", "NaN/Inf")
    headings = [name for name in rows[1] if name in shown]
    headings = [name for name in headings if any(row.get(name) for row in rows)]
    console.table(
        "",
        ["step" if name == "model" else name for name in headings] + ["", "took", "what it did"],
        [[row.get(name) or "-" for name in headings] + list(more) for row, more in zip(rows, told, strict=True)],
        numeric=[*headings[1:], "took"],
        styles=[None, None, *("green" if each.kept else None for each in found.attempts)],
    )
