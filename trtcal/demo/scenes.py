"""Scenes with handwritten digits on textured ground, made from a seed: where each digit lies is known.

A detector finds the digits' boxes in them, a segmentation model the class of each pixel. scikit-learn brings the
digits; what is drawn around them is made here. A scene depends on the digits, the seed and its number alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trtcal.demo.digits import Digits

SIDE = 160
"""Height and width of a scene in pixels."""

MOST = 8
"""Digits in a scene at most; a ninth of the scenes has none."""

SMALLEST, LARGEST = 12, 40
"""Side of the square that a digit is drawn in, in pixels."""

OVERLAP = 0.1
"""Of the smaller of two digits' boxes, the part that the other may cover."""

INK = 96
"""From this on, of 255, a pixel of a digit counts as its ink: as part of its mask and its box."""

CONTRAST = 60
"""Between ink and ground, levels of brightness of 256 at least, before the texture is laid over the ground."""

CLASSES = tuple("0123456789")
"""Names by class number."""

GROUND = 0
"""What a class map holds where there is no digit; digits are 1 to 10."""

_TRIES = 30

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image, and what is in it.

    Attributes:
        image: uint8 of shape (160, 160, 3): red, green, blue.
        masks: bool of shape (n, 160, 160): the ink of each digit that is seen; none shares a pixel with another.
        classes: int64 of shape (n,): the digit, 0 to 9.
    """

    image: Image
    masks: Mask
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """Tight around the ink: (n, 4) of left, top, right, bottom in pixels, counted from edges."""
        return np.array([box_of(mask) for mask in self.masks], np.float64).reshape(-1, 4)

    @property
    def class_map(self) -> Image:
        """uint8 of shape (160, 160): 0 is ground, 1 to 10 are the digits 0 to 9."""
        found = np.full((SIDE, SIDE), GROUND, np.uint8)
        for mask, label in zip(self.masks, self.classes, strict=True):
            found[mask] = label + 1
        return found


def make_scenes(digits: Digits, count: int, *, seed: int, first: int = 0) -> Iterator[Scene]:
    """Scenes of some digits.

    Args:
        digits: To choose from: give those of the training split to train and calibrate on, others to judge by.
        count: How many scenes.
        seed: Another one gives other scenes.
        first: Number of the first; scene `first + 3` is the same whatever `count` and `first` are.
    """
    for number in range(first, first + count):
        yield make_scene(digits, seed=seed, number=number)


def make_scene(digits: Digits, *, seed: int, number: int) -> Scene:
    """The scene of this number: a ground, and up to eight digits pasted on it, each over those before it."""
    # RandomState, because its stream is frozen: every NumPy draws the same scene.
    random = np.random.RandomState([seed, number])
    colour = random.randint(40, 216, 3).astype(np.float64)
    image = _textured(colour, random)
    masks, labels, boxes = list[Mask](), list[int](), list[Box]()
    for _ in range(random.randint(0, MOST + 1)):
        chosen = random.randint(len(digits))
        drawn = _resized(digits.images[chosen], random.randint(SMALLEST, LARGEST + 1))
        ink = _ink(colour, random)
        place = _place(drawn, boxes, random)
        if place is None:
            continue
        image[place] += (ink - image[place]) * (drawn[..., None] / 255)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[place] = drawn >= INK
        masks = [*(other & ~mask for other in masks), mask]
        labels.append(int(digits.labels[chosen]))
        boxes.append(box_of(mask))
    return Scene(
        image=np.clip(np.rint(image), 0, 255).astype(np.uint8),
        masks=np.array(masks, bool).reshape(-1, SIDE, SIDE),
        classes=np.array(labels, np.int64),
    )


def box_of(mask: Mask) -> Box:
    """Left, top, right and bottom edge of what is true in a mask that is not all false."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def covered(box: Box, other: Box) -> float:
    """The part of the smaller of two boxes that lies in the other."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((right - left) * (bottom - top) for left, top, right, bottom in (box, other))
    return max(width, 0) * max(height, 0) / smaller


def _place(drawn: Image, boxes: Iterable[Box], random: np.random.RandomState) -> tuple[slice, slice] | None:
    """Where a digit covers little of the others; None where no such place was found."""
    side = len(drawn)
    left, top, right, bottom = box_of(drawn >= INK)
    for _ in range(_TRIES):
        down, along = random.randint(0, SIDE - side + 1, 2)
        box = (left + along, top + down, right + along, bottom + down)
        if all(covered(box, other) <= OVERLAP for other in boxes):
            return slice(down, down + side), slice(along, along + side)
    return None


def _textured(colour: npt.NDArray[np.float64], random: np.random.RandomState) -> npt.NDArray[np.float64]:
    """Ground of about one colour: blotches, perhaps stripes, and grain."""
    cells = random.randint(3, 25)
    blotches = _resized(random.randint(0, 256, (cells, cells)).astype(np.uint8), SIDE)
    texture = (blotches - 127.5) * (random.randint(5, 36) / 127.5)
    if random.randint(3) == 0:
        down, along, width = random.randint(-3, 4), random.randint(-3, 4), random.randint(8, 40)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        texture += ((rows * down + columns * along) // width % 2) * float(random.randint(-30, 31))
    grain = random.randint(-9, 10, (SIDE, SIDE, 3), np.int8)
    return colour + texture[..., None] + grain


def _ink(colour: npt.NDArray[np.float64], random: np.random.RandomState) -> npt.NDArray[np.float64]:
    """A colour that is enough darker or lighter than the ground's."""
    while True:
        ink = random.randint(0, 256, 3).astype(np.float64)
        if abs(float(ink.mean() - colour.mean())) >= CONTRAST:
            return ink


def _resized(image: Image, side: int) -> Image:
    from PIL import Image as Images

    return np.asarray(Images.fromarray(image).resize((side, side), Images.Resampling.BICUBIC))
