"""Class by class: what is unchanged, what loses most, and what may be chance."""

import pytest

from trtcal.measure.by_class import ClassTable
from trtcal.measure.chance import difference_interval
from trtcal.measure.class_counts import ClassCounts

LABELLED = ClassTable(
    {
        4: ClassCounts(1, 0, lost=1),
        0: ClassCounts(60, 56, lost=5, gained=1, expected=60, agreeing=54),
        1: ClassCounts(60, 40, lost=20, expected=60, agreeing=40),
        2: ClassCounts(60, 60, expected=60, agreeing=60),
        3: ClassCounts(60, 59, lost=2, gained=2, expected=61, agreeing=57),
        9: ClassCounts(expected=2),
    },
    names=tuple("abcdefghij"),
)


def test_classes_are_those_with_images():
    assert LABELLED.classes == [0, 1, 2, 3, 4]
    assert LABELLED.unchanged == [2]


def test_the_surest_loss_comes_first_and_not_the_largest_share():
    """One image of one is the largest share there is, and tells least."""
    assert LABELLED.losing == [1, 0, 4]
    assert [number for number in LABELLED.classes if LABELLED.beyond_chance(number)] == [1]


def test_many_classes_are_not_taken_for_losing_by_chance():
    """Of 60 images 7 lost are beyond chance for one class alone, and not for the one that lost most of 1,000."""
    counts = {number: ClassCounts(60, 60, expected=60, agreeing=60) for number in range(1000)}
    one = {7: ClassCounts(60, 53, lost=7)}
    assert difference_interval(7, 7, 60)[0] > 0
    assert ClassTable(one).beyond_chance(7)
    assert not ClassTable({**counts, **one}).beyond_chance(7)
    assert ClassTable({**counts, 7: ClassCounts(60, 30, lost=30)}).beyond_chance(7)


def test_without_labels_it_is_the_agreement_of_each_class_of_the_reference():
    found = ClassTable({0: ClassCounts(expected=50, agreeing=50), 5: ClassCounts(expected=50, agreeing=20)})
    assert (found.labelled, found.classes, found.unchanged, found.losing) == (False, [0, 5], [0], [5])
    assert (found.loss(5), found.images(5), found.beyond_chance(5)) == (30, 50, True)
    row = found.rows()[1]
    assert (row["class"], row["images"], row["agreement"], row["top1"], row["lost"]) == (5, 50, 40, None, None)


def test_rows_hold_what_was_measured():
    first, *_, last = LABELLED.rows()
    assert {key: first[key] for key in ("class", "name", "images", "lost", "gained", "beyond_chance")} == {
        "class": 0, "name": "a", "images": 60, "lost": 5, "gained": 1, "beyond_chance": False,
    }  # fmt: skip
    assert first["top1"] == pytest.approx(100 * 56 / 60)
    assert first["drop"] == pytest.approx(100 * 4 / 60)
    assert first["agreement"] == 90
    assert (last["name"], last["agreement"], last["reference_images"]) == ("e", None, 0)


def test_a_model_without_a_reference_has_top1_alone():
    found = ClassTable({0: ClassCounts(4, 3)}, compared=False)
    (row,) = found.rows()
    assert (row["top1"], row["drop"], row["lost"], row["beyond_chance"], row["name"]) == (75, None, None, None, None)
    assert found.named(0) == "0"
    assert ClassTable({}).rows() == []
