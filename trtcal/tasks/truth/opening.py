"""Opening annotations of any format."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from calibrators.errors import DataError, listed
from calibrators.files import require_path
from trtcal.tasks.adapter import Kind
from trtcal.tasks.found import Finding
from trtcal.tasks.placement import Size
from trtcal.tasks.truth.coco import coco_truth
from trtcal.tasks.truth.masks import mask_truth
from trtcal.tasks.truth.pairing import Pairs, paired
from trtcal.tasks.truth.truth import Asked, Truth
from trtcal.tasks.truth.yolo import yolo_truth


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
        path: COCO JSON (`trtcal.tasks.truth.coco`), or a folder of YOLO labels (`trtcal.tasks.truth.yolo`) or, where
            the model segments, of PNG masks (`trtcal.tasks.truth.masks`).
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
        asked = Asked(known, kind, classes, class_names)
        truth = _of_folder(place, asked) if place.is_dir() else coco_truth(place, asked)
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


def _of_folder(folder: Path, asked: Asked) -> Truth:
    files = list(_files(folder))
    labels = _by_image(asked.sizes, [file for file in files if file.lower().endswith(".txt")])
    if labels:
        return yolo_truth(folder, labels, asked)
    masks = _by_image(asked.sizes, [file for file in files if file.lower().endswith(".png")])
    if masks and asked.kind == "segment":
        return mask_truth(folder, masks, asked)
    wanted = "a .txt of YOLO labels" + (" or a .png mask" if asked.kind == "segment" else "")
    more = [file for file in files if file.endswith(".json")]
    meant = f"; or is it {folder / more[0]}" if len(more) == 1 else ""
    raise DataError(
        f"it has {wanted} of none of these {len(asked.sizes)} images, such as {listed(list(asked.sizes)[:1])}: "
        f"a file is called as its image is{meant}"
    )


def _by_image(names: Iterable[str], files: Sequence[str]) -> dict[str, str]:
    """The file of each image, by paths without endings (`a.txt`), or else in full (`a.jpg.txt`).

    Where these are not equal, they are compared without the folders in which images and annotations lie beside each
    other, and else as loosely as `paired` does.
    """
    for stem in (_stem, str):
        tried = [_paired(names, files, stem, *folders) for folders in _BESIDE]
        best = next((pairs for pairs in tried if pairs.exact), max(tried, key=lambda pairs: len(pairs.found)))
        if best.found and best.unclear:
            raise DataError(
                f"which file belongs to {listed(best.unclear[:1])} is not clear: give the folder of its labels"
            )
        if best.found:
            return best.found
    return {}


_BESIDE: Sequence[tuple[Sequence[str], Sequence[str]]] = (((), ()), (("images",), ("labels", "masks", "annotations")))
"""What is left out of the paths of images, and of annotations."""


def _paired(
    names: Iterable[str],
    files: Sequence[str],
    stem: Callable[[str], str],
    images: Sequence[str],
    annotations: Sequence[str],
) -> Pairs:
    ours = {name: _without(stem(name), images) for name in names}
    theirs = {_without(_stem(file), annotations): file for file in files}
    pairs = paired(list(ours.values()), list(theirs))
    found = {name: theirs[pairs.found[key]] for name, key in ours.items() if key in pairs.found}
    return Pairs(found, tuple(name for name, key in ours.items() if key in pairs.unclear), pairs.exact)


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _without(path: str, folders: Sequence[str]) -> str:
    return "/".join(part for part in path.split("/") if part not in folders)


def _files(folder: Path) -> Iterator[str]:
    """Paths relative to the folder, sorted; what is hidden is passed over."""
    try:
        for place, folders, files in os.walk(folder, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = Path(place).relative_to(folder)
            yield from ((inside / name).as_posix() for name in sorted(files) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}") from error


def _refuse(error: OSError) -> None:
    raise error
