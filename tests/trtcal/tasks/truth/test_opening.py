"""Opening annotations beside a loader of images: each is looked at as the loader looks at it."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data.geometry import Resize
from trtcal.data.images import ImageLoader
from trtcal.data.preprocess import Preprocess
from trtcal.tasks.found import Found
from trtcal.tasks.truth.opening import opened_truth

INPUTS = [TensorSpec("data", ("N", 3, 96, 97), np.dtype("float32"))]


@pytest.fixture
def loader(tmp_path: Path) -> ImageLoader:
    """Two images with a white box, one turned by EXIF, and a file that is none."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[30:90, 40:100] = 255
    (tmp_path / "images" / "sub").mkdir(parents=True)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    PIL.Image.fromarray(np.rot90(pixels)).save(tmp_path / "images" / "sub" / "b 1.JPG", exif=exif, quality=95)
    (tmp_path / "images" / "bad.png").write_text("words")
    preprocess = Preprocess(Resize("letterbox", (96, 97)))
    return ImageLoader(tmp_path / "images", preprocess=preprocess, inputs=INPUTS, on_bad_image="skip", batch_size=1)


def coco(tmp_path: Path) -> Path:
    files = ["a.png", "sub/b 1.JPG", "bad.png"]
    images = [{"id": index, "file_name": name, "height": 120, "width": 160} for index, name in enumerate(files)]
    box = {"category_id": 1, "bbox": [40, 30, 60, 60]}
    annotations = [{"id": index, "image_id": index, **box} for index in (0, 1)]
    (tmp_path / "boxes.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]})
    )
    return tmp_path / "boxes.json"


def yolo(tmp_path: Path) -> Path:
    row = f"0 {70 / 160} {60 / 120} {60 / 160} {60 / 120}\n"
    (tmp_path / "labels" / "sub").mkdir(parents=True)
    (tmp_path / "labels" / "a.txt").write_text(row)
    (tmp_path / "labels" / "sub" / "b 1.txt").write_text(row)
    return tmp_path / "labels"


@pytest.mark.parametrize("annotated", [coco, yolo])
def test_what_is_annotated_is_where_the_pixels_are(loader: ImageLoader, tmp_path: Path, annotated) -> None:
    truth = opened_truth(
        annotated(tmp_path),
        names=loader.names,
        sizes=lambda name: loader.placement(name).size,
        classes=1,
        class_names=(),
        kind="detect",
    )
    seen = 0
    for batch in loader:
        white = batch["data"][0, 0] > 127
        rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
        box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], float)
        known = truth.of(batch.names[0])
        assert isinstance(known, Found)
        assert np.abs(known.boxes - [[40, 30, 100, 90]]).max() < 1e-9
        assert np.abs(loader.placement(batch.names[0]).boxes(box) - known.boxes).max() < 160 / 97
        seen += 1
    assert seen == 2
    with pytest.raises(DataError, match=r"cannot read image .*bad\.png: it is no image"):
        truth.of("bad.png")
