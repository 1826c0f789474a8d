"""Numbering: from the categories of annotations to the model's class numbers."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from calibrators.errors import DataError, listed


class Numbering(NamedTuple):
    """The class numbers.

    Attributes:
        number: By category.
        names: By class number.
        note: How they were chosen.
    """

    number: Mapping[int, int]
    names: tuple[str, ...]
    note: str


def numbered(
    categories: Mapping[int, str], used: Collection[int], *, classes: int | None, class_names: Sequence[str]
) -> Numbering:
    """Number the categories of COCO JSON.

    1. By name, where the model's names are known. Case, and whether words are parted by blanks, hyphens or
       underscores, does not count.
    2. Else by the ids themselves, where the model tells more classes apart than there are categories and the largest id
       is one of them: models of 91 classes (TensorFlow, torchvision, DETR) have COCO's own ids.
    3. Else in the order of the ids, from 0.

    Args:
        categories: Names by id.
        used: Ids of which there is an object in the images.
        classes: How many classes the model tells apart; None where that is not known.
        class_names: Their names; empty where they are not known.

    Raises:
        DataError: Objects have a category that is none of the model's classes.
    """
    if class_names:
        return by_name(categories, used, class_names)
    ids = sorted(categories)
    if classes is not None and len(ids) < classes and ids[0] >= 0 and ids[-1] < classes:
        names = tuple(categories.get(number, str(number)) for number in range(classes))
        note = f"the ids of the {len(ids)} categories are class numbers, as the model tells {classes} classes apart"
        return Numbering({each: each for each in ids}, names, note)
    number = {each: position for position, each in enumerate(ids)}
    beyond = [each for each in sorted(used) if classes is not None and number[each] >= classes]
    if beyond:
        raise DataError(
            f"it has {len(ids)} categories, and the model tells {classes} classes apart: "
            f"{listed([categories[beyond[0]]])} (id {beyond[0]}) would be class {number[beyond[0]]}; give annotations "
            "of the model's classes"
        )
    note = f"the {len(ids)} categories are classes 0 to {len(ids) - 1} in the order of their ids"
    return Numbering(number, tuple(categories[each] for each in ids), note)


def by_name(categories: Mapping[int, str], used: Collection[int], class_names: Sequence[str]) -> Numbering:
    """Number categories by the model's names of its classes.

    Raises:
        DataError: Objects have a category whose name is that of none of them, or of several.
    """
    equal, alike = _only(class_names), _only([_plain(name) for name in class_names])
    found = {each: equal.get(name, alike.get(_plain(name))) for each, name in categories.items()}
    strange = [categories[each] for each in sorted(used) if found[each] is None]
    if strange:
        raise DataError(
            f"{len(strange)} of its categories are none of the model's {len(class_names)} classes, or may be several: "
            f"{listed(strange)}, where the model has {listed(class_names)}; give annotations with the model's names"
        )
    number = {each: position for each, position in found.items() if position is not None}
    return Numbering(number, tuple(class_names), "categories are told by the names of the model's classes")


def _only(names: Sequence[str]) -> dict[str, int]:
    """The position of each name that no other has; torchvision calls several classes "N/A"."""
    counts = Counter(names)
    return {name: position for position, name in enumerate(names) if counts[name] == 1}


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
