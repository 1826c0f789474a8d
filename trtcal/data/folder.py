"""A folder of images: its files, and the classes that its sub-folders are."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibrators.errors import DataError
from trtcal.data import labels as label_files
from trtcal.data.geometry import Size
from trtcal.data.labels import Labels
from trtcal.data.pixels import EXTENSIONS, opened, upright_size

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The images of a folder and of all folders in it.

    Attributes:
        source: The folder.
        names: Paths relative to it, with forward slashes, in the order of their characters' code points.
        labels: Class numbers, where they are known.
        class_names: By class number, where they are known.
    """

    source: Path
    names: tuple[str, ...]
    labels: Labels | None
    class_names: tuple[str, ...]

    @staticmethod
    def read(source: Path, *, labels: Path | None = None) -> "ImageFolder":
        """List a folder.

        An image is what is called like one (`trtcal.data.pixels.EXTENSIONS`, in upper or lower case); other files, and
        what is hidden (a leading dot), are passed over. Links are followed. Without a CSV of labels, sub-folders are
        classes: every one that is not hidden, numbered in sorted order, if there are two or more and no image lies
        outside them.

        Raises:
            DataError: The folder has no image, or cannot be read, or the labels do not fit.
        """
        names = tuple(sorted(_images(source)))
        if not names:
            raise DataError(f"no image in {source}: files are read that end in {', '.join(EXTENSIONS)}")
        if labels is not None:
            return ImageFolder(source, names, *label_files.read_csv(labels, names))
        classes = tuple(sorted(path.name for path in source.iterdir() if path.is_dir() and path.name[0] != "."))
        if len(classes) < 2 or any("/" not in name for name in names):
            return ImageFolder(source, names, None, ())
        number = {name: index for index, name in enumerate(classes)}
        return ImageFolder(source, names, np.array([number[name.split("/")[0]] for name in names], np.int64), classes)

    def where(self, position: int) -> str:
        """The image's place, for messages."""
        return str(self.source / self.names[position])

    def image(self, position: int) -> "Image":
        """Open an image; its pixels are not decoded yet.

        Raises:
            BadImageError: It is none.
        """
        return opened(self.source / self.names[position])

    def image_size(self, position: int) -> Size:
        """The (height, width) of an image as it is looked at.

        Raises:
            BadImageError: It cannot be read.
        """
        with self.image(position) as image:
            return upright_size(image)

    def content(self, position: int) -> bytes:
        """The SHA-256 of an image file.

        Raises:
            DataError: It cannot be read.
        """
        path = self.source / self.names[position]
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # Reading a pipe would wait for ever.
                raise DataError(f"cannot read {path}: it is no file")
            return hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise DataError(f"cannot read {self.where(position)}: {error.strerror or error}") from error


def _images(folder: Path, *, above: frozenset[str] = frozenset(), prefix: str = "") -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # A link to a folder above would go round for ever.
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _images(Path(entry), above=above | {real}, prefix=f"{prefix}{entry.name}/")
        elif entry.name.lower().endswith(EXTENSIONS):
            yield prefix + entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that goes round in a circle: by its name it may be an image, a broken one.
        return False
