"""Pixels: every kind of image that Pillow opens, upright, in colour or grey, at the right size."""

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibrators.errors import DataError
from trtcal.data import pixels
from trtcal.data.geometry import Resize
from trtcal.data.pixels import BadImageError, opened, pixels_of


def picture(height: int, width: int, seed: int = 0) -> PIL.Image.Image:
    """A smooth coloured picture with edges in it, different in each corner."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6, 3)
    waves = np.stack([np.sin(5 * x + 3 * y * (k + 1) + phases[k]) for k in range(3)], -1)
    waves[height // 3 : height // 2, width // 4 : width // 2] *= -1
    return PIL.Image.fromarray(np.clip(127.5 + 110 * waves + 60 * (x - y)[..., None], 0, 255).astype(np.uint8))


def saved(path: Path, image: PIL.Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def plain(image: PIL.Image.Image, *, grey: bool = False) -> np.ndarray:
    return pixels_of(image, resize=None, crop=None, grey=grey)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_colour_or_grey(mode: str, grey: bool) -> None:
    image = picture(12, 17).convert(mode)
    pixels = plain(image, grey=grey)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (12, 17, 1 if grey else 3)
    straight = np.asarray(image.convert("RGB").convert("L" if grey else "RGB")).reshape(pixels.shape)
    assert np.abs(pixels.astype(int) - straight).max() <= 1


def test_grey_is_luma(tmp_path: Path) -> None:
    image = picture(9, 9)
    r, g, b = np.moveaxis(np.asarray(image).astype(float), -1, 0)
    assert np.abs(plain(image, grey=True)[..., 0] - (0.299 * r + 0.587 * g + 0.114 * b)).max() <= 0.51


def test_a_palette_with_transparency_is_looked_up_and_the_rest_dropped(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "p.png", image, transparency=bytes([0, 128]))
    assert plain(opened(path))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert not recwarn.list


def test_alpha_is_dropped_not_composited(tmp_path: Path) -> None:
    image = PIL.Image.new("RGBA", (2, 2), (200, 100, 50, 0))
    assert plain(opened(saved(tmp_path / "a.png", image)))[0, 0].tolist() == [200, 100, 50]
    grey = PIL.Image.new("LA", (2, 2), (77, 3))
    assert plain(opened(saved(tmp_path / "la.png", grey)))[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_16_bits_become_8(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], np.uint16)
    path = saved(tmp_path / name, PIL.Image.fromarray(values))
    expected = np.floor(values * (255 / 65535) + 0.5).astype(int)
    assert plain(opened(path), grey=True)[..., 0].tolist() == expected.tolist()
    assert plain(opened(path))[0, :, 2].tolist() == expected[0].tolist()


def test_big_endian_16_bits(tmp_path: Path) -> None:
    image = PIL.Image.frombytes("I;16B", (2, 1), bytes([0x80, 0x00, 0xFF, 0xFF]))
    assert plain(image, grey=True)[0, :, 0].tolist() == [128, 255]


def test_floats_and_wide_integers_are_refused() -> None:
    with pytest.raises(BadImageError, match="floating-point numbers; save it with 8 or 16 bits"):
        plain(PIL.Image.new("F", (2, 2), 0.5))
    with pytest.raises(BadImageError, match="more than 16 bits"):
        plain(PIL.Image.new("I", (2, 2), 70000))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    image = picture(20, 31)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"x.{kind}", image, exif=exif)
    reference = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(path)).convert("RGB"))
    assert np.array_equal(plain(opened(path)), reference)
    resize = Resize("exact", (16, 40))
    turned = pixels_of(opened(path), resize=resize, crop=None, grey=False)
    straight = pixels_of(PIL.Image.fromarray(reference), resize=resize, crop=None, grey=False)
    assert turned.shape == (16, 40, 3)
    assert np.abs(turned.astype(int) - straight).max() <= 2


def test_unknown_or_damaged_orientation_leaves_the_image(tmp_path: Path) -> None:
    image = picture(5, 9)
    exif = PIL.Image.Exif()
    exif[0x0112] = 99
    assert plain(opened(saved(tmp_path / "a.png", image, exif=exif))).shape == (5, 9, 3)
    assert plain(opened(saved(tmp_path / "b.jpg", image, exif=b"Exif\0\0garbage"))).shape == (5, 9, 3)


def test_resize_and_crop_are_pillows_and_torchvisions() -> None:
    image = picture(75, 100)
    pixels = pixels_of(image, resize=Resize("short-side", 40), crop=(32, 32), grey=False)
    scaled = np.asarray(image.resize((53, 40), PIL.Image.Resampling.BILINEAR))
    assert np.array_equal(pixels, scaled[4:36, 10:42])  # round(21 / 2) is 10 in Python, as in torchvision


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
def test_interpolation(name: str) -> None:
    image = picture(40, 30)
    pixels = pixels_of(image, resize=Resize("exact", (21, 11), name), crop=None, grey=True)  # type: ignore[arg-type]
    filter_ = PIL.Image.Resampling[name.upper()]
    assert np.array_equal(pixels[..., 0], np.asarray(image.convert("L").resize((11, 21), filter_)))


@pytest.mark.parametrize("grey", [False, True])
def test_letterbox_fills_both_sides(grey: bool) -> None:
    image = PIL.Image.new("RGB", (20, 10), (255, 255, 255))
    pixels = pixels_of(image, resize=Resize("letterbox", (41, 40), fill=114), crop=None, grey=grey)
    assert pixels.shape == (41, 40, 1 if grey else 3)
    rows = pixels[:, 0, 0]
    assert (rows[:10] == 114).all()
    assert (rows[10:30] == 255).all()
    assert (rows[30:] == 114).all()


def test_too_small_for_the_crop() -> None:
    with pytest.raises(DataError, match="it is 10x20, smaller than the crop 16x16: state a resize") as error:
        pixels_of(picture(10, 20), resize=None, crop=(16, 16), grey=False)
    assert not isinstance(error.value, BadImageError)


def test_a_strip_is_not_blown_up_beyond_pillows_limit() -> None:
    with pytest.raises(BadImageError, match="its 1x100000 pixels would become 256x25600000, over Pillow's limit"):
        pixels_of(PIL.Image.new("L", (100000, 1)), resize=Resize("short-side", 256), crop=(224, 224), grey=True)


# --- draft


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [(1600, 1203), (901, 1601)])
def test_draft_changes_next_to_nothing(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "x.jpg", picture(*size), quality=92, exif=exif)
    resize = Resize("short-side", 96)
    drafted = pixels_of(opened(path), resize=resize, crop=(90, 90), grey=False)
    whole = opened(path)
    whole.load()
    full = pixels_of(whole, resize=resize, crop=(90, 90), grey=False)
    difference = np.abs(drafted.astype(int) - full)
    assert 0 < difference.max() <= 12  # It was drafted; an edge may fall a little differently.
    assert difference.mean() < 0.5


def test_draft_on_photographs(shared_data: Path) -> None:
    for path in sorted((shared_data / "images" / "faces").glob("*.jpg")):
        resize = Resize("exact", (60, 80))
        drafted = pixels_of(opened(path), resize=resize, crop=None, grey=False)
        whole = opened(path)
        whole.load()
        full = pixels_of(whole, resize=resize, crop=None, grey=False)
        assert np.abs(drafted.astype(int) - full).mean() < 1


@pytest.mark.parametrize(
    ("height", "resize"),
    [
        (1000, Resize("short-side", 251)),  # 3.98 times: half size would be less than twice the target
        (1000, Resize("exact", (100, 100), "nearest")),
        (1000, None),
    ],
)
def test_no_draft_where_it_could_be_seen(tmp_path: Path, height: int, resize: Resize | None) -> None:
    path = saved(tmp_path / "x.jpg", picture(height, 1200))
    whole = opened(path)
    whole.load()
    drafted = pixels_of(opened(path), resize=resize, crop=None, grey=False)
    assert np.array_equal(drafted, pixels_of(whole, resize=resize, crop=None, grey=False))


def test_draft_leaves_the_callers_image_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", picture(800, 1000))
    image = opened(path)
    small = Resize("short-side", 50)
    first = pixels_of(image, resize=small, crop=None, grey=False)
    assert image.size == (1000, 800)
    assert np.array_equal(first, pixels_of(image, resize=small, crop=None, grey=False))
    assert plain(image).shape == (800, 1000, 3)


# --- what is no image


def test_empty_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("these are words")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    for name, said in (
        ("empty.jpg", "the file is empty"),
        ("text.png", "it is no image, or its header is damaged"),
        ("script.png", "it is no image"),
        ("absent.png", "No such file or directory"),
    ):
        with pytest.raises(BadImageError, match=said) as error:
            opened(tmp_path / name)
        assert error.value.exit_code == 2


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "webp", "tiff", "ppm"])
def test_truncated_files(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path / f"x.{kind}", picture(64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadImageError) as error:
        plain(opened(path))
    assert "\n" not in str(error.value)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "bomb.png", PIL.Image.new("1", (300, 300)))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(BadImageError, match=r"90000 pixels.*limit of 20000 pixels"):
        opened(path)


KINDS = ["jpeg", "png", "gif", "bmp", "webp", "tiff", "ppm", "jpeg2000"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), hits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_damaged_bytes_give_an_image_or_one_error(tmp_path: Path, kind: str, hits: list[tuple[float, int]]) -> None:
    buffer = io.BytesIO()
    picture(24, 24).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place, value in hits:
        content[min(int(place * len(content)), len(content) - 1)] = value
    path = tmp_path / "x"
    path.write_bytes(content)
    try:
        pixels = pixels_of(opened(path), resize=Resize("exact", (8, 8)), crop=None, grey=False)
    except BadImageError as error:
        assert str(error)
        assert os.linesep not in str(error)
    else:
        assert pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
@pytest.mark.parametrize("grey", [True, False])
def test_strips_of_16_bits_are_no_other_pixels(mode: str, grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (37, 23))
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    image = PIL.Image.frombytes(mode, (23, 37), values.astype(kind).tobytes())
    expected = np.floor(values * (255 / 65535) + 0.5)[..., None].repeat(1 if grey else 3, axis=2)
    for strip in (1, 23 * 5, 1 << 20):
        monkeypatch.setattr("trtcal.data.pixels.STRIP", strip)
        np.testing.assert_array_equal(pixels_of(image, resize=None, crop=None, grey=grey), expected)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize("mode", ["exact", "letterbox"])
def test_grey_that_becomes_rgb_when_it_is_small_is_as_before(mode: str, interpolation: str) -> None:
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 47), np.uint8))
    resize = Resize(mode, (19, 23), interpolation, fill=114 if mode == "letterbox" else 0)
    given = pixels_of(image, resize=resize, crop=None, grey=False)
    np.testing.assert_array_equal(given, pixels_of(image.convert("RGB"), resize=resize, crop=None, grey=False))


@pytest.mark.parametrize("mode, most", [("I;16", 350), ("L", 250), ("RGB", 450)])
def test_memory_of_a_large_image(mode: str, most: int, tmp_path: Path) -> None:
    """64 million pixels in a small file: 2, 1 and 4 bytes each once they are decoded, and a little more."""
    PIL.Image.new(mode, (8000, 8000)).save(tmp_path / "large.png")
    program = (
        "import resource, sys; from pathlib import Path; from trtcal.data.geometry import Resize\n"
        "from trtcal.data.pixels import opened, pixels_of\n"
        "image = opened(Path(sys.argv[1])); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "pixels_of(image, resize=Resize('exact', (32, 32)), crop=None, grey=False)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "large.png"], env=environment, capture_output=True, check=True
    )
    assert int(done.stdout) < most


@pytest.mark.parametrize("large, together", [(100, 1), (10_000, 4)])
def test_large_images_are_decoded_one_at_a_time(large: int, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtcal.data.pixels.LARGE", large)
    inside, most, decode = [0], [0], pixels._decoded

    def counted(*arguments: object, **options: object) -> object:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.3)
        inside[0] -= 1
        return decode(*arguments, **options)

    monkeypatch.setattr(pixels, "_decoded", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: pixels_of(picture(30, 40, seed), resize=None, crop=None, grey=False), range(4)))
    assert most == [together]
