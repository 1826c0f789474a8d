"""PNG masks: the class of each pixel, whatever way the file has it, and each mistake by file."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from calibrators.errors import DataError
from trtcal.tasks.found import ClassMap
from trtcal.tasks.truth.opening import opened_truth
from trtcal.tasks.truth.truth import Truth

NUMBERS = np.array([[0, 1, 2, 3], [3, 255, 1, 0], [0, 0, 0, 2]])
KNOWN = np.where(NUMBERS == 255, -1, NUMBERS)


def saved(path: Path, numbers: np.ndarray = NUMBERS, kind: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PIL.Image.fromarray(numbers.astype(np.uint16 if kind == "I;16" else np.uint8))
    if kind == "P":
        image.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8)))
    image.save(path, format="PNG")
    return path


def packed(path: Path, numbers: np.ndarray, bits: int) -> None:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""
    height, width = numbers.shape
    rows = b""
    for row in numbers:
        levels = "".join(f"{level:0{bits}b}" for level in row)
        levels += "0" * (-len(levels) % 8)
        rows += b"\0" + bytes(int(levels[at : at + 8], 2) for at in range(0, len(levels), 8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def opened(folder: Path, names: tuple[str, ...] = ("a.jpg",), **options: Any) -> Truth:
    asked = {"sizes": lambda name: (3, 4), "classes": None, "class_names": (), "kind": "segment", **options}
    return opened_truth(folder, names=names, **asked)


def classes(truth: Truth, name: str = "a.jpg") -> list[list[int]]:
    found = truth.of(name)
    assert isinstance(found, ClassMap)
    assert found.classes.dtype == np.int64
    return found.classes.tolist()  # type: ignore[no-any-return]


def said(folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        opened(folder, **options)
    assert str(error.value).startswith(f"annotations {folder}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"annotations {folder}: ")


@pytest.mark.parametrize("kind", ["L", "P", "I;16"])
def test_a_class_for_each_pixel(tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "a.png", kind=kind)
    truth = opened(tmp_path)
    assert truth.measure == "pixels"
    assert truth.classes == ()
    assert truth.notes == ("classes are the pixels' own numbers; 255 is not known, and counts nowhere",)
    assert classes(truth) == KNOWN.tolist()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits(tmp_path: Path, bits: int) -> None:
    numbers = np.minimum(KNOWN % 4, 2**bits - 1)
    packed(tmp_path / "a.png", numbers, bits)
    assert classes(opened(tmp_path)) == numbers.tolist()


def test_numbers_of_16_bits(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", np.array([[300, 255, 65535, 0]] * 3), kind="I;16")
    assert classes(opened(tmp_path, classes=400)) == [[300, 255, -1, 0]] * 3
    assert classes(opened(tmp_path)) == [[300, -1, -1, 0]] * 3


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a.jpg", "sub/\u00fc b.JPG"), ("a.png", "sub/u\u0308 b.PNG")),
        (("a.jpg", "b.jpg"), ("a.jpg.png", "b.jpg.png")),
        (("images/val/1.jpg", "images/train/1.jpg"), ("masks/val/1.png", "masks/train/1.png")),
        (("a.png", "b.png"), ("val/a.png", "val/b.png")),
    ],
)
def test_files_beside_images(tmp_path: Path, names: tuple[str, ...], files: tuple[str, ...]) -> None:
    saved(tmp_path / files[0], KNOWN % 4)
    saved(tmp_path / files[1], KNOWN % 2)
    truth = opened(tmp_path, names)
    assert classes(truth, names[0]) == (KNOWN % 4).tolist()
    assert classes(truth, names[1]) == (KNOWN % 2).tolist()


def test_names_of_classes(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\ncar\n")
    assert opened(tmp_path).classes == ("sky", "road", "tree", "car")
    assert opened(tmp_path, class_names=("w", "x", "y", "z")).classes == ("w", "x", "y", "z")


def test_white_for_objects_is_told(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", np.array([[0, 255, 0, 0]] * 3))
    assert opened(tmp_path).notes[1:] == (
        "the first 1 masks hold 0 and 255 alone: for an object of class 1, write 1 and not 255",
    )


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    assert said(tmp_path, sizes=lambda name: (4, 3)) == ("a.png: the mask is 3x4 (height x width), and the image 4x3")
    assert said(tmp_path, classes=2) == "a.png: class 3 is beyond the 2 classes that the model tells apart, from 0"
    assert said(tmp_path, classes=3) == (
        "a.png: class 3 is beyond the 3 classes that the model tells apart, from 0; where 0 is not known and classes "
        "count from 1, save number - 1, and 255 for 0"
    )
    assert said(tmp_path, names=("a.jpg", "b.jpg", "c.jpg")) == (
        "2 of 3 images have no mask, such as b.jpg: a mask is called as its image is, and ends in .png"
    )
    assert said(tmp_path, kind="detect").startswith("it has a .txt of YOLO labels of none of these 1 images, such as")


def test_a_later_mask_is_judged_when_it_is_asked_for(tmp_path: Path) -> None:
    names = tuple(f"{index:02d}.jpg" for index in range(12))
    for index in range(12):
        saved(tmp_path / f"{index:02d}.png", np.full((3, 4), index))
    truth = opened(tmp_path, names, classes=11)
    assert classes(truth, "10.jpg") == [[10] * 4] * 3
    with pytest.raises(DataError, match=r"^annotations .*: 11\.png: class 11 is beyond the 11 classes"):
        truth.of("11.jpg")
    with pytest.raises(DataError, match=r"there is no mask of 99\.jpg"):
        truth.of("99.jpg")


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    assert said(tmp_path) == "a.png: its pixels are colours (RGB): a mask has class numbers, grey or a palette's"
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    assert said(tmp_path) == "a.png: it is no file"
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").write_text("words")
    assert said(tmp_path) == "a.png: it is no PNG, or its header is damaged"
    PIL.Image.new("RGB", (4, 3)).save(tmp_path / "a.png", format="JPEG")
    assert said(tmp_path) == "a.png: it is no PNG, or its header is damaged"
    data = saved(tmp_path / "a.png", np.random.default_rng(0).integers(0, 9, (300, 400))).read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    assert said(tmp_path, sizes=lambda name: (300, 400)).startswith("a.png: it cannot be read: image file is truncated")
