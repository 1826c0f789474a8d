"""Placing: what is marked in an image lies in the model's input where its placement says, to half a pixel."""

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data import split as split_module
from trtcal.data.geometry import Resize
from trtcal.data.images import ImageLoader, open_images
from trtcal.data.placing import placement
from trtcal.data.preprocess import PRESETS, Preprocess
from trtcal.data.split import ImageChoice, parted
from trtcal.tasks.placement import Placement

RESIZES = {
    "letterbox, wide": Preprocess(Resize("letterbox", (64, 64))),
    "letterbox, an odd pixel": Preprocess(Resize("letterbox", (65, 97))),
    "letterbox, larger than the image": Preprocess(Resize("letterbox", (300, 411), "bicubic")),
    "letterbox and crop": Preprocess(Resize("letterbox", (96, 96)), (81, 90)),
    "exact": Preprocess(Resize("exact", (50, 120))),
    "exact, nearest": Preprocess(Resize("exact", (77, 41), "nearest")),
    "short side": Preprocess(Resize("short-side", 90)),
    "short side and crop": Preprocess(Resize("short-side", 91), (84, 84)),
    "short side and odd crop": Preprocess(Resize("short-side", 90), (85, 71)),
    "crop": Preprocess(crop=(95, 120)),
    "nothing": Preprocess(),
}
SIZES = [(120, 160), (161, 121), (133, 133)]
CENTRE = np.array([[0.42, 0.4, 0.61, 0.63]])


def boxed(size: tuple[int, int]) -> tuple[PIL.Image.Image, np.ndarray]:
    """A black image with a white box near its centre, and the box."""
    height, width = size
    box = np.round(CENTRE * [width, height, width, height])
    left, top, right, bottom = box[0].astype(int)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top:bottom, left:right] = 255
    return PIL.Image.fromarray(pixels), box


def found(values: np.ndarray) -> np.ndarray:
    """The box in (channels, height, width), 0 to 255: its mass says how long a side is, and its centre where."""
    pixels = values[0].astype(float) / 255
    sides = []
    for axis in (0, 1):  # over rows: what lies along x
        line = pixels.max(axis=axis)
        middle = (line * (np.arange(len(line)) + 0.5)).sum() / line.sum()
        sides.append((middle - line.sum() / 2, middle + line.sum() / 2))
    (left, right), (top, bottom) = sides
    return np.array([[left, top, right, bottom]])


def assert_placed(place: Placement, values: np.ndarray, box: np.ndarray) -> None:
    assert place.input == values.shape[1:]
    inside = found(values)
    assert np.abs(inside - (box * np.tile(place.scale[::-1], 2) + np.tile(place.offset[::-1], 2))).max() < 0.5
    unit = max(1 / place.scale[0], 1 / place.scale[1], 1.0)
    assert np.abs(place.boxes(inside) - box).max() < 0.5 * unit


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preprocess", RESIZES.values(), ids=RESIZES)
def test_a_box_lies_where_the_placement_says(preprocess: Preprocess, size: tuple[int, int]) -> None:
    image, box = boxed(size)
    preprocess = preprocess.settled()
    place = placement(preprocess, size)
    assert place.size == size
    assert_placed(place, preprocess(image), box)


def test_numbers_by_hand() -> None:
    odd = Preprocess(Resize("letterbox", (65, 97))).settled()
    assert placement(odd, (120, 160)) == Placement((120, 160), (65, 97), (65 / 120, 87 / 160), (0.0, 5.0))
    short = Preprocess(Resize("short-side", 90), (80, 71)).settled()
    assert placement(short, (120, 161)) == Placement((120, 161), (80, 71), (0.75, 120 / 161), (-5.0, -24.0))
    assert placement(Preprocess().settled(), (3, 5)) == Placement.whole((3, 5))


def test_what_cannot_be_placed() -> None:
    with pytest.raises(DataError, match="it is 20x30, smaller than the crop 21x21: state a resize"):
        placement(Preprocess(crop=(21, 21)).settled(), (20, 30))
    with pytest.raises(DataError, match="preprocess none feeds arrays as they are"):
        placement(PRESETS["none"], (20, 30))


# --- folders

