"""The section "images": what the model really gets, beside what its preprocessing promises."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.data.images import ImageLoader
from trtcal.data.preprocess import Preprocess

SAMPLES = 8
BINS = 64
SIDE = 160
"""Pixels of a picture along its longer side, at most: larger ones are made smaller by whole numbers."""

Pixels = npt.NDArray[np.float32]


def images_section(loader: ImageLoader, *, count: int = SAMPLES) -> dict[str, Any]:
    """Eight preprocessed samples as pictures, a histogram of their values, and their range by channel.

    A picture maps the lowest value of its sample to black and the highest to white: colours are right only where the
    preprocessing treats all channels alike. What the numbers are stands beside it.

    Args:
        loader: Of the images.
        count: How many to show.
    """
    some = loader.sampled(count) if count < loader.count else loader
    arrays, names = list[Array](), list[str]()
    for batch in some:
        arrays += [*next(iter(batch.values()))]
        names += batch.names
    expected = loader.preprocess
    planes = [planes_of(array, expected) for array in arrays]
    samples = [
        {
            "name": name,
            "png": encoded(png_of(each)),
            "low": float(each.min()),
            "high": float(each.max()),
            "mean": float(each.mean()),
        }
        for name, each in zip(names, planes, strict=True)
        if each.size
    ]
    section: dict[str, Any] = {"preprocess": str(expected), "count": loader.count, "samples": samples}
    if not samples:
        return {**section, "histogram": {"low": 0.0, "high": 0.0, "channels": []}, "channels": [], "notes": []}
    channels = [np.concatenate([each[place].ravel() for each in planes]) for place in range(len(planes[0]))]
    low, high = min(float(each.min()) for each in channels), max(float(each.max()) for each in channels)
    rows = [_channel(place, values, expected, len(channels)) for place, values in enumerate(channels)]
    return {
        **section,
        "histogram": {
            "low": low,
            "high": high,
            "channels": [np.histogram(each, BINS, (low, high or low + 1))[0].tolist() for each in channels[:3]],
        },
        "channels": rows[:16],
        "notes": _notes(rows, expected),
    }


def planes_of(array: Array, preprocess: Preprocess) -> Pixels:
    """Of shape (channels, height, width): images by their layout; other arrays as one plane, or some."""
    values = np.asarray(array, np.float32)
    if values.ndim == 3:
        return values.transpose(2, 0, 1) if preprocess.layout == "NHWC" else values
    if values.ndim < 3:
        return values.reshape(1, *(1,) * (2 - values.ndim), *values.shape)
    return values.reshape(-1, *values.shape[-2:])


def encoded(png: bytes) -> str:
    """A picture as base64."""
    return base64.b64encode(png).decode()


def png_of(planes: Pixels) -> bytes:
    """A picture: three channels in colour, else the first; the lowest value black, the highest white."""
    from PIL import Image

    low, high = float(planes.min()), float(planes.max())
    shown = planes if len(planes) == 3 else planes[:1]
    step = max(1, -(-max(shown.shape[1:]) // SIDE))
    grey = np.rint((shown[:, ::step, ::step] - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    picture = Image.fromarray(grey.transpose(1, 2, 0) if len(grey) == 3 else grey[0])
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return data.getvalue()


def _channel(place: int, values: Pixels, preprocess: Preprocess, count: int) -> dict[str, Any]:
    name = {1: ("grey",), 3: tuple(preprocess.channels or "RGB")}.get(count, ())
    found = {
        "name": name[place] if place < len(name) else str(place),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "low": float(values.min()),
        "high": float(values.max()),
    }
    if preprocess.as_is:
        return {**found, "expected_low": None, "expected_high": None}
    mean, std = (
        each[place] if len(each) > 1 and place < len(each) else each[0] for each in (preprocess.mean, preprocess.std)
    )
    ends = sorted((pixel * preprocess.scale - mean) / std for pixel in (0, 255))
    return {**found, "expected_low": ends[0], "expected_high": ends[1]}


def _notes(rows: list[dict[str, Any]], preprocess: Preprocess) -> list[str]:
    """What does not fit."""
    if preprocess.as_is:
        return ["arrays are fed as they are: nothing tells what their values should be"]
    notes = []
    for each in rows:
        width = each["expected_high"] - each["expected_low"]
        if each["high"] - each["low"] < 0.1 * width:
            notes.append(
                f"channel {each['name']} uses {100 * (each['high'] - each['low']) / width:.0f} % of the range that the "
                "preprocessing can give: is it what the model was trained with?"
            )
    return notes
