"""Preprocessing: one value says how an image becomes a model's numbers, in calibration, accuracy and inference."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array, TensorSpec
from calibrators.errors import DataError
from trtcal.config.toml_file import check_keys, nearest, read_toml
from trtcal.data import fitting, geometry, presets
from trtcal.data.fitting import Channels, DType, Layout
from trtcal.data.geometry import Resize, Size, spelled

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes numbers.

    The image is resized and cropped as 8-bit pixels; then, per channel and in the order of `channels`,

        value = (pixel * scale - mean) / std          with pixel from 0 to 255

    computed in float32 as pixel * (scale / std) - mean / std, the two constants rounded once from float64. Equal values
    are the same preprocessing.

    Attributes:
        resize: None leaves the size as it is.
        crop: (height, width) cut from the centre; None cuts nothing.
        channels: None is the model's: RGB for three channels, grey for one.
        scale: Multiplies the pixel before `mean` is subtracted.
        mean: One number or one per channel, in units of pixel * scale.
        std: As `mean`; greater than 0.
        layout: None is the model's.
        dtype: None is the model's. "uint8" goes only with scale 1, mean 0, std 1.
        adapts: `resize` and `crop` are a preset's own, which `for_model` scales to the size that a model fixes; sizes
            that a user stated stay and must fit.
        as_is: Arrays are fed as they are, and images refused (preset "none"); all else keeps its default.
        name: The preset or file it was made from, for messages; takes no part in equality.
    """

    resize: Resize | None = None
    crop: Size | None = None
    channels: Channels | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout | None = None
    dtype: DType | None = None
    adapts: bool = False
    as_is: bool = False
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        geometry.check_crop(self.resize, self.crop)
        for key, choices in (("channels", Channels), ("layout", Layout), ("dtype", DType)):
            if getattr(self, key) not in (None, *get_args(choices)):
                raise DataError(f"{key} must be one of {', '.join(get_args(choices))}, not {getattr(self, key)!r}")
        if not _is_number(self.scale) or self.scale == 0:
            raise DataError(f"scale must be a finite number other than 0, not {self.scale!r}")
        for key in ("mean", "std"):
            object.__setattr__(self, key, _per_channel(key, getattr(self, key)))
        if min(self.std) <= 0:
            raise DataError(f"std must be greater than 0, not {_listed(self.std)}")
        if self.channels == "grey" and self.channel_count == 3:
            raise DataError("mean and std have three channels, and grey has one: state one number each")
        factor, offset = self._factor_and_offset()
        if not (np.isfinite(factor).all() and factor.all() and np.isfinite(offset).all()):
            raise DataError(f"scale {self.scale:g} over std {_listed(self.std)} is more than float32 holds")
        if self.dtype == "uint8" and self._formula() != "pixel":
            raise DataError("dtype uint8 keeps pixels as they are: leave out scale, mean and std (preset raw)")
        stated = [item for item in fields(self) if item.name not in ("as_is", "name")]
        if self.as_is and any(getattr(self, item.name) != item.default for item in stated):
            raise DataError("preprocess none feeds arrays as they are: it goes with no other key")

    @staticmethod
    def load(name_or_path: str | os.PathLike[str]) -> "Preprocess":
        """The preset of that name, or what a TOML file says.

        Keys of the file: `preset` (what the other keys change; `raw` if left out), `resize` (a table of `mode`, `size`,
        `interpolation`, `fill`), `crop`, `channels`, `scale` (a number, or a fraction as text: "1/255"), `mean`, `std`,
        `layout`, `dtype`. A size is one number or [height, width], the height first: `size = [240, 320]` gives images
        of 240 rows and 320 columns. Mean and std are one number or one per channel.
        A `resize.mode` takes the place of the preset's resize and crop together.

        Raises:
            DataError: No such preset or file, or a key or value without meaning; the message names the nearest.
        """
        if isinstance(name_or_path, str) and name_or_path in PRESETS:
            return PRESETS[name_or_path]
        path = Path(name_or_path)
        if path.suffix.lower() != ".toml":
            meant = nearest(str(path), PRESETS)
            raise DataError(f"no preprocessing {str(path)!r}{meant}: one of {', '.join(PRESETS)}, or a .toml file")
        try:
            return replace(_of_toml(read_toml(path)), name=path.name)
        except DataError as error:
            raise DataError(f"preprocessing {path}: {error}") from error

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> "Preprocess":
        """What `to_dict` gave; keys left out have their defaults.

        Raises:
            DataError: An unknown key, or a value that means nothing.
        """
        check_keys(value, [item.name for item in fields(Preprocess) if item.name != "name"])
        known: dict[str, Any] = dict(value)
        for flag in ("adapts", "as_is"):
            if not isinstance(known.get(flag, False), bool):
                raise DataError(f"{flag} must be true or false, not {known[flag]!r}")
        if known.get("resize") is not None:
            known["resize"] = _resize_of(known["resize"])
        if known.get("crop") is not None:
            known["crop"] = _size_of("crop", known["crop"])
        if "scale" in known:
            known["scale"] = _scale_of(known["scale"])
        for key in ("mean", "std"):
            if key in known:
                known[key] = tuple(known[key]) if isinstance(known[key], list | tuple) else (known[key],)
        return Preprocess(**known)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, text and lists, as JSON has them; `from_dict` gives the equal value back."""
        if self.as_is:
            return {"as_is": True}
        listed = asdict(self, dict_factory=lambda pairs: {k: list(v) if isinstance(v, tuple) else v for k, v in pairs})
        return {key: value for key, value in listed.items() if key not in ("as_is", "name")}

    def for_model(self, inputs: Sequence[TensorSpec]) -> "Preprocess":
        """Take what is still open from the model's input, and check that the rest fits it.

        Channels, layout and dtype that are None become the input's. Where the input fixes height and width, a preset's
        sizes are scaled to them in their proportions (`trtcal.data.geometry.fitted`; imagenet's 256 and 224 become 342
        and 299 for a model of 299x299), while a size that was stated must be the input's. A free height or width leaves
        the size as it is.

        Raises:
            DataError: The model takes no images, or another size, layout, number of channels or kind of number; the
                message names the input.
        """
        if self.as_is:
            return self
        count, adapts = self.channel_count, self.adapts
        stated = fitting.Stated(self.resize, self.crop, self.channels, count, self.layout, self.dtype, adapts)
        fit = fitting.fitted(stated, inputs)
        try:
            return replace(
                self, resize=fit.resize, crop=fit.crop, channels=fit.channels, layout=fit.layout, dtype=fit.dtype
            )._settled()
        except DataError as error:
            raise DataError(f"the preprocessing does not fit input {fit.input}: {error}") from error

    def settled(self) -> "Preprocess":
        """What `for_model` gives where a model leaves everything open: RGB, NCHW, float32, the sizes as they are.

        Raises:
            DataError: A resize has no size.
        """
        try:
            return self._settled()
        except DataError as error:
            raise DataError(f"{error}, or name the model, as in ImageLoader(..., model='model.onnx')") from error

    def _settled(self) -> "Preprocess":
        if self.as_is:
            return self
        if self.resize and self.resize.size is None:
            raise DataError(f"resize {self.resize.mode} has no size, and no model fixes one: state resize.size")
        channels, layout, dtype = self.channels or "RGB", self.layout or "NCHW", self.dtype or "float32"
        return replace(self, channels=channels, layout=layout, dtype=dtype, adapts=False)

    @property
    def channel_count(self) -> int:
        """How many channels `mean` and `std` are for: 3, or 1 where they suit any."""
        return max(len(self.mean), len(self.std))

    def __call__(self, image: "Image") -> Array:
        """One image's numbers: (channels, height, width), or (height, width, channels) for NHWC; no batch axis.

        `trtcal.data.pixels.pixels_of` says what happens to unusual images, and when a JPEG that is not decoded yet is
        decoded at a fraction of its size; `ImageLoader` gives the same numbers.

        Raises:
            DataError: The image cannot be decoded or is smaller than the crop, or this is preset "none".
        """
        from trtcal.data.pixels import pixels_of

        if self.as_is:
            raise DataError("preprocess none feeds arrays as they are, not images: give a preset or a .toml file")
        grey = self.channels == "grey"
        pixels = pixels_of(image, resize=self.resize, crop=self.crop, grey=grey)
        if self.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        if self.layout != "NHWC":
            pixels = pixels.transpose(2, 0, 1)
        if self.dtype == "uint8":
            return np.ascontiguousarray(pixels)
        factor, offset = self._factor_and_offset()
        shape = (1, 1, -1) if self.layout == "NHWC" else (-1, 1, 1)
        values = pixels.astype(np.float32, order="C")
        values *= factor.reshape(shape)
        values += offset.reshape(shape)
        return values.astype(np.float16) if self.dtype == "float16" else values

    def __str__(self) -> str:
        if self.as_is:
            return "none: arrays as they are"
        crop = f"crop {spelled(self.crop)}" if self.crop else None
        parts = (self.resize, crop, self.channels, self._formula(), self.layout, self.dtype)
        return (f"{self.name}: " if self.name else "") + ", ".join(str(part) for part in parts if part)

    def _formula(self) -> str:
        over = f"{1 / self.scale:.9g}"
        pixel = "pixel" if self.scale == 1 else f"pixel / {over}" if len(over) <= 6 else f"pixel * {self.scale:.9g}"
        if any(self.mean):
            pixel = f"{pixel} - {_listed(self.mean)}"
        return pixel if self.std == (1.0,) else f"({pixel}) / {_listed(self.std)}"

    def _factor_and_offset(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        mean, std = np.broadcast_arrays(np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


_NOT_IN_FILES = ("adapts", "as_is", "name")


def _of_toml(content: dict[str, Any]) -> Preprocess:
    stated = dict(content)
    check_keys(stated, ["preset", *(item.name for item in fields(Preprocess) if item.name not in _NOT_IN_FILES)])
    preset = stated.pop("preset", "raw")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise DataError(f"no preset {preset!r}{nearest(str(preset), PRESETS)}: one of {', '.join(PRESETS)}")
    base = PRESETS[preset].to_dict()
    resize = stated.get("resize", {})
    if not isinstance(resize, dict):
        raise DataError(f"resize must be a table with mode and size, not {resize!r}")
    if "mode" in resize:
        base["crop"] = None
    elif resize:
        stated["resize"] = {**(base.get("resize") or {}), **resize}
    if "size" in resize or "crop" in stated:
        base["adapts"] = False
    return Preprocess.from_dict({**base, **stated})


def _resize_of(value: Any) -> Resize:
    if not isinstance(value, Mapping):
        raise DataError(f"resize must be a table with mode and size, not {value!r}")
    check_keys(value, [item.name for item in fields(Resize)], within="resize.")
    missing = [item.name for item in fields(Resize) if item.default is MISSING and item.name not in value]
    if missing:
        raise DataError(f"resize.{missing[0]} is missing: one of {', '.join(get_args(geometry.Mode))}")
    known = dict(value)
    if known["mode"] != "short-side" and known.get("size") is not None:
        known["size"] = _size_of("resize.size", known["size"])
    return Resize(**known)


def _size_of(key: str, value: Any) -> Size:
    size = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if not geometry.is_size(size):
        raise DataError(f"{key} must be a number of pixels or [height, width], not {value!r}")
    return size[0], size[1]


def _scale_of(value: Any) -> float:
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    try:
        scale = float(Fraction(value)) if "/" in value else float(value)  # a Fraction writes an exponent out
        if math.isfinite(scale):
            return scale
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    raise DataError(f'scale must be a number or a fraction such as "1/255", not {value[:80]!r}')


def _per_channel(key: str, values: tuple[float, ...]) -> tuple[float, ...]:
    """Floats, one for all channels where they are the same, so that equal preprocessings are equal values."""
    if not isinstance(values, tuple) or len(values) not in (1, 3) or not all(_is_number(value) for value in values):
        raise DataError(f"{key} must be one finite number or three, one per channel, not {values!r}")
    floats = tuple(float(value) for value in values)
    return floats[:1] if len(set(floats)) == 1 else floats


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _listed(values: tuple[float, ...]) -> str:
    return f"{values[0]:.9g}" if len(values) == 1 else f"[{' '.join(f'{value:.9g}' for value in values)}]"


PRESETS: Mapping[str, Preprocess] = {
    name: replace(Preprocess.from_dict(stated), name=name) for name, stated in presets.STATED.items()
}
"""By name."""
