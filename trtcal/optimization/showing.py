"""An optimization on the terminal, and for JSON."""

import shlex
from typing import Any

from trtcal.optimization.dry_run import Forecast
from trtcal.optimization.places import Places
from trtcal.optimization.result import Candidate, Optimized
from trtcal.tables import console

COLUMNS = ("engine", "from", "accuracy", "drop", "95 % CI", "holds", "cost", "INT8 operators", "size", "latency")


def show(done: Optimized, *, measured_elsewhere: bool = True) -> None:
    """Print the steps, the candidates side by side, and which one to deploy.

    Args:
        done: What was found.
        measured_elsewhere: Say what is still to be measured on a GPU.
    """
    for each in done.steps:
        state = "holds" if each.holds else "does not hold"
        when = "stood" if each.reused else f"{each.seconds:.1f} s"
        console.say(f"{each.name}: {each.told}: {state} ({when})")
    measured = done.candidates[0].measured
    title = f"{done.measure} on {measured.images} images; the files are in {done.folder}"
    console.table(title, COLUMNS, [_row(each) for each in done.candidates], numeric=(*COLUMNS[2:5], *COLUMNS[6:9]))
    console.say(done.sentence)
    places = Places(done.folder, done.candidates[0].engine.name.partition(".")[0])
    kept = [str(path) for path in (places.engine, places.quantized, places.page, places.record) if path.is_file()]
    console.say(f"written: {shlex.join(kept)}")
    for line in done.to_measure if measured_elsewhere else ():
        console.say(f"still to be measured on a GPU: {line}")


def as_dict(done: Optimized) -> dict[str, Any]:
    """All of it, for JSON: the verdict of report.json, and the steps with what was measured."""
    from trtcal.optimization.reporting import verdict

    return {"folder": str(done.folder), **verdict(done), "steps": [each.to_dict() for each in done.steps]}


def show_forecast(found: Forecast, *, json: bool) -> None:
    """Print what would be done, and about how long it would take."""
    if json:
        console.emit_json(found.to_dict())
        return
    for each in found.stages:
        when = "stands" if each.stands else f"about {console_seconds(each.seconds)}" if each.seconds else "time unknown"
        console.say(f"{each.about}: {when}")
    for line in found.notes:
        console.note(f"note: {line}")


def console_seconds(seconds: float) -> str:
    """A time in words, as rough as it is known."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _row(each: Candidate) -> tuple[str, ...]:
    measured, (low, high) = each.measured, each.measured.drop_interval
    return (
        each.name,
        each.step or "-",
        f"{measured.accuracy:.2f} %",
        f"{measured.drop:.2f}",
        f"{low:.2f} to {high:.2f}",
        "yes" if each.holds else "no",
        f"{each.cost:.0f} %",
        "-" if each.share_of_int8 is None else f"{each.share_of_int8:.0f} %",
        f"{each.size / 1e6:.2f} MB",
        ", ".join(f"{time:.3f} ms (batch {size})" for size, time in each.latency.items()) or "-",
    )
