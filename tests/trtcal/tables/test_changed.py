"""The images that changed most, as a reader meets them."""

import math

import pytest

from trtcal.measure.changed import ChangedImage
from trtcal.tables.changed import show_changed


def shown(capsys: pytest.CaptureFixture[str], *images: ChangedImage, names: tuple[str, ...] = ()) -> list[list[str]]:
    show_changed("int8", images, "float", names)
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line[1:-1].replace("┃", "│").split("│")] for line in lines if line[0] in "│┃"]


def test_classes_go_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    images = [ChangedImage("a/1.png", 3.26, 0, 1, 0), ChangedImage("b/2.png", 31.0, 1, 1, 1)]
    assert shown(capsys, *images, names=("cat", "dog")) == [
        ["image", "change", "class", "label", "SQNR"],
        ["a/1.png", "lost", "cat -> dog", "cat", "3.3 dB"],
        ["b/2.png", "-", "dog", "dog", "31.0 dB"],
    ]


def test_what_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, ChangedImage("1.jpg", -math.inf)) == [["image", "SQNR"], ["1.jpg", "-inf dB"]]
    (row,) = shown(capsys, ChangedImage("1.jpg", math.nan, 4, None))[1:]
    assert row == ["1.jpg", "class", "4 -> ?", "nan dB"]


def test_no_image_may_have_changed(capsys: pytest.CaptureFixture[str]) -> None:
    show_changed("int8", (), "float", ())
    assert capsys.readouterr().out == "int8 changes no image: all outputs are those of float\n"
