"""The section of images: what the model gets, beside what its preprocessing promises."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from trtcal.data.images import ImageLoader
from trtcal.data.preprocess import Preprocess
from trtcal.report.gather.images import images_section


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(10):
        pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def test_eight_samples_with_their_values(folder):
    loader = ImageLoader(folder, preprocess="imagenet", batch_size=3)
    section = images_section(loader)
    assert section["count"] == 10 and len(section["samples"]) == 8
    batches = {
        name: image for batch in loader for name, image in zip(batch.names, next(iter(batch.values())), strict=True)
    }
    for each in section["samples"]:
        own = batches[each["name"]]
        assert (each["low"], each["high"]) == (own.min(), own.max()) and each["mean"] == pytest.approx(own.mean())
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(each["png"]))))
        step = 1 + (max(own.shape[1:]) - 1) // 160
        expected = (own - own.min()) / (own.max() - own.min()) * 255
        assert np.abs(picture - expected.transpose(1, 2, 0)[::step, ::step]).max() <= 1
    for place, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        channel = section["channels"][place]
        assert channel["expected_low"] == pytest.approx((0 - mean) / std)
        assert channel["expected_high"] == pytest.approx((1 - mean) / std)
        assert channel["expected_low"] - 1e-5 <= channel["low"] and channel["high"] <= channel["expected_high"] + 1e-5
    assert sum(map(sum, section["histogram"]["channels"])) == sum(
        batches[each["name"]].size for each in section["samples"]
    )
    assert section["notes"] == []


def test_values_that_fill_none_of_the_range_are_told(tmp_path):
    """A model that was trained on 0 to 255 gets 0 to 1: the picture looks right, and the numbers do not."""
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 100 + number, np.uint8)).save(tmp_path / f"{number}.png")
    section = images_section(ImageLoader(tmp_path, preprocess=Preprocess(name="raw numbers", channels="RGB")))
    assert len(section["notes"]) == 3 and "is it what the model was trained with?" in section["notes"][0]


def test_arrays_that_are_no_images(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((5, 7, 9)).astype(np.float32))
    section = images_section(ImageLoader(tmp_path / "x.npy", preprocess="none"))
    assert len(section["samples"]) == 5 and section["channels"][0]["expected_low"] is None
    assert section["notes"] == ["arrays are fed as they are: nothing tells what their values should be"]
