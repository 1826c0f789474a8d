"""Pictures of scenes with what the FP32 model and the INT8 model find in them."""

import io
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibrators.files import explained, write_whole
from trtcal.demo.scene_files import file_name
from trtcal.demo.scenes import CLASSES, SIDE, Image, Scene
from trtcal.tasks.found import ClassMap, Finding, Found
from trtcal.tasks.task import CONFIDENCE

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.Image import Image as Picture

PICTURES = 6
"""How many are drawn: the first scenes that are not empty."""

SCALE = 3
"""Pixels of a picture per pixel of a scene, along each side."""

GAP = 8
"""Between two images, in pixels."""

LEGEND = 22
"""Height of the line below the picture that says what is what, in pixels."""

FP32, INT8 = (0, 114, 178), (230, 159, 0)
"""Colours of the models' boxes: blue and orange, which the colour-blind tell apart (Okabe and Ito, 2008)."""

PALETTE = (
    *((0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49)),
    *((145, 30, 180), (66, 212, 244), (240, 50, 230), (191, 239, 69), (255, 255, 255)),
)
"""Colours of a class map: ground, then the digits."""


def write_pictures(
    scenes: Iterable[Scene], fp32: Sequence[Finding], int8: Sequence[Finding], folder: Path
) -> list[Path]:
    """Write ``folder/scene-NUMBER.png`` of the first six scenes that are not empty.

    Args:
        scenes: As they are numbered in files, from 1; none is made beyond those that are drawn.
        fp32: What the FP32 model finds in each.
        int8: What the INT8 model finds.
        folder: Is made.

    Raises:
        OutputError: The folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(folder, error) from error
    paths = list[Path]()
    for at, scene in islice(((at, scene) for at, scene in enumerate(scenes) if len(scene)), PICTURES):
        png = io.BytesIO()
        picture(scene, fp32[at], int8[at]).save(png, "png")
        paths.append(folder / file_name(at + 1))
        write_whole(paths[-1], png.getvalue())
    return paths


def picture(scene: Scene, fp32: Finding, int8: Finding) -> "Picture":
    """A scene with what both models find in it: boxes on one image, or class maps beside it."""
    if isinstance(fp32, Found) and isinstance(int8, Found):
        return _with_boxes(scene, fp32, int8)
    assert isinstance(fp32, ClassMap) and isinstance(int8, ClassMap)
    return _beside_maps(scene, fp32, int8)


def _with_boxes(scene: Scene, fp32: Found, int8: Found) -> "Picture":
    """The FP32 model's boxes with their classes above, and the INT8 model's a little within with theirs below."""
    canvas, draw = _canvas([scene.image])
    for found, colour, within in ((fp32, FP32, 0), (int8, INT8, 3)):
        for box, score, label in zip(found.boxes * SCALE, found.scores, found.classes, strict=True):
            if score < CONFIDENCE:
                continue
            left, top, right, bottom = (float(edge) for edge in box)
            edges = (
                left + within,
                top + within,
                max(right - within, left + within),
                max(bottom - within, top + within),
            )
            draw.rectangle(edges, outline=colour, width=3)
            below = bottom + 14 <= SIDE * SCALE
            row = (bottom + 1 if below else bottom - 15) if within else (top - 14 if top >= 14 else top + 2)
            _write(draw, (left, row), f"{CLASSES[label]}: {score:.2f}", colour)
    _legend(draw, [("FP32", FP32), ("INT8", INT8)], f"boxes of a score from {CONFIDENCE} on")
    return canvas


def _beside_maps(scene: Scene, fp32: ClassMap, int8: ClassMap) -> "Picture":
    """The scene, then the FP32 model's class map, then the INT8 model's."""
    maps = [np.array(PALETTE, np.uint8)[found.classes] for found in (fp32, int8)]
    canvas, draw = _canvas([scene.image, *maps])
    for at, text in enumerate(("the scene", "FP32", "INT8")):
        draw.text((at * (SIDE * SCALE + GAP) + 6, SIDE * SCALE + 4), text, fill="black")
    column = 2 * (SIDE * SCALE + GAP) + 60
    for name, colour in zip(CLASSES, PALETTE[1:], strict=True):
        draw.rectangle((column, SIDE * SCALE + 5, column + 11, SIDE * SCALE + 16), fill=colour, outline="black")
        draw.text((column + 15, SIDE * SCALE + 4), name, fill="black")
        column += 32
    return canvas


def _canvas(panels: Sequence[Image]) -> "tuple[Picture, ImageDraw.ImageDraw]":
    """The panels side by side, enlarged, with room for a line below."""
    from PIL import Image as Images
    from PIL import ImageDraw

    side = SIDE * SCALE
    canvas = Images.new("RGB", (len(panels) * (side + GAP) - GAP, side + LEGEND), "white")
    for at, panel in enumerate(panels):
        image = Images.fromarray(panel)
        canvas.paste(image.resize((side, side), Images.Resampling.NEAREST), (at * (side + GAP), 0))
    return canvas, ImageDraw.Draw(canvas)


def _legend(draw: "ImageDraw.ImageDraw", entries: Sequence[tuple[str, tuple[int, int, int]]], text: str) -> None:
    """A line below the picture: a square and a word an entry, then the text."""
    column, row = 6, SIDE * SCALE + 4
    for name, colour in entries:
        draw.rectangle((column, row + 1, column + 11, row + 12), fill=colour)
        draw.text((column + 16, row), name, fill="black")
        column += 60
    draw.text((column, row), text, fill="black")


def _write(draw: "ImageDraw.ImageDraw", place: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    """White on the model's colour, so that it is read on any ground."""
    draw.rectangle(draw.textbbox(place, text), fill=colour)
    draw.text(place, text, fill="white")
