"""Images of 32x32 pixels in colour to train on: CIFAR-10 in its published binary form, and digits where it is absent.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the binary version is five files
data_batch_1.bin to data_batch_5.bin and test_batch.bin, records of 3,073 bytes: the class, then 1,024 red, 1,024 green
and 1,024 blue pixels, row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError
from trtcal.demo.digits import SIZE, Digits, load_split

CHANNELS = 3
RECORD = 1 + CHANNELS * SIZE * SIZE
"""Bytes of an image: its class and its pixels."""

CLASSES = 10

FOLDER = "cifar-10-batches-bin"
"""What the published archive unpacks to."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images with their classes.

    Attributes:
        images: uint8 of shape (samples, 32, 32, 3): red, green, blue.
        labels: int64 of shape (samples,): 0 to 9.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Data:
    """A training and a test set of no common image.

    Attributes:
        name: Where they come from, in words.
        train: To train and to calibrate on.
        test: To judge by.
    """

    name: str
    train: Pictures
    test: Pictures


def load(folder: Path) -> Data:
    """CIFAR-10 from the binary files in `folder`, or the digits where there are none.

    Args:
        folder: That holds the files, or the archive's folder of them.

    Raises:
        DataError: Only some of the files are there, or one is malformed.
        MissingDependencyError: There are none, and scikit-learn, which brings the digits, is not installed.
    """
    place = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    batches, test = sorted(place.glob("data_batch_*.bin")), place / "test_batch.bin"
    if batches and test.is_file():
        return Data("CIFAR-10", read_binary(batches), read_binary([test]))
    if batches or test.is_file():
        absent = test.name if batches else "data_batch_1.bin"
        raise DataError(f"{place} holds a part of CIFAR-10, without {absent}: unpack the whole binary version there")
    split = load_split()
    return Data("handwritten digits of scikit-learn", _coloured(split.train), _coloured(split.test))


def read_binary(files: Sequence[Path]) -> Pictures:
    """The images of binary files, one after another.

    Raises:
        DataError: A file cannot be read, is cut off, or holds a class that there is not.
    """
    records = np.concatenate([_records(path) for path in files])
    pixels = records[:, 1:].reshape(-1, CHANNELS, SIZE, SIZE).transpose(0, 2, 3, 1)
    return Pictures(np.ascontiguousarray(pixels), records[:, 0].astype(np.int64))


def _records(path: Path) -> npt.NDArray[np.uint8]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not data.size or data.size % RECORD:
        raise DataError(
            f"{path} is no batch of CIFAR-10 in binary form: its {data.size} bytes are not records of {RECORD}; unpack "
            "it again"
        )
    records = data.reshape(-1, RECORD)
    wrong = np.flatnonzero(records[:, 0] >= CLASSES)
    if wrong.size:
        raise DataError(
            f"{path}: image {wrong[0]} is of class {records[wrong[0], 0]}, and CIFAR-10 has 0 to 9; unpack it again"
        )
    return records


def _coloured(digits: Digits) -> Pictures:
    return Pictures(np.repeat(digits.images[..., None], CHANNELS, axis=3), digits.labels)
