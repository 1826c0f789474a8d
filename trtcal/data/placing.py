"""Placing: where an image lies in a model's input, as its preprocessing resizes, pads and crops it."""

from calibrators.errors import DataError
from trtcal.data import geometry
from trtcal.data.geometry import Size, spelled
from trtcal.data.preprocess import Preprocess
from trtcal.tasks.placement import Placement


def placement(preprocess: Preprocess, size: Size) -> Placement:
    """Where `trtcal.data.pixels.pixels_of` puts an image of `size`.

    Args:
        preprocess: Settled: no size is left open.
        size: The image's own, as it is looked at.

    Raises:
        DataError: The image is smaller than the crop, a size was left open, or this is preset "none".
    """
    if preprocess.as_is:
        raise DataError("preprocess none feeds arrays as they are, not images: give a preset or a .toml file")
    resize, crop = preprocess.resize, preprocess.crop
    scaled = canvas = resize.scaled(size) if resize else size
    top, left = 0, 0
    if resize and resize.mode == "letterbox" and isinstance(resize.size, tuple):
        canvas = resize.size
        top, left = geometry.letterbox_corner(scaled, canvas)
    if crop:
        if canvas[0] < crop[0] or canvas[1] < crop[1]:
            raise DataError(f"it is {spelled(canvas)}, smaller than the crop {spelled(crop)}: state a resize")
        cut = geometry.crop_corner(canvas, crop)
        canvas, top, left = crop, top - cut[0], left - cut[1]
    scale = scaled[0] / size[0], scaled[1] / size[1]
    return Placement(size, canvas, scale, (float(top), float(left)))
