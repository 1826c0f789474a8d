"""PNG masks: a class for each pixel, one file for each image."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError, folded, listed, one_line
from trtcal.tasks.found import ClassMap
from trtcal.tasks.placement import Size
from trtcal.tasks.truth import dataset_file
from trtcal.tasks.truth.truth import Asked, Truth

if TYPE_CHECKING:
    from PIL.Image import Image

UNKNOWN = {8: 255, 16: 65535}
"""What stands for "not known", by bits; in 16 bits 255 as well, unless the model tells as many classes apart."""

LOOKED_AT = 10
"""Masks that are looked at when they are opened; the others, one by one as they are asked for."""


def mask_truth(folder: Path, files: Mapping[str, str], asked: Asked) -> Truth:
    """Read PNG masks of 8 bits (grey, or numbers of a palette) or 16: each pixel is its class number.

    Args:
        folder: Of the files and of all folders in it.
        files: By the image's name, relative to `folder`.
        asked: What for.

    Raises:
        DataError: Here: an image has no mask, one of another size, or one that is no PNG of class numbers. From `of`: a
            mask is damaged, or has a class that the model has not.
    """
    without = [name for name in asked.sizes if name not in files]
    if without:
        raise DataError(
            f"{len(without)} of {len(asked.sizes)} images have no mask, such as {listed(without[:1])}: a mask is "
            "called as its image is, and ends in .png"
        )
    for name, size in asked.sizes.items():
        with _opened(folder / files[name], files[name]) as image:
            _check(image, files[name], size)
    names: tuple[str, ...] = tuple(asked.class_names)
    dataset = None if names else dataset_file.beside(folder)
    if dataset is not None:
        names = tuple(dataset.names.get(number, str(number)) for number in range(max(dataset.names) + 1))

    def finding(name: str) -> ClassMap:
        if name not in asked.sizes:
            raise DataError(f"there is no mask of {listed([name])}: masks were opened for other images")
        return ClassMap(_classes(folder / files[name], files[name], asked.classes))

    first = [finding(name).classes for name in list(asked.sizes)[:LOOKED_AT]]
    notes = ["classes are the pixels' own numbers; 255 is not known, and counts nowhere"]
    if not any((classes > 0).any() for classes in first) and any((classes < 0).any() for classes in first):
        notes.append(
            f"the first {len(first)} masks hold 0 and 255 alone: for an object of class 1, write 1 and not 255"
        )
    return Truth("pixels", names, tuple(notes), finding)


def _opened(path: Path, where: str) -> "Image":
    import PIL.Image

    try:
        if not path.is_file():  # Opening a pipe would wait for ever.
            raise DataError(f"{where}: it is no file")
        return PIL.Image.open(path, formats=("PNG",))
    except DataError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise DataError(f"{where}: it is no PNG, or its header is damaged") from error
    except Exception as error:  # A decoder on hostile bytes raises anything.
        raise DataError(f"{where}: it cannot be read: {_reason(error)}") from error


def _check(image: "Image", where: str, size: Size) -> None:
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise DataError(
            f"{where}: its pixels are colours ({image.mode}): a mask has class numbers, grey or a palette's"
        )
    if (image.height, image.width) != size:
        raise DataError(
            f"{where}: the mask is {image.height}x{image.width} (height x width), and the image {size[0]}x{size[1]}"
        )


def _classes(path: Path, where: str, classes: int | None) -> npt.NDArray[np.int64]:
    """Class numbers, -1 where they are not known."""
    with _opened(path, where) as image:
        try:
            image.load()
        except Exception as error:  # As in `_opened`.
            raise DataError(f"{where}: it cannot be read: {_reason(error)}") from error
        numbers = np.asarray(image).astype(np.int64)
        bits = 16 if image.mode.startswith("I") else 8
        grey = image.mode == "L"
    numbers //= _stretch(path) if grey else 1
    unknown = numbers == UNKNOWN[bits]
    if bits == 16 and (classes is None or classes <= UNKNOWN[8]):
        unknown |= numbers == UNKNOWN[8]
    numbers[unknown] = -1
    most = int(numbers.max())
    if classes is not None and most >= classes:
        shifted = "; where 0 is not known and classes count from 1, save number - 1, and 255 for 0"
        raise DataError(
            f"{where}: class {most} is beyond the {classes} classes that the model tells apart, from 0"
            f"{shifted if most == classes else ''}"
        )
    return numbers


def _stretch(path: Path) -> int:
    """By what Pillow has multiplied grey levels of fewer than 8 bits: 17 of 4 bits, 85 of 2.

    The bit depth is the tenth byte of a PNG's header chunk, the 25th of the file.
    """
    with path.open("rb") as file:
        depth = file.read(25)[24]
    return {2: 85, 4: 17}.get(depth, 1)


def _reason(error: Exception) -> str:
    said = folded(error.strerror) if isinstance(error, OSError) and error.strerror else one_line(error, 80)
    return said.rstrip(".")
