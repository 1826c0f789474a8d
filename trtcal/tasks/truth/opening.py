"""Opening annotations of any format."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from calibrators.errors import DataError
from calibrators.files import require_path
from trtcal.tasks.adapter import Kind
from trtcal.tasks.found import Finding
from trtcal.tasks.placement import Size
from trtcal.tasks.truth.coco import coco_truth
from trtcal.tasks.truth.truth import Asked, Truth


def opened_truth(
    path: str | os.PathLike[str],
    *,
    names: Sequence[str],
    sizes: Callable[[str], Size],
    classes: int | None,
    class_names: Sequence[str],
    kind: Kind,
) -> Truth:
    """What annotations say of some images.

    Args:
        path: COCO JSON (`trtcal.tasks.truth.coco`).
        names: The images', relative to their folder.
        sizes: Height and width of an image as it is looked at. Images of which it raises DataError are left aside: who
            reads their pixels says more.
        classes: How many classes the model tells apart; None where that is not known.
        class_names: Its classes' names by number; empty where they are not known.
        kind: What the model finds.

    Raises:
        DataError: The annotations cannot be read, are of other images or classes, or have not what is wanted. The
            message begins with their path.
    """
    require_path(path, "annotations", "give COCO JSON, or a folder of YOLO labels or PNG masks")
    place = Path(path)
    known = dict[str, Size]()
    for name in names:
        with suppress(DataError):
            known[name] = sizes(name)
    unreadable = set(names).difference(known)
    if not known:
        sizes(names[0])
    try:
        truth = coco_truth(place, Asked(known, kind, classes, class_names))
    except DataError as error:
        raise DataError(f"annotations {place}: {error}") from error

    def finding(name: str) -> Finding:
        if name in unreadable:
            sizes(name)
        try:
            return truth.of(name)
        except DataError as error:
            raise DataError(f"annotations {place}: {error}") from error

    return Truth(truth.measure, truth.classes, truth.notes, finding)
