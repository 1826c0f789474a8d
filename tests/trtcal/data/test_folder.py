"""Folders: which files are images, in which order, and which sub-folders are classes."""

import os
from pathlib import Path

import PIL.Image
import pytest

from calibrators.errors import DataError
from trtcal.data.folder import ImageFolder
from trtcal.data.images import ImageLoader


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (2, 2)).save(folder / name, "png")


def test_images_in_code_point_order(tmp_path: Path) -> None:
    fill(tmp_path, "b.png", "B.PNG", "a/z.jpg", "a-x.png", "a.png", "é.png", "a/b/c.Tiff", "10.png", "9.png")
    names = ImageFolder.read(tmp_path).names
    assert names == ("10.png", "9.png", "B.PNG", "a-x.png", "a.png", "a/b/c.Tiff", "a/z.jpg", "b.png", "é.png")


def test_side_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.png", "dog/1.png", ".cache/x.png", "cat/._1.png", "dog/.hidden.png")
    for name in ("labels.csv", ".DS_Store", "README", "cat/notes.txt", "png"):
        (tmp_path / name).write_text("no image")
    folder = ImageFolder.read(tmp_path)
    assert folder.names == ("cat/1.png", "dog/1.png")
    assert folder.class_names == ("cat", "dog")


def test_sub_folders_are_classes_even_empty_ones(tmp_path: Path) -> None:
    fill(tmp_path, "zebra/1.png", "ant/x/2.png", "ant/3.png")
    (tmp_path / "bee").mkdir()
    folder = ImageFolder.read(tmp_path)
    assert folder.class_names == ("ant", "bee", "zebra")
    assert folder.labels is not None
    assert folder.labels.tolist() == [0, 0, 2]


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("only/a.png", "only/b.png"), ("x/a.png", "y/b.png", "c.png")])
def test_no_classes_where_folders_do_not_tell(tmp_path: Path, names: tuple[str, ...]) -> None:
    fill(tmp_path, *names)
    folder = ImageFolder.read(tmp_path)
    assert folder.labels is None
    assert folder.class_names == ()


def test_a_csv_goes_before_sub_folders(tmp_path: Path) -> None:
    fill(tmp_path, "x/a.png", "y/b.png")
    (tmp_path / "labels.csv").write_text("x/a.png,7\ny/b.png,7\n")
    folder = ImageFolder.read(tmp_path, labels=tmp_path / "labels.csv")
    assert folder.labels is not None
    assert folder.labels.tolist() == [7, 7]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "1.png")
    images = tmp_path / "images"
    fill(images, "cat/1.png")
    (images / "dog").symlink_to(tmp_path / "elsewhere")
    (images / "cat" / "up").symlink_to(images)
    assert ImageFolder.read(images).names == ("cat/1.png", "dog/1.png")


def test_a_folder_without_an_image(tmp_path: Path) -> None:
    for empty in (tmp_path, tmp_path / "words"):
        empty.mkdir(exist_ok=True)
        with pytest.raises(
            DataError, match=r"no image in .*: files are read that end in \.bmp, \.gif, .*, \.webp"
        ) as error:
            ImageFolder.read(empty)
        assert str(empty) in str(error.value)
        assert error.value.exit_code == 2
        (tmp_path / "words").mkdir(exist_ok=True)
        (tmp_path / "words" / "README").write_text("nothing here")


def test_content_is_the_files_bytes(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "c.png").write_bytes(b"other")
    folder = ImageFolder.read(tmp_path)
    assert folder.content(0) == folder.content(1) != folder.content(2)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.png: No such file"):
        folder.content(0)


def test_a_link_that_goes_round_is_a_broken_image(tmp_path: Path) -> None:
    fill(tmp_path, "b.png")
    (tmp_path / "a.png").symlink_to("a.png")
    (tmp_path / "c").symlink_to("c")
    assert ImageFolder.read(tmp_path).names == ("a.png", "b.png")
    with pytest.raises(DataError, match=r"cannot read image .*a\.png: .*remove it, or leave such images out"):
        list(ImageLoader(tmp_path))
    with pytest.raises(DataError, match=r"cannot read .*a\.png: "):
        ImageLoader(tmp_path).digest  # noqa: B018
    loader = ImageLoader(tmp_path, on_bad_image="skip")
    assert [batch.names for batch in loader] == [("b.png",)]
    assert [name for name, _ in loader.skipped] == ["a.png"]
    assert len(loader.digest) == 64


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"cannot read .*a\.png: it is no file"):
        ImageFolder.read(tmp_path).content(0)
