"""Which images a result rests on, and what a user should know about them."""

from typing import Any

from trtcal.data.images import ImageLoader
from trtcal.tables import console

FEW = 100
"""Images below which ranges are likely to change with the choice of images; NVIDIA's advice for ImageNet is 500."""

NOT_STATED = "warning: no --preprocess was given; taken by the model's input"
"""Most reports of INT8 losing all accuracy are two different preprocessings."""


def say_what_was_calibrated_on(loader: ImageLoader, *, stated: bool) -> None:
    """Tell, on standard error, what a user should know about the images that ranges rest on."""
    say_what_was_read(loader, stated=stated)
    if loader.count < loader.available:
        console.note(f"note: {loader.count} of {loader.available} images, by --count and --seed")
    say_if_few(loader)


def say_what_was_read(loader: ImageLoader, *, stated: bool) -> None:
    """Tell of a preprocessing that nobody stated, and of images that were left out."""
    if not stated and not loader.preprocess.as_is:
        console.note(f"{NOT_STATED}: {loader.preprocess}; results mean nothing unless the model was trained with it")
    for name, reason in loader.skipped:
        console.note(f"skipped {name}: {reason}")


def say_if_few(loader: ImageLoader) -> None:
    """Tell where ranges rest on few images."""
    used = loader.count - len(loader.skipped)
    if used < FEW:
        images = "1 image is" if used == 1 else f"{used} images are"
        console.note(f"note: {images} few to calibrate on; ranges settle with some hundreds")


def images_as_dict(loader: ImageLoader) -> dict[str, Any]:
    """Which images were used, for JSON."""
    return {
        "images": str(loader.source),
        "count": loader.count,
        "available": loader.available,
        "digest": loader.digest,
        "skipped": [{"name": name, "reason": reason} for name, reason in loader.skipped],
    }
