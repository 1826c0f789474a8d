"""Geometry: the sizes an image passes through on its way to a model, each (height, width) in pixels."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from calibrators.errors import DataError

Mode = Literal["short-side", "exact", "letterbox"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Resize:
    """How an image is scaled before it is cropped.

    The filters are Pillow's: where an image shrinks, each but nearest averages over all the pixels that fall into one
    (antialiasing), as torchvision does with images; OpenCV and TensorFlow do not unless they are told to.

    Attributes:
        mode: "short-side" scales the short side to `size` and keeps the proportions (the long side is rounded down, as
            in torchvision); "exact" scales to `size` whatever the proportions; "letterbox" keeps the proportions, fits
            the image into `size` and fills the rest, half on each side, an odd pixel right or below.
        size: One number for "short-side"; (height, width), in this order, for the others; None is the model's size.
        interpolation: The filter.
        fill: Grey level, 0 to 255, of what a letterbox adds; scale, mean and std apply to it as to any pixel.
    """

    mode: Mode
    size: int | Size | None = None
    interpolation: Interpolation = "bilinear"
    fill: int = 0

    def __post_init__(self) -> None:
        for key, choices in (("mode", get_args(Mode)), ("interpolation", get_args(Interpolation))):
            if getattr(self, key) not in choices:
                raise DataError(f"resize.{key} must be one of {', '.join(choices)}, not {getattr(self, key)!r}")
        if self.mode == "short-side" and not (self.size is None or is_length(self.size)):
            raise DataError(f"resize.size of mode short-side is one number of pixels, not {self.size!r}")
        if self.mode != "short-side" and not (self.size is None or is_size(self.size)):
            raise DataError(f"resize.size of mode {self.mode} is a height and a width in pixels, not {self.size!r}")
        if type(self.fill) is not int or not 0 <= self.fill <= 255:
            raise DataError(f"resize.fill must be an integer from 0 to 255, not {self.fill!r}")
        if self.fill and self.mode != "letterbox":
            raise DataError(f"resize.fill belongs to mode letterbox: mode {self.mode} fills nothing")

    def __str__(self) -> str:
        words = [self.mode.replace("-", " ")]
        if self.size is not None:
            words.append(spelled(self.size) if isinstance(self.size, tuple) else str(self.size))
        return " ".join([*words, self.interpolation]) + (f" fill {self.fill}" if self.mode == "letterbox" else "")

    def scaled(self, size: Size) -> Size:
        """The size to which an image of `size` is scaled; for a letterbox, before the rest is filled.

        Raises:
            DataError: The size was left to a model, and there was none.
        """
        height, width = size
        if isinstance(self.size, int):
            short = self.size
            return (short, short * width // height) if height <= width else (short * height // width, short)
        if self.size is None:
            raise DataError(f"resize {self.mode} has no size, and no model fixes one: state resize.size")
        if self.mode == "exact":
            return self.size
        factor = min(self.size[0] / height, self.size[1] / width)
        return max(1, round(height * factor)), max(1, round(width * factor))


def letterbox_corner(scaled: Size, size: Size) -> Size:
    """The (top, left) of a scaled image in a letterbox of `size`: half of the rest, an odd pixel right or below."""
    return (size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2


def crop_corner(size: Size, crop: Size) -> Size:
    """The (top, left) of a central crop of an image of `size`; half a pixel is rounded as torchvision's CenterCrop."""
    return round((size[0] - crop[0]) / 2), round((size[1] - crop[1]) / 2)


def is_length(value: object) -> bool:
    """Whether `value` is a number of pixels, in 32 bits."""
    return type(value) is int and 0 < value < 2**31


def is_size(value: object) -> bool:
    """Whether `value` is a (height, width)."""
    return isinstance(value, tuple) and len(value) == 2 and all(is_length(length) for length in value)


def spelled(size: Size) -> str:
    """`224x320` for a height of 224 and a width of 320."""
    return f"{size[0]}x{size[1]}"


def check_crop(resize: Resize | None, crop: Size | None) -> None:
    """Refuse a crop that is larger than what `resize` leaves.

    Raises:
        DataError: `crop` is no size, or too large.
    """
    if crop is None:
        return
    if not is_size(crop):
        raise DataError(f"crop is a height and a width in pixels, not {crop!r}")
    least = resize.size if resize else None
    height, width = least if isinstance(least, tuple) else (least, least)
    if (height is not None and crop[0] > height) or (width is not None and crop[1] > width):
        raise DataError(f"crop {spelled(crop)} is larger than what resize {resize} leaves: state a larger resize.size")


def result_size(resize: Resize | None, crop: Size | None) -> Size | None:
    """The size of every result; None where it depends on the image or on a model."""
    if crop is not None:
        return crop
    return resize.size if resize and isinstance(resize.size, tuple) else None


def fitted(resize: Resize | None, crop: Size | None, size: Size) -> tuple[Resize, Size | None]:
    """Let `resize` and `crop` end in `size`, in the proportions that they have.

    - No resize: scaled exactly to `size`, so images of that size stay untouched.
    - Exact, letterbox: `size` becomes theirs.
    - Short side and crop: the crop becomes `size`, and the short side keeps its ratio to the crop, taken on the longer
      side of `size` so that it covers it: 256 and 224 become 342 and 299 for 299x299, torchvision's own pair there.
    - Short side alone: the crop becomes `size`; a short side that is open becomes the longer side of `size`.
    """
    if resize is None:
        return Resize("exact", size), None
    if resize.mode != "short-side":
        return replace(resize, size=size), None
    longer = max(size)
    short = resize.size if isinstance(resize.size, int) else longer
    if crop is not None:
        short = max(longer, round(short * longer / max(crop)))
    return replace(resize, size=short), size
