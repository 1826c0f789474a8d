"""The images that a model changes most."""

from collections.abc import Sequence

from trtcal.measure.changed import ChangedImage
from trtcal.measure.report import Changed
from trtcal.tables import console
from trtcal.tables.scores import decibels
from trtcal.tasks.measuring.changes import Change, PixelChange


def show_changed(name: str, images: Sequence[Changed], reference: str, class_names: Sequence[str]) -> None:
    """Print which images a model changes most, or that it changes none.

    Args:
        name: The model's.
        images: In order.
        reference: What it is compared with.
        class_names: By class number; empty where they are not known.
    """
    if not images:
        console.say(f"{name} changes no image: all outputs are those of {reference}")
        return
    rows = [_cells(image, class_names) if isinstance(image, ChangedImage) else _found_cells(image) for image in images]
    columns = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    console.table(
        f"Images that {name} changes most against {reference}",
        columns,
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=("SQNR", "lost", "extra", "moved", "pixels"),
        whole=("change",),
    )


def _cells(image: ChangedImage, names: Sequence[str]) -> dict[str, str]:
    before, now, label = (_named(number, names) for number in (image.before, image.now, image.label))
    changed = "" if image.change == "outputs" else image.change
    moved = f"{before or '?'} -> {now or '?'}" if image.before != image.now else before
    return {"image": image.name, "change": changed, "class": moved, "label": label, "SQNR": decibels(image.sqnr)}


def _found_cells(image: Change | PixelChange) -> dict[str, str]:
    if isinstance(image, PixelChange):
        return {"image": image.image, "pixels": f"{image.share:.2f} %"}
    return {"image": image.image, "lost": str(image.lost), "extra": str(image.extra), "moved": str(image.moved)}


def _named(number: int | None, names: Sequence[str]) -> str:
    if number is None:
        return ""
    return names[number] if number < len(names) else str(number)
