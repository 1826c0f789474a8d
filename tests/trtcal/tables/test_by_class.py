"""Classes as a reader meets them: a short line, or all of them."""

import pytest

from trtcal.measure.by_class import ClassTable
from trtcal.measure.class_counts import ClassCounts
from trtcal.tables.by_class import say_by_class, show_by_class


def said(capsys: pytest.CaptureFixture[str], found: ClassTable) -> str:
    say_by_class("int8", found)
    return capsys.readouterr().out


def table(capsys: pytest.CaptureFixture[str], found: ClassTable) -> list[list[str]]:
    show_by_class("int8", found)
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line[1:-1].replace("┃", "│").split("│")] for line in lines if line[0] in "│┃"]


def test_nothing_is_said_where_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, ClassTable({0: ClassCounts(5, 5), 1: ClassCounts(5, 4, gained=2)})) == ""
    assert said(capsys, ClassTable({0: ClassCounts(5, 2, lost=2)}, compared=False)) == ""
    assert said(capsys, ClassTable({})) == ""


def test_a_line_names_the_classes_that_lose_most(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {0: ClassCounts(60, 40, lost=20), 1: ClassCounts(60, 58, lost=3, gained=1), 2: ClassCounts(60, 60)}
    assert said(capsys, ClassTable(counts, names=("cat", "dog", "cow"))) == (
        "int8 by class: 1 of 3 unchanged; lost most: cat (20 of 60), dog (3 of 60, 1 gained); beyond chance: 1\n"
    )


def test_it_stays_short_for_a_thousand_classes(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, ClassTable({number: ClassCounts(50, 48, lost=2) for number in range(1000)}))
    assert line == (
        "int8 by class: 0 of 1000 unchanged; lost most: 0 (2 of 50), 1 (2 of 50), 2 (2 of 50); beyond chance: none\n"
    )


def test_without_labels_classes_lose_images_to_others(capsys: pytest.CaptureFixture[str]) -> None:
    found = ClassTable({3: ClassCounts(expected=8, agreeing=6), 4: ClassCounts(expected=4, agreeing=4)})
    assert "1 of 2 unchanged; lost most: 3 (2 of 8); beyond chance: none" in said(capsys, found)
    assert table(capsys, found) == [["class", "images", "agree"], ["3", "8", "75.00 %"], ["4", "4", "100.00 %"]]


def test_the_table_has_all_classes(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {1: ClassCounts(60, 40, lost=20), 0: ClassCounts(4, 3, gained=1)}
    headings, first, second = table(capsys, ClassTable(counts))
    assert headings == ["class", "images", "top-1", "95 % CI", "drop", "lost", "gained", "beyond chance"]
    assert first == ["0", "4", "75.00 %", "30.06-95.44", "-25.00", "0", "1", "-"]
    assert second == ["1", "60", "66.67 %", "54.06-77.27", "33.33", "20", "0", "yes"]
    headings, *_ = table(capsys, ClassTable({1: ClassCounts(60, 40)}, compared=False))
    assert headings == ["class", "images", "top-1", "95 % CI"]
    assert table(capsys, ClassTable({})) == []
