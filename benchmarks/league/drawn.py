"""Images for models whose own are not at hand: lines of text drawn from a seed, and parts of photographs."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.float32]
"""From 0 to 255, shape (images, 3, height, width)."""


def lines_of_text(count: int, height: int, width: int, *, seed: int, turned: bool = False) -> Pixels:
    """Random letters in Pillow's own font, a line where the image is low, else several, with noise.

    Args:
        count: How many images.
        height: In pixels.
        width: In pixels.
        seed: Of all of them; each depends on its position alone.
        turned: Whether half of them stand upside down.
    """
    return np.stack([_text(np.random.default_rng([seed, i]), height, width, turned=turned) for i in range(count)])


def _text(rng: np.random.Generator, height: int, width: int, *, turned: bool) -> Pixels:
    paper = rng.integers(0, 256, 3)
    ink = (paper + 128 + rng.integers(-60, 60, 3)) % 256
    image = Image.new("RGB", (width, height), tuple(paper.tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(1 if height < 64 else int(rng.integers(2, 8))):
        letters = "".join(map(chr, rng.integers(ord("A"), ord("z"), rng.integers(4, 14)).tolist()))
        size = int(rng.integers(16, 35))
        place = int(rng.integers(0, width // 3)), int(rng.integers(0, max(height - size, 1)))
        pen.text(place, letters, fill=tuple(ink.tolist()), font=ImageFont.load_default(size))
    pixels = np.asarray(image, np.float32) + rng.normal(0, 6, (height, width, 3))
    if turned and rng.random() < 0.5:
        pixels = pixels[::-1, ::-1]
    return np.asarray(np.clip(pixels, 0, 255), np.float32).transpose(2, 0, 1)


def parts_of_photographs(folder: Path, count: int, height: int, width: int, *, seed: int) -> Pixels:
    """Cut-outs of a folder's JPEG files, each in turn, resized, of other brightness, half of them mirrored."""
    photographs = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        whole = photographs[number % len(photographs)]
        share = rng.uniform(0.5, 1)
        wide, high = int(whole.width * share), int(whole.height * share)
        left, top = int(rng.integers(0, whole.width - wide + 1)), int(rng.integers(0, whole.height - high + 1))
        part = whole.crop((left, top, left + wide, top + high)).resize((width, height))
        if rng.random() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        found.append(np.clip(np.asarray(part, np.float32) * rng.uniform(0.7, 1.3), 0, 255).transpose(2, 0, 1))
    return np.asarray(np.stack(found), np.float32)