ORIENTED = {1: None, 3: "ROTATE_180", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
"""EXIF orientations, and what turns an upright image into the stored one."""


@pytest.mark.parametrize("ending", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_the_size_is_as_looked_at(tmp_path: Path, orientation: int, ending: str) -> None:
    image, box = boxed((120, 160))
    turn = ORIENTED[orientation]
    stored = image if turn is None else image.transpose(PIL.Image.Transpose[turn])
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"compression": "raw"} if ending == "tiff" else {"quality": 100, "lossless": True}
    stored.save(tmp_path / f"a.{ending}", exif=exif, **options)
    preprocess = Preprocess(Resize("letterbox", (96, 97))).settled()
    loader = ImageLoader(tmp_path, preprocess=preprocess)
    place = loader.placement(f"a.{ending}")
    assert place == placement(preprocess, (120, 160))
    assert_placed(place, next(iter(next(iter(loader)).values()))[0], box)


def late(path: Path, *chunks: tuple[bytes, bytes]) -> None:
    """Put chunks behind the pixels of a PNG."""
    data = path.read_bytes()
    made = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    path.write_bytes(data[:-12] + b"".join(made) + data[-12:])


def test_a_png_whose_orientation_stands_behind_its_pixels(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    boxed((120, 160))[0].save(tmp_path / "a.png")
    late(tmp_path / "a.png", (b"tEXt", b"Software\0any"), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    boxed((120, 160))[0].save(tmp_path / "b.png")
    late(tmp_path / "b.png", (b"tEXt", b"Software\0any"))
    loader = ImageLoader(tmp_path, preprocess="raw", batch_size=1)
    assert [loader.placement(name).size for name in loader.names] == [(160, 120), (120, 160)]
    assert [next(iter(batch.values())).shape[2:] for batch in loader] == [(160, 120), (120, 160)]


def test_only_headers_are_read(tmp_path: Path) -> None:
    """The pixels are damaged, and the sizes known all the same."""
    for name in ("a.png", "b.jpg", "c.bmp"):
        boxed((300, 400))[0].save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) - len(data) // 3])
    loader = ImageLoader(tmp_path, preprocess="raw")
    assert {loader.placement(name).size for name in loader.names} == {(300, 400)}


def test_a_jpeg_that_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    image, box = boxed((1203, 1601))
    image.save(tmp_path / "a.jpg", quality=95)
    preprocess = Preprocess(Resize("letterbox", (97, 96))).settled()
    loader = ImageLoader(tmp_path, preprocess=preprocess)
    place = loader.placement("a.jpg")
    assert place == placement(preprocess, (1203, 1601))
    assert_placed(place, next(iter(next(iter(loader)).values()))[0], box)


def test_for_a_model_a_sample_and_parts(tmp_path: Path) -> None:
    for index in range(6):
        PIL.Image.fromarray(np.full((40 + index, 60, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    inputs = [TensorSpec("data", ("N", 3, 32, 32), np.dtype("float32"))]
    loader = ImageLoader(tmp_path, preprocess=Preprocess(Resize("letterbox"), adapts=True), inputs=inputs)
    wanted = placement(loader.preprocess, (43, 60))
    assert loader.placement("3.png") == wanted
    larger = loader.for_model([TensorSpec("data", ("N", 3, 64, 64), np.dtype("float32"))])
    assert larger.placement("3.png") == placement(larger.preprocess, (43, 60)) != wanted
    assert loader.sampled(2).placement("3.png") == wanted
    parts = parted(ImageChoice(tmp_path, preprocess=loader.preprocess, count=3, test_count=3), inputs)
    assert all(part.placement(name).size[1] == 60 for part in (parts.calibration, parts.test) for name in part.names)
    more = split_module.further(parted(ImageChoice(tmp_path, count=2, test_count=2), inputs), 2)
    assert more is not None
    assert more.placement(more.names[0]).size[1] == 60


def test_a_size_is_read_once(tmp_path: Path) -> None:
    boxed((40, 60))[0].save(tmp_path / "a.png")
    loader = ImageLoader(tmp_path, preprocess="raw")
    first = loader.placement("a.png")
    (tmp_path / "a.png").unlink()
    assert loader.placement("a.png") == loader.sampled(1).placement("a.png") == first


def test_no_such_image_and_a_bad_one(tmp_path: Path) -> None:
    boxed((40, 60))[0].save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("words")
    loader = ImageLoader(tmp_path, preprocess=Preprocess(crop=(50, 50)), on_bad_image="skip")
    with pytest.raises(DataError, match=r"there is no c\.png in .*: give one of its 2 names"):
        loader.placement("c.png")
    with pytest.raises(DataError, match=r"cannot read image .*b\.png: it is no image, or its header is damaged"):
        loader.placement("b.png")
    with pytest.raises(DataError, match=r"image .*a\.png: it is 40x60, smaller than the crop 50x50: state a resize"):
        loader.placement("a.png")


# --- arrays


@pytest.mark.parametrize(
    ("shape", "size"),
    [((2, 3, 32, 40), (32, 40)), ((2, 32, 40, 3), (32, 40)), ((2, 6, 32, 40), (32, 40)), ((2, 1, 32, 3), (32, 3))],
)
def test_arrays_that_are_fed_are_the_input(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    loader = open_images(tmp_path / "a.npy", [TensorSpec("x", ("N", *shape[1:]), np.dtype("float32"))])
    assert loader.preprocess.as_is
    assert loader.placement("sample 1") == Placement.whole(size)


def test_an_image_beside_other_arrays(tmp_path: Path) -> None:
    arrays = {"image": np.zeros((2, 3, 32, 40), np.float32), "scale": np.ones((2, 2), np.float32)}
    np.savez(tmp_path / "a.npz", **arrays)
    inputs = [TensorSpec(name, ("N", *array.shape[1:]), array.dtype) for name, array in arrays.items()]
    assert open_images(tmp_path / "a.npz", inputs).placement("sample 0") == Placement.whole((32, 40))


def test_arrays_of_images_are_preprocessed(tmp_path: Path) -> None:
    image, box = boxed((120, 160))
    np.save(tmp_path / "a.npy", np.asarray(image)[None])
    preprocess = Preprocess(Resize("letterbox", (96, 97))).settled()
    loader = ImageLoader(tmp_path / "a.npy", preprocess=preprocess)
    assert loader.placement("sample 0") == placement(preprocess, (120, 160))
    assert_placed(loader.placement("sample 0"), next(iter(next(iter(loader)).values()))[0], box)


def test_arrays_that_say_no_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 7), np.float32))
    loader = ImageLoader(tmp_path / "a.npy", preprocess="none")
    with pytest.raises(DataError, match=r"a\.npy, sample 0: of its arrays 0 have four axes, as images have, and one"):
        loader.placement("sample 0")
