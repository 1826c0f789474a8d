"""Fitting: what a model's input says about the images it takes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data import geometry
from trtcal.data.geometry import Resize, Size, spelled

Channels = Literal["RGB", "BGR", "grey"]
Layout = Literal["NCHW", "NHWC"]
DType = Literal["float32", "float16", "uint8"]

ARRAYS = "give an .npz with one array per input, named as the input, and --preprocess none"


class Stated(NamedTuple):
    """What a preprocessing says of its own; None and `adapts` are as in `trtcal.data.preprocess.Preprocess`."""

    resize: Resize | None
    crop: Size | None
    channels: Channels | None
    channel_count: int
    layout: Layout | None
    dtype: DType | None
    adapts: bool


class Fit(NamedTuple):
    """What a preprocessing is for one model."""

    input: TensorSpec
    resize: Resize | None
    crop: Size | None
    channels: Channels
    layout: Layout
    dtype: DType


def fitted(preprocess: Stated, inputs: Sequence[TensorSpec]) -> Fit:
    """What `Preprocess.for_model` takes from the model's input.

    Raises:
        DataError: The preprocessing cannot fit; the message names the input.
    """
    spec = _only(inputs)
    layout = _layout(spec, preprocess.layout)
    channels = _channels(spec, layout, preprocess)
    dtype = _dtype(spec, preprocess.dtype)
    height, width = spec.shape[2:] if layout == "NCHW" else spec.shape[1:3]
    resize, crop = preprocess.resize, preprocess.crop
    ours = geometry.result_size(resize, crop)
    if isinstance(height, int) and isinstance(width, int) and (preprocess.adapts or ours is None):
        resize, crop = geometry.fitted(resize, crop, (height, width))
    else:
        _check_size(spec, (height, width), preprocess)
    return Fit(spec, resize, crop, channels, layout, dtype)


def image_channels(inputs: Sequence[TensorSpec]) -> int | None:
    """How many channels the model's images have, 3 where that is free; None for a model that takes no images."""
    try:
        spec = _only(inputs)
        count = spec.shape[_channel_axis(_layout(spec, None))]
        _dtype(spec, None)
    except DataError:
        return None
    return count if isinstance(count, int) else 3


def _only(inputs: Sequence[TensorSpec]) -> TensorSpec:
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs) or "none"
        raise DataError(f"the model has {len(inputs)} inputs ({names}), and images go to a model with one: {ARRAYS}")
    return inputs[0]


def _channel_axis(layout: Layout) -> int:
    return 1 if layout == "NCHW" else 3


def _layout(spec: TensorSpec, stated: Layout | None) -> Layout:
    """The layout whose channel axis holds 1 or 3; NCHW, ONNX's own, where both do or that axis is free."""
    if len(spec.shape) != 4:
        raise DataError(f"input {spec} takes no images, which have four axes: {ARRAYS}")
    layouts: tuple[Layout, Layout] = ("NCHW", "NHWC")
    sure = [layout for layout in layouts if spec.shape[_channel_axis(layout)] in (1, 3)]
    free = [layout for layout in layouts if not isinstance(spec.shape[_channel_axis(layout)], int)]
    if stated is not None and stated not in sure and sure:
        raise DataError(f"layout {stated} is stated, but input {spec} is {sure[0]}: state {sure[0]}, or no layout")
    possible = [layout for layout in sure or free if stated in (None, layout)]
    if not possible:
        raise DataError(f"input {spec} takes no images, which have one or three channels: {ARRAYS}")
    return possible[0]


def _channels(spec: TensorSpec, layout: Layout, preprocess: Stated) -> Channels:
    count = spec.shape[_channel_axis(layout)]
    if preprocess.channels is None:
        if count == 1 and preprocess.channel_count == 3:
            raise DataError(f"input {spec} takes one channel, and mean and std have three: state one number each")
        return "grey" if count == 1 else "RGB"
    if count == 1 and preprocess.channels != "grey":
        raise DataError(f"input {spec} takes one channel, not {preprocess.channels}: use preset unit, raw or mnist")
    if count == 3 and preprocess.channels == "grey":
        raise DataError(f"input {spec} takes three channels, not grey: use channels RGB or BGR")
    return preprocess.channels


def _dtype(spec: TensorSpec, stated: DType | None) -> DType:
    kind: DType = "uint8" if spec.dtype == np.uint8 else "float16" if spec.dtype == np.float16 else "float32"
    if spec.dtype.kind != "f" and kind != "uint8":
        raise DataError(f"input {spec} takes {spec.dtype}, which images are not: {ARRAYS}")
    if stated is not None and (stated == "uint8") != (kind == "uint8"):
        raise DataError(f"dtype {stated} is stated, but input {spec} takes {spec.dtype}: state {kind}, or no dtype")
    return stated or kind


def _check_size(spec: TensorSpec, size: tuple[object, ...], preprocess: Stated) -> None:
    """A free length takes any; a fixed one must be what the preprocessing gives."""
    ours = geometry.result_size(preprocess.resize, preprocess.crop)
    if all(not isinstance(length, int) or (ours and length == ours[axis]) for axis, length in enumerate(size)):
        return
    wanted = "x".join(str(length) if isinstance(length, int) else "?" for length in size)
    takes = f"input {spec} takes images of {wanted} (height x width), and the preprocessing"
    if ours is None:
        raise DataError(f"{takes} leaves each image its own size: state size or crop = [height, width]")
    whole = [length if isinstance(length, int) else ours[axis] for axis, length in enumerate(size)]
    key = "crop" if preprocess.crop else "size"
    raise DataError(f"{takes} gives {spelled(ours)}: write {key} = {whole}")
