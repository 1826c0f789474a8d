"""Preprocess: the formula, the presets, the file, and that equal values are the same preprocessing."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data.geometry import Resize
from trtcal.data.preprocess import PRESETS, Preprocess

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)
IMAGE = PIL.Image.fromarray(PIXELS)


def spec(*shape: int | str | None, dtype: str = "float32", name: str = "input") -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(dtype))


def written(folder: Path, text: str) -> Path:
    path = folder / "preprocess.toml"
    path.write_text(text)
    return path


# --- the numbers


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("unit", PIXELS / 255),
        ("raw", PIXELS),
        ("cifar10", (PIXELS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_presets_of_any_size(preset: str, expected: np.ndarray) -> None:
    values = Preprocess.load(preset)(IMAGE)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    np.testing.assert_allclose(values, expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("preset", "formula"),
    [
        ("imagenet", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("imagenet-tf", lambda x: x / 127.5 - 1),
        ("imagenet-caffe", lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
    ],
)
def test_imagenet_presets(preset: str, formula: object) -> None:
    image = PIL.Image.fromarray(RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    scaled = np.asarray(image.resize((341, 256), PIL.Image.Resampling.BILINEAR), np.float64)
    expected = formula(scaled[16:240, 58:282])  # type: ignore[operator]
    values = Preprocess.load(preset)(image)
    np.testing.assert_allclose(values, expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_raw_is_exact() -> None:
    assert np.array_equal(PRESETS["raw"](IMAGE), PIXELS.transpose(2, 0, 1).astype(np.float32))


def test_mnist_is_grey() -> None:
    values = PRESETS["mnist"](IMAGE)
    assert values.shape == (1, 24, 20)
    np.testing.assert_allclose(values[0], np.asarray(IMAGE.convert("L")) / 255, rtol=1e-6)


@given(
    scale=st.floats(1e-3, 10),
    mean=st.tuples(*[st.floats(-200, 200)] * 3),
    std=st.tuples(*[st.floats(0.1, 100)] * 3),
)
def test_the_formula(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    values = Preprocess(scale=scale, mean=mean, std=std)(IMAGE)
    exact = (PIXELS.astype(np.float64) * scale - mean) / std
    error = np.abs(values.transpose(1, 2, 0) - exact)
    # Two float32 roundings of the constants and two of the operations, relative to the larger of the two terms.
    assert (error <= 2.5e-7 * (PIXELS * scale + np.abs(mean)) / std + 1e-37).all()


def test_layouts_hold_the_same_bits() -> None:
    first = Preprocess.load("cifar10")(IMAGE)
    last = Preprocess(**{**_arguments(PRESETS["cifar10"]), "layout": "NHWC"})(IMAGE)
    assert last.shape == (24, 20, 3)
    assert last.flags.c_contiguous
    assert np.array_equal(first, last.transpose(2, 0, 1))


def test_bgr_means_are_in_bgr_order() -> None:
    values = Preprocess(channels="BGR", mean=(1.0, 2.0, 3.0))(IMAGE)
    assert np.array_equal(values[0], PIXELS[..., 2] - np.float32(1))
    assert np.array_equal(values[2], PIXELS[..., 0] - np.float32(3))


def test_dtypes() -> None:
    assert Preprocess(dtype="uint8")(IMAGE).dtype == np.uint8
    assert np.array_equal(Preprocess(dtype="uint8", layout="NHWC", channels="BGR")(IMAGE), PIXELS[..., ::-1])
    half = Preprocess(scale=1 / 255, dtype="float16")(IMAGE)
    assert half.dtype == np.float16
    assert np.array_equal(half, PRESETS["unit"](IMAGE).astype(np.float16))


def test_none_takes_no_image() -> None:
    with pytest.raises(DataError, match="preprocess none feeds arrays as they are, not images"):
        PRESETS["none"](IMAGE)


# --- values


def test_nonsense_is_refused() -> None:
    for arguments, said in (
        ({"channels": "RBG"}, "channels must be one of RGB, BGR, grey, not 'RBG'"),
        ({"layout": "CHW"}, "layout must be one of NCHW, NHWC"),
        ({"dtype": "int8"}, "dtype must be one of float32, float16, uint8"),
        ({"scale": 0}, "scale must be a finite number other than 0, not 0"),
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"scale": True}, "scale must be a finite number"),
        ({"scale": 10**400}, "scale must be a finite number"),
        ({"mean": (1.0, 2.0)}, "mean must be one finite number or three, one per channel, not (1.0, 2.0)"),
        ({"mean": (float("inf"),)}, "mean must be one finite number"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be greater than 0, not [1 0 1]"),
        ({"std": (1e-250,)}, "is more than float32 holds"),
        ({"channels": "grey", "mean": (1.0, 2.0, 3.0)}, "mean and std have three channels, and grey has one"),
        ({"dtype": "uint8", "scale": 1 / 255}, "dtype uint8 keeps pixels as they are"),
        ({"crop": (0, 1)}, "crop is a height and a width in pixels, not (0, 1)"),
        ({"as_is": True, "scale": 2.0}, "preprocess none feeds arrays as they are: it goes with no other key"),
    ):
        with pytest.raises(DataError) as error:
            Preprocess(**arguments)  # type: ignore[arg-type]
        assert said in str(error.value)
        assert error.value.exit_code == 2


def test_one_mean_for_all_equals_three_alike() -> None:
    assert Preprocess(mean=(0.5, 0.5, 0.5)) == Preprocess(mean=(0.5,))
    assert hash(Preprocess(mean=(0.5, 0.5, 0.5))) == hash(Preprocess(mean=(0.5,)))
    assert PRESETS["imagenet"] == Preprocess.from_dict(PRESETS["imagenet"].to_dict())


numbers = st.floats(-1e4, 1e4, allow_nan=False)
positives = st.floats(1e-4, 1e4)
lengths = st.integers(1, 2000)


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    size = draw(st.tuples(lengths, lengths))
    resize = draw(
        st.one_of(
            st.none(),
            st.just(Resize("short-side", max(size))),
            st.builds(Resize, st.just("exact"), st.sampled_from([None, size]), st.sampled_from(["box", "lanczos"])),
            st.builds(Resize, st.just("letterbox"), st.just(size), fill=st.integers(0, 255)),
        )
    )
    channels = draw(st.sampled_from([None, "RGB", "BGR", "grey"]))
    width = 1 if channels == "grey" else draw(st.sampled_from([1, 3]))
    return Preprocess(
        resize=resize,
        crop=draw(st.sampled_from([None, size])),
        channels=channels,  # type: ignore[arg-type]
        scale=draw(positives),
        mean=draw(st.tuples(*[numbers] * width)),
        std=draw(st.tuples(*[positives] * width)),
        layout=draw(st.sampled_from([None, "NCHW", "NHWC"])),
        dtype=draw(st.sampled_from([None, "float32", "float16"])),
        adapts=draw(st.booleans()),
    )


@given(st.one_of(preprocesses(), st.sampled_from(list(PRESETS.values()))))
def test_the_dictionary_goes_through_json_and_back(value: Preprocess) -> None:
    through = Preprocess.from_dict(json.loads(json.dumps(value.to_dict())))
    assert through == value
    assert through.to_dict() == value.to_dict()
    assert "\n" not in str(value)


def test_a_dictionary_with_a_strange_key_or_value_is_refused() -> None:
    for value, said in (
        ({"meen": 1}, "unknown key 'meen' (did you mean 'mean'?); valid: resize, crop, channels"),
        ({"as_is": 1}, "as_is must be true or false, not 1"),
        ({"resize": 224}, "resize must be a table with mode and size, not 224"),
        ({"resize": {"size": 224}}, "resize.mode is missing: one of short-side, exact, letterbox"),
        ({"resize": {"mode": "exact", "heigth": 3}}, "unknown key 'resize.heigth'"),
        ({"crop": [1, 2, 3]}, "crop must be a number of pixels or [height, width], not [1, 2, 3]"),
        ({"scale": "a third"}, "scale must be a number or a fraction such as \"1/255\", not 'a third'"),
        ({"scale": "1/0"}, "scale must be a number or a fraction"),
        ({"mean": "0.5"}, "mean must be one finite number or three"),
    ):
        with pytest.raises(DataError) as error:
            Preprocess.from_dict(value)
        assert said in str(error.value)


def test_one_line_says_everything() -> None:
    assert str(PRESETS["imagenet"].settled()) == (
        "imagenet: short side 256 bilinear, crop 224x224, RGB, "
        "(pixel / 255 - [0.485 0.456 0.406]) / [0.229 0.224 0.225], NCHW, float32"
    )
    assert str(PRESETS["raw"].settled()) == "raw: RGB, pixel, NCHW, float32"
    assert str(PRESETS["none"]) == "none: arrays as they are"
    assert str(Preprocess(resize=Resize("letterbox", (640, 480), fill=114), scale=0.00392157, std=(2.0,))) == (
        "letterbox 640x480 bilinear fill 114, (pixel * 0.00392157) / 2"
    )


# --- files


def test_a_file_changes_its_preset(tmp_path: Path) -> None:
    path = written(tmp_path, 'preset = "imagenet"\nchannels = "BGR"\nmean = 0.5\n[resize]\nsize = 232\n')
    value = Preprocess.load(path)
    assert value.resize == Resize("short-side", 232)
    assert (value.crop, value.channels, value.mean) == ((224, 224), "BGR", (0.5,))
    assert value.std == PRESETS["imagenet"].std
    assert not value.adapts
    assert value.name == "preprocess.toml"
    assert Preprocess.load(str(path)) == value


def test_a_detectors_file(tmp_path: Path) -> None:
    text = """
        channels = "RGB"
        mean = 127
        std = 128
        layout = "NCHW"
        dtype = "float32"

        [resize]
        mode = "exact"
        size = [240, 320]
        interpolation = "bilinear"
    """
    value = Preprocess.load(written(tmp_path, text))
    resize = Resize("exact", (240, 320))
    assert value == Preprocess(
        resize=resize, channels="RGB", mean=(127.0,), std=(128.0,), layout="NCHW", dtype="float32"
    )


def test_letterbox_square_and_fraction(tmp_path: Path) -> None:
    value = Preprocess.load(
        written(tmp_path, 'scale = "1/255"\n[resize]\nmode = "letterbox"\nsize = 640\nfill = 114\n')
    )
    assert value == Preprocess(scale=1 / 255, resize=Resize("letterbox", (640, 640), fill=114))


def test_another_mode_drops_the_presets_crop_but_keeps_adapting(tmp_path: Path) -> None:
    value = Preprocess.load(written(tmp_path, 'preset = "imagenet"\n[resize]\nmode = "letterbox"\n'))
    assert (value.resize, value.crop) == (Resize("letterbox"), None)
    assert value.for_model([spec(1, 3, 96, 128)]).resize == Resize("letterbox", (96, 128))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("men = 1", "unknown key 'men' (did you mean 'mean'?); valid: preset, resize, crop, channels, scale, mean"),
        ("adapts = true", "unknown key 'adapts'"),
        (
            "normalize = true",
            "unknown key 'normalize'; valid: preset, resize, crop, channels, scale",
        ),
        ('preset = "coco"', "no preset 'coco': one of imagenet, imagenet-tf"),
        ("[resize]\nwidth = 8", "unknown key 'resize.width'; valid: mode, size, interpolation, fill"),
        ('preset = "imagnet"', "no preset 'imagnet' (did you mean 'imagenet'?): one of imagenet, imagenet-tf"),
        ("preset = [1]", "no preset [1]: one of imagenet"),
        ('preset = "none"\nscale = 2', "preprocess none feeds arrays as they are"),
        ("resize = 224", "resize must be a table with mode and size, not 224"),
        ("[resize]\nsize = 224", "resize.mode is missing"),
        ('[resize]\nmod = "exact"', "unknown key 'resize.mod' (did you mean 'mode'?)"),
        (
            'preset = "imagenet"\ncrop = 299',
            "crop 299x299 is larger than what resize short side 256 bilinear leaves",
        ),
        ("scale = ", "is not TOML: "),
        ("mean = [1, 2", "is not TOML: "),
    ],
)
def test_a_files_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as error:
        Preprocess.load(path)
    assert str(error.value).startswith(f"preprocessing {path}: ")
    assert said in str(error.value)
    assert error.value.exit_code == 2


def test_what_is_neither_preset_nor_file(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no preprocessing 'imagent' \(did you mean 'imagenet'\?\): one of imagenet, .*"
    ):
        Preprocess.load("imagent")
    with pytest.raises(DataError, match=r"absent\.toml: cannot be read: No such file"):
        Preprocess.load(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"channels = '\xe9'")
    with pytest.raises(DataError, match=r"latin\.toml: is not UTF-8 text"):
        Preprocess.load(tmp_path / "latin.toml")


def test_settled_needs_a_size(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="resize letterbox has no size, and no model fixes one"):
        Preprocess(resize=Resize("letterbox")).settled()
    assert PRESETS["none"].settled() is PRESETS["none"]


def _arguments(value: Preprocess) -> dict[str, object]:
    return {key: getattr(value, key) for key in ("channels", "scale", "mean", "std")}
