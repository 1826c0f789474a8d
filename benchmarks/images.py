"""Images made from a seed: smooth where photographs are smooth, normalised as for ImageNet."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibrators.batches import Batch

INPUT = "input"
"""The name of the models' input."""

SIZE = 224
"""Height and width, in pixels."""

BATCH = 8

PHOTOGRAPH = (500, 375)
"""Width and height of an image file, in pixels."""

GRIDS = (2, 4, 8, 16, 32, 64, 128)
"""Random values on a side, from coarse to fine. The finer, the fainter: 1 / frequency, as in photographs."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]

Floats = npt.NDArray[np.float32]


class SyntheticImages:
    """Batches of images, made anew in each pass and never written: a pass holds one batch.

    Each image depends on the seed and its position alone: the first 32 are the same, however many follow.

    Args:
        count: The number of images.
        seed: Of all of them.
    """

    def __init__(self, count: int, *, seed: int = 0) -> None:
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return (self.count + BATCH - 1) // BATCH

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.count, BATCH):
            numbers = range(start, min(start + BATCH, self.count))
            images = np.stack([synthetic_image(np.random.default_rng([self.seed, number])) for number in numbers])
            yield Batch({INPUT: images}, names=[f"image {number}" for number in numbers])


def synthetic_image(rng: np.random.Generator) -> Floats:
    """One image, float32 of shape (3, SIZE, SIZE): 8-bit pixels, normalised with ImageNet's mean and deviation."""
    field = np.zeros((3, SIZE, SIZE), np.float32)
    for grid in GRIDS:
        shared, own = rng.standard_normal((1, grid, grid), np.float32), rng.standard_normal((3, grid, grid), np.float32)
        weights = _interpolation(grid)
        field += weights @ (shared + 0.3 * own) @ weights.T / grid
    pixels = np.round(255 * np.clip(0.45 + 0.2 * (field - field.mean()) / field.std(), 0, 1)) / 255
    return np.asarray((pixels - MEAN) / STD, np.float32)


def write_files(folder: Path, count: int) -> None:
    """Write images as JPEG files of `PHOTOGRAPH` pixels, as those of ImageNet are on average."""
    from PIL import Image

    for number in range(count):
        values = synthetic_image(np.random.default_rng([0, number])) * STD + MEAN
        pixels = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(
            folder / f"{number:06}.jpg", quality=90
        )


@lru_cache(maxsize=len(GRIDS))
def _interpolation(grid: int) -> Floats:
    """Weights that spread `grid` values linearly over SIZE pixels, shape (SIZE, grid)."""
    places = np.linspace(0, grid - 1, SIZE)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(grid))), np.float32)
