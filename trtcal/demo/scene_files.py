"""Scenes as files: images and class maps as PNG, boxes and masks as annotations in COCO's format.

The format: "Data format" at https://cocodataset.org/#format-data, object detection.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibrators.files import explained, write_whole
from trtcal.demo.scenes import CLASSES, SIDE, Image, Mask, Scene


def write_scenes(scenes: Sequence[Scene], folder: Path) -> None:
    """Write each image as ``folder/scene-NUMBER.png``; what else lies in `folder` is left alone.

    Raises:
        OutputError: The folder or a file cannot be written.
    """
    _write_pngs((scene.image for scene in scenes), folder)


def write_class_maps(scenes: Sequence[Scene], folder: Path) -> None:
    """Write the class of each pixel as ``folder/scene-NUMBER.png``, grey: 0 is ground, 1 to 10 are the digits 0 to 9.

    Raises:
        OutputError: The folder or a file cannot be written.
    """
    _write_pngs((scene.class_map for scene in scenes), folder)


def write_annotations(scenes: Sequence[Scene], path: Path) -> None:
    """Write what is in the images of `write_scenes` as COCO's JSON.

    Raises:
        OutputError: The file cannot be written.
    """
    write_whole(path, (json.dumps(annotations(scenes)) + "\n").encode())


def annotations(scenes: Sequence[Scene]) -> dict[str, Any]:
    """What is in the scenes, as COCO's JSON holds it.

    Category 1 is the digit 0. Images and annotations, too, are numbered from 1: an annotation with id 0 is never found
    by COCO's own measure. A mask is a run-length encoding, and `area` is its pixels.
    """
    images = [
        {"id": number, "file_name": file_name(number), "width": SIDE, "height": SIDE}
        for number in range(1, len(scenes) + 1)
    ]
    objects = [{"image_id": number, **each} for number, scene in enumerate(scenes, 1) for each in _annotations(scene)]
    return {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
        "annotations": [{"id": number, **each} for number, each in enumerate(objects, 1)],
    }


def file_name(number: int) -> str:
    """Of the image with this id, which counts from 1."""
    return f"scene-{number:04}.png"


def _annotations(scene: Scene) -> Iterable[dict[str, Any]]:
    for mask, label, (left, top, right, bottom) in zip(scene.masks, scene.classes, scene.boxes.tolist(), strict=True):
        yield {
            "category_id": int(label) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": _runs(mask),
        }


def _runs(mask: Mask) -> dict[str, Any]:
    from hotcoco.mask import encode

    found = encode(np.asfortranarray(mask))
    return {"size": list(found["size"]), "counts": found["counts"].decode("ascii")}


def _write_pngs(images: Iterable[Image], folder: Path) -> None:
    from PIL import Image as Images

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(folder, error) from error
    for number, image in enumerate(images, 1):
        png = io.BytesIO()
        Images.fromarray(image).save(png, "png")
        write_whole(folder / file_name(number), png.getvalue())
