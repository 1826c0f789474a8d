"""The demo's images: the handwritten digits of scikit-learn, written out as PNG files.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(CC BY 4.0). scikit-learn ships its test part: 1,797 images of 8x8 pixels by 13 writers.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibrators.errors import MissingDependencyError
from calibrators.files import explained, write_whole
from calibrators.installation import pip_install

SIZE = 32
"""Height and width of an image in pixels: the 8x8 originals, enlarged four times."""

SEED = 0
"""Of the permutation that tells train, validation and test apart."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Images with their classes.

    Attributes:
        images: uint8 of shape (samples, 32, 32): 0 is paper, 255 is ink.
        labels: int64 of shape (samples,): the digit, 0 to 9.
        numbers: int64 of shape (samples,): positions in scikit-learn's data set, unique.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice) -> "Digits":
        return Digits(self.images[chosen], self.labels[chosen], self.numbers[chosen])


@dataclass(frozen=True, slots=True)
class Split:
    """The digits in three parts that share no image."""

    train: Digits
    validation: Digits
    test: Digits


def load_split() -> Split:
    """Load the digits and split them: 1,000 to train and calibrate on, 197 to validate, 600 to test.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            f"the demo's digits come with scikit-learn, which is not installed: {pip_install('demo')}"
        ) from error
    data = load_digits()
    # RandomState, because its stream is frozen: every NumPy gives the same split.
    order = np.random.RandomState(SEED).permutation(len(data.target)).astype(np.int64)
    digits = Digits(
        np.stack([_enlarged(image) for image in data.images[order]]), data.target[order].astype(np.int64), order
    )
    return Split(train=digits[:1000], validation=digits[1000:1197], test=digits[1197:])


def write_images(digits: Digits, folder: Path) -> None:
    """Write each image as ``folder/CLASS/digit-NUMBER.png``; what else lies in `folder` is left alone.

    Raises:
        OutputError: A folder or file cannot be written.
    """
    from PIL import Image

    for label in sorted(set(digits.labels.tolist())):
        try:
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(folder / str(label), error) from error
    for image, label, number in zip(digits.images, digits.labels, digits.numbers, strict=True):
        png = io.BytesIO()
        Image.fromarray(image).save(png, "png")
        write_whole(folder / str(label) / f"digit-{number:04}.png", png.getvalue())


def _enlarged(image: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """An 8x8 image of values 0 to 16 as 32x32 of values 0 to 255."""
    from PIL import Image

    grey = np.rint(image * (255 / 16)).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
