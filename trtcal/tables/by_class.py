"""What a model does class by class: a line on the classes that lose most, or a table of all."""

from collections.abc import Mapping

from trtcal.measure.by_class import ClassTable
from trtcal.measure.measures import Share
from trtcal.tables import console
from trtcal.tasks.measuring.result import TaskResult

NAMED = 3
"""Classes that the line names."""


def say_by_class(name: str, found: ClassTable) -> None:
    """Print in one line which classes lose most, the surest losses first; nothing where none loses an image.

    Args:
        name: The model's.
        found: Its images by class.
    """
    losing = found.losing if found.compared else []
    if not losing:
        return
    unchanged = f"{len(found.unchanged)} of {len(found.classes)} unchanged"
    most = ", ".join(_of_class(found, number) for number in losing[:NAMED])
    beyond = sum(map(found.beyond_chance, losing)) or "none"
    console.say(f"{name} by class: {unchanged}; lost most: {most}; beyond chance: {beyond}")


def show_by_class(name: str, found: ClassTable) -> None:
    """Print a table of all classes of a model; nothing where it has no class scores.

    Args:
        name: The model's.
        found: Its images by class.
    """
    rows = [_cells(found, number) for number in found.classes]
    if not rows:
        return
    columns = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    console.table(
        f"{name} by {'label' if found.labelled else 'class of the reference'}",
        columns,
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=[heading for heading in columns if heading not in ("class", "beyond chance")],
        optional=("95 % CI",),
        styles=["red" if row["beyond chance"] else None for row in rows],
    )


def show_found_by_class(results: Mapping[str, TaskResult]) -> None:
    """Print a task's measure of each class, beside each other by model; nothing where there are no classes."""
    classes = dict.fromkeys(name for each in results.values() for name in each.by_class)
    rows = [[name, *(_percent(each.by_class.get(name)) for each in results.values())] for name in classes]
    if rows:
        measure = next(iter(results.values())).measure
        console.table(f"{measure} by class", ["class", *results], rows, numeric=[*results])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _of_class(found: ClassTable, number: int) -> str:
    """Such as "cat (4 of 60, 1 gained)"."""
    gained = found.counts[number].gained if found.labelled else 0
    lost = f"{found.loss(number) + gained} of {found.images(number)}"
    return f"{found.named(number)} ({lost}, {gained} gained)" if gained else f"{found.named(number)} ({lost})"


def _cells(found: ClassTable, number: int) -> dict[str, str]:
    each = found.counts[number]
    cells = {"class": found.named(number), "images": str(found.images(number))}
    if not found.labelled:
        cells["agree"] = f"{Share(each.agreeing, each.expected).percent:.2f} %"
    else:
        top1 = Share(each.right, each.samples)
        low, high = top1.interval()
        cells |= {"top-1": f"{top1.percent:.2f} %", "95 % CI": f"{low:.2f}-{high:.2f}"}
        if found.compared:
            drop = 100 * found.loss(number) / each.samples
            cells |= {"drop": f"{drop:.2f}", "lost": str(each.lost), "gained": str(each.gained)}
    return {**cells, "beyond chance": "yes" if found.beyond_chance(number) else ""}
