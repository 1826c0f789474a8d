"""Accuracy of models side by side."""

from collections.abc import Sequence
from typing import Any

from trtcal.data.images import ImageLoader
from trtcal.measure.chance import measure_named
from trtcal.measure.report import Report
from trtcal.tables import console
from trtcal.tables.by_class import say_by_class, show_by_class, show_task_by_class
from trtcal.tables.changed import show_changed
from trtcal.tables.scores import DETAILS, by_output, cells, decibels, of_integers, of_other_sizes


def as_dict(report: Report, loader: ImageLoader, notes: Sequence[str]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "images": str(loader.source),
        "count": loader.count,
        "digest": loader.digest,
        "preprocess": loader.preprocess.to_dict(),
        "skipped": [{"name": name, "reason": reason} for name, reason in loader.skipped],
        **report.to_dict(),
        "notes": [*notes],
    }


def remarks(report: Report, loader: ImageLoader) -> list[str]:
    """What a reader of the scores should know."""
    notes = [f"note: {line}" for line in report.notes]
    notes += [
        f"warning: {name} gives NaN or infinity for {each.nonfinite} of {each.samples} images: its outputs are broken"
        for name, each in report.scores.items()
        if each.nonfinite
    ]
    if report.reference is not None:
        others = [each for name, each in report.scores.items() if name != report.reference]
        told = of_other_sizes(others, report.reference)
        told += [line for name, each in report.scores.items() for line in of_integers(each, name, report.reference)]
        notes += [f"note: {line}" for line in told]
    if loader.skipped:
        name, reason = loader.skipped[0]
        notes.append(
            f"warning: {len(loader.skipped)} images could not be read and were left out, such as {name}: {reason}"
        )
    if (
        report.criterion != "task"
        and loader.labels is not None
        and not any(each.top1.total for each in report.scores.values())
    ):
        notes.append("There are labels, but no single output holds class scores: top-1 is not measured")
    return notes


def show(report: Report, loader: ImageLoader, *, by_class: bool = False) -> None:
    """Print the scores, how far each output is from the reference's where there are several, classes and images.

    Args:
        report: What was measured.
        loader: The images.
        by_class: Show every class; else a line names those that lose most.
    """
    tasks = {name: each.task.result for name, each in report.scores.items() if each.task is not None}
    rows = [cells(name, each, report.reference) for name, each in report.scores.items()]
    columns = [heading for heading in rows[-1] if any(row[heading] for row in rows)]
    samples = max(each.samples for each in report.scores.values())
    console.say(f"{samples} samples of {loader.source}, preprocessing {loader.preprocess}")
    if report.reference is not None:
        measured = ["agreement, SQNR"] if "agree" in columns else ["SQNR"]
        if "drop" in columns and report.criterion == "task":
            measure = measure_named(report.criterion, report.scores[report.reference])
            percent = all(result.percent for result in tasks.values())
            changes = ["detections lost, extra and moved"] if "lost" in columns else []
            measured = [f"drop in points of {measure}" if percent else f"drop of {measure}", *changes, *measured]
        elif "drop" in columns:
            measured = ["drop in points of top-1", "images lost and gained", *measured]
        console.say(f"{', '.join(measured)}: against {report.reference}")
    console.table(
        "",
        columns,
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=columns[1:],
        optional=DETAILS,
        legend=True,
        styles=["red" if each.nonfinite else None for each in report.scores.values()],
    )
    for name, each in report.scores.items():
        interval = report.drop_interval(name)
        if interval is not None and each.task is not None:
            low, high = (f"{end:.2f}" if each.task.result.percent else f"{end:.6g}" for end in interval)
            console.say(f"the drop of {name} has a 95 % interval of {low} to {high}")
    outputs = {name: parts for name, each in report.scores.items() if len(parts := by_output(each)) > 1}
    if outputs:
        console.table(
            f"SQNR by output, or group of channels alike, against {report.reference}; above stands the worst",
            ("model", "output", "SQNR"),
            [[name, output, decibels(part.sqnr)] for name, parts in outputs.items() for output, part in parts.items()],
            numeric=("SQNR",),
        )
    if by_class:
        show_task_by_class(tasks)
    for name in report.scores:
        if name != report.reference:
            (show_by_class if by_class else say_by_class)(name, report.by_class(name))
    for name, images in report.changed_images.items():
        show_changed(name, images, str(report.reference), report.names_of(name))
