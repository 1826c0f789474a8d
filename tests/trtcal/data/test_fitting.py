"""Fitting: what is taken from a model's input, and which preprocessings do not fit it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data.fitting import image_channels
from trtcal.data.geometry import Resize, result_size
from trtcal.data.preprocess import PRESETS, Preprocess

Length = int | str | None


def spec(*shape: Length, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("pixels", shape, np.dtype(dtype))


@pytest.mark.parametrize(
    ("preset", "shape", "expected"),
    [
        ("imagenet", ("N", 3, 224, 224), (Resize("short-side", 256), (224, 224), "RGB", "NCHW")),
        ("imagenet", (1, 3, 299, 299), (Resize("short-side", 342), (299, 299), "RGB", "NCHW")),
        ("imagenet", ("N", 3, "H", "W"), (Resize("short-side", 256), (224, 224), "RGB", "NCHW")),
        ("imagenet-tf", (None, 224, 224, 3), (Resize("short-side", 256), (224, 224), "RGB", "NHWC")),
        ("imagenet-caffe", (None, None, None, 3), (Resize("short-side", 256), (224, 224), "BGR", "NHWC")),
        ("unit", (1, 1, 28, 28), (Resize("exact", (28, 28)), None, "grey", "NCHW")),
        ("raw", (1, 28, 28, 1), (Resize("exact", (28, 28)), None, "grey", "NHWC")),
        ("raw", ("N", "C", "H", "W"), (None, None, "RGB", "NCHW")),
        ("raw", ("N", 48, 64, "C"), (Resize("exact", (48, 64)), None, "RGB", "NHWC")),
        ("cifar10", ("N", 3, 32, 32), (Resize("exact", (32, 32)), None, "RGB", "NCHW")),
        ("cifar10", ("N", 3, 3, 3), (Resize("exact", (3, 3)), None, "RGB", "NCHW")),
    ],
)
def test_taken_from_the_model(preset: str, shape: tuple[Length, ...], expected: tuple[object, ...]) -> None:
    value = PRESETS[preset].for_model([spec(*shape)])
    assert (value.resize, value.crop, value.channels, value.layout) == expected
    assert (value.dtype, value.adapts, value.name) == ("float32", False, preset)
    assert value.for_model([spec(*shape)]) == value


@given(
    preset=st.sampled_from(["imagenet", "imagenet-tf", "imagenet-caffe", "unit", "raw", "cifar10"]),
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    last=st.booleans(),
)
def test_the_result_has_the_models_size(preset: str, height: int, width: int, last: bool) -> None:
    shape = (1, height, width, 3) if last and height not in (1, 3) else (1, 3, height, width)
    value = PRESETS[preset].for_model([spec(*shape)])
    assert result_size(value.resize, value.crop) == (height, width)


def test_dtype_of_the_model() -> None:
    assert PRESETS["raw"].for_model([spec(1, 3, 8, 8, dtype="uint8")]).dtype == "uint8"
    assert PRESETS["unit"].for_model([spec(1, 3, 8, 8, dtype="float16")]).dtype == "float16"
    assert PRESETS["unit"].for_model([spec(1, 3, 8, 8, dtype="float64")]).dtype == "float32"  # `bind` widens it


def test_a_stated_short_side_without_crop_is_cropped_to_the_model() -> None:
    value = Preprocess(resize=Resize("short-side", 240)).for_model([spec(1, 3, 224, 200)])
    assert (value.resize, value.crop) == (Resize("short-side", 240), (224, 200))


def test_none_fits_anything() -> None:
    assert PRESETS["none"].for_model([spec(1, 7), spec(2, 9)]) is PRESETS["none"]


@pytest.mark.parametrize(
    ("preprocess", "inputs", "said"),
    [
        (
            PRESETS["imagenet"],
            [spec(1, 1, 28, 28)],
            "input pixels:1x1x28x28 takes one channel, not RGB: use preset unit",
        ),
        (PRESETS["mnist"], [spec(1, 3, 8, 8)], "input pixels:1x3x8x8 takes three channels, not grey"),
        (
            Preprocess(mean=(1.0, 2.0, 3.0)),
            [spec(1, 1, 8, 8)],
            "input pixels:1x1x8x8 takes one channel, and mean and std have three",
        ),
        (
            Preprocess(layout="NHWC"),
            [spec("N", 3, 8, 9)],
            "layout NHWC is stated, but input pixels:Nx3x8x9 is NCHW: state NCHW, or no layout",
        ),
        (
            Preprocess(layout="NCHW"),
            [spec(1, 8, 8, 3)],
            "layout NCHW is stated, but input pixels:1x8x8x3 is NHWC: state NHWC, or no layout",
        ),
        (
            Preprocess(layout="NCHW"),
            [spec(1, 8, 8, "C")],
            "input pixels:1x8x8xC takes no images, which have one or three channels: give an .npz",
        ),
        (
            PRESETS["raw"],
            [spec(1, 64, 8, 8)],
            "give an .npz with one array per input, named as the input, and --preprocess none",
        ),
        (PRESETS["raw"], [spec(1, 128)], "input pixels:1x128 takes no images, which have four axes: give an .npz"),
        (
            PRESETS["raw"],
            [spec(1, 3, 8, 8), TensorSpec("mask", (1, 8), np.dtype("float32"))],
            "the model has 2 inputs (pixels, mask), and images go to a model with one: give an .npz",
        ),
        (PRESETS["raw"], [], "the model has 0 inputs (none)"),
        (PRESETS["raw"], [spec(1, 3, 8, 8, dtype="int64")], "takes int64, which images are not"),
        (
            PRESETS["imagenet"],
            [spec(1, 3, 8, 8, dtype="uint8")],
            "does not fit input pixels:1x3x8x8: dtype uint8 keeps",
        ),
        (
            Preprocess(dtype="uint8"),
            [spec(1, 3, 8, 8)],
            "dtype uint8 is stated, but input pixels:1x3x8x8 takes float32: state float32, or no dtype",
        ),
        (
            Preprocess(resize=Resize("exact", (8, 8))),
            [spec(1, 3, 8, 9)],
            "input pixels:1x3x8x9 takes images of 8x9 (height x width), and the preprocessing gives 8x8: write size = "
            "[8, 9]",
        ),
        (
            PRESETS["imagenet"],
            [spec(1, 3, 256, "W")],
            "takes images of 256x? (height x width), and the preprocessing gives 224x224: write crop = [256, 224]",
        ),
        (
            Preprocess(resize=Resize("letterbox", (320, 240))),
            [spec(1, 3, 240, 320)],
            "takes images of 240x320 (height x width), and the preprocessing gives 320x240: write size = [240, 320]",
        ),
        (
            PRESETS["unit"],
            [spec(1, 3, 8, "W")],
            "takes images of 8x? (height x width), and the preprocessing leaves each image its own size: state size or "
            "crop = [height, width]",
        ),
        (
            Preprocess(resize=Resize("letterbox")),
            [spec(1, 3, "H", "W")],
            "does not fit input pixels:1x3xHxW: resize letterbox has no size",
        ),
        (
            Preprocess(resize=Resize("short-side", 100)),
            [spec(1, 3, 224, 224)],
            "does not fit input pixels:1x3x224x224: crop 224x224 is larger than what resize short side 100",
        ),
    ],
)
def test_what_does_not_fit_names_the_input(preprocess: Preprocess, inputs: list[TensorSpec], said: str) -> None:
    with pytest.raises(DataError) as error:
        preprocess.for_model(inputs)
    assert said in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("inputs", "channels"),
    [
        ([spec(1, 1, 8, 8)], 1),
        ([spec(1, 8, 8, 3)], 3),
        ([spec(None, None, None, None)], 3),
        ([spec(1, 8)], None),
        ([spec(1, 3, 8, 8, dtype="bool")], None),
        ([], None),
    ],
)
def test_image_channels(inputs: list[TensorSpec], channels: int | None) -> None:
    assert image_channels(inputs) == channels
