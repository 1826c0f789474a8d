"""Numbering: which class a category is, and how that is told."""

import pytest

from calibrators.errors import DataError
from trtcal.tasks.truth.numbering import by_name, numbered

COCO = {18: "dog", 1: "person", 90: "toothbrush"}


@pytest.mark.parametrize(
    ("classes", "number"),
    [
        (None, {1: 0, 18: 1, 90: 2}),
        (3, {1: 0, 18: 1, 90: 2}),
        (80, {1: 0, 18: 1, 90: 2}),  # 90 is no class of 80
        (91, {1: 1, 18: 18, 90: 90}),
        (2, {1: 0, 18: 1, 90: 2}),  # nothing is a toothbrush
    ],
)
def test_numbers(classes: int | None, number: dict[int, int]) -> None:
    found = numbered(COCO, {1, 18}, classes=classes, class_names=())
    assert found.number == number
    assert all(found.names[position] == COCO[each] for each, position in number.items())


def test_a_background_before_the_classes() -> None:
    found = numbered({1: "a", 2: "b"}, {1, 2}, classes=3, class_names=())
    assert found.number == {1: 1, 2: 2}
    assert found.names == ("0", "a", "b")


def test_names() -> None:
    names = ("__background__", "N/A", "N/A", "Person", "tooth-brush", "Dog", "dog")
    found = by_name({1: "person", 2: "tooth brush", 3: "dog", 4: "Dog", 5: "unused"}, {1, 2, 3, 4}, names)
    assert found.number == {1: 3, 2: 4, 3: 6, 4: 5}
    assert found.names == names


@pytest.mark.parametrize("name", ["N/A", "DOG", "cat"])
def test_names_of_none_or_of_several(name: str) -> None:
    with pytest.raises(DataError, match=rf"^1 of its categories are none of .* 4 classes, or may be several: {name}, "):
        by_name({1: name}, {1}, ("N/A", "N/A", "Dog", "dog"))
