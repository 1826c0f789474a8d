"""The synthetic images: like normalised photographs, and the same each time."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.images import BATCH, INPUT, MEAN, PHOTOGRAPH, STD, SyntheticImages, write_files


def test_images_come_in_batches_named_by_position() -> None:
    images = SyntheticImages(BATCH + 2)
    batches = list(images)
    assert len(images) == len(batches) == 2
    assert [batch[INPUT].shape for batch in batches] == [(BATCH, 3, 224, 224), (2, 3, 224, 224)]
    assert all(batch[INPUT].dtype == np.float32 for batch in batches)
    assert batches[1].names == (f"image {BATCH}", f"image {BATCH + 1}")


def test_an_image_depends_on_seed_and_position_alone() -> None:
    few, more = ([image for batch in SyntheticImages(count) for image in batch[INPUT]] for count in (3, BATCH + 1))
    assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))
    assert not np.array_equal(more[0], more[1])
    (other,) = SyntheticImages(1, seed=1)
    assert not np.array_equal(other[INPUT][0], few[0])


def test_images_are_8_bit_pixels_normalised_for_imagenet() -> None:
    (batch,) = SyntheticImages(4)
    pixels = 255 * (batch[INPUT] * STD + MEAN)
    assert np.abs(pixels - np.round(pixels)).max() < 1e-3
    assert -1e-3 < pixels.min() < 20
    assert 235 < pixels.max() < 255.001
    assert 40 < pixels.std() < 70


def test_neighbouring_pixels_are_alike_as_in_photographs() -> None:
    (batch,) = SyntheticImages(4)
    left, right = batch[INPUT][..., :-1], batch[INPUT][..., 1:]
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.95
    red, blue = batch[INPUT][:, 0], batch[INPUT][:, 2]
    assert np.corrcoef(red.ravel(), blue.ravel())[0, 1] > 0.5


def test_files_hold_the_same_images_in_the_size_of_photographs(tmp_path: Path) -> None:
    write_files(tmp_path, 2)
    (batch,) = SyntheticImages(2)
    for number in range(2):
        with Image.open(tmp_path / f"{number:06}.jpg") as file:
            assert file.size == PHOTOGRAPH
            pixels = np.asarray(file.resize((224, 224), Image.Resampling.BOX), np.float32).transpose(2, 0, 1)
        assert np.abs(pixels - 255 * (batch[INPUT][number] * STD + MEAN)).mean() < 5
