"""Pixels: from an image file or a Pillow image of any kind to 8-bit RGB or grey of the right size."""

import io
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError, folded, one_line
from trtcal.data.geometry import Resize, Size, crop_corner, letterbox_corner, spelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Exif, Image
    from PIL.ImageFile import ImageFile

EXTENSIONS = (
    ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""What an image file is called, in lower case."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read, whatever the file is called. Not EPS: it would run a program."""


STRIP = 1 << 20
"""Pixels of 16 bits that are converted in one go."""


LARGE = 1 << 24
"""Pixels of an image that is decoded alone, while other threads wait with theirs: each takes up to 5 bytes."""


class BadImageError(DataError):
    """An image that cannot be decoded; the message is the reason alone, and the caller names the file."""


def opened(path: Path) -> "Image":
    """Open an image file; its pixels are not decoded yet.

    Raises:
        BadImageError: No file, no image, or an image over Pillow's limit against decompression bombs.
    """
    import PIL.Image

    try:
        if path.stat().st_size == 0:
            raise BadImageError("the file is empty")
        return PIL.Image.open(path, formats=FORMATS)
    except BadImageError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise BadImageError("it is no image, or its header is damaged") from error
    except Exception as error:  # A decoder on hostile bytes raises anything: SyntaxError, struct.error, IndexError...
        raise BadImageError(_reason(error)) from error


def pixels_of(image: "Image", *, resize: Resize | None, crop: Size | None, grey: bool) -> npt.NDArray[np.uint8]:
    """Decode, convert, resize, turn upright and crop an image.

    - Colour: RGB, or grey as ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B. Palettes are looked up. Alpha is dropped, not
      composited, as training pipelines do (`convert("RGB")`, OpenCV). CMYK is converted without a profile. 16 bits
      become 8 as round(x * 255 / 65535).
    - EXIF orientation is applied. Of several frames the first counts.
    - Draft: a JPEG that is not decoded yet and shrinks at least 4 times is decoded at 1/2, 1/4 or 1/8 of its size by
      the JPEG decoder itself. What it gives is at least twice as large as what is wanted, so that the filter of
      `resize` still has the last word. Nearest neighbour, which averages nothing, never drafts. `image` keeps its size.
    - The crop is central, an odd pixel where torchvision's CenterCrop leaves it.

    Returns:
        uint8 of shape (height, width, channels): three channels in the order R, G, B, or one.

    Raises:
        BadImageError: It cannot be decoded.
        DataError: It is smaller than the crop.
    """
    with _turn if image.width * image.height > LARGE else nullcontext():
        pixels = _decoded(image, resize=resize, grey=grey)
    return pixels if crop is None else _cropped(pixels, crop)


def upright_size(image: "Image") -> Size:
    """The (height, width) of an image as it is looked at: its EXIF orientation applied.

    Only the header is read, but of TIFF, and of PNG whose EXIF stands behind the pixels.

    Raises:
        BadImageError: It cannot be read.
    """
    import PIL.Image
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        if isinstance(image, TiffImageFile) or (isinstance(image, PngImageFile) and _speaks_late(image)):
            image.load()
        orientation = _orientation(image, PIL.Image.Image.getexif)  # PNG's own would decode to find none
    except Exception as error:  # As in `opened`.
        raise BadImageError(_reason(error)) from error
    return (image.width, image.height) if orientation >= 5 else (image.height, image.width)


def _speaks_late(image: "ImageFile") -> bool:
    """Whether a PNG has EXIF, or text that may hold it, behind its pixels."""
    file = image.fp
    if file is None:
        return False
    place = file.tell()
    pixels = late = False
    file.seek(len(b"\x89PNG\r\n\x1a\n"))
    while len(head := file.read(8)) == 8 and not late:
        pixels = pixels or head[4:] == b"IDAT"
        late = pixels and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)  # its data and its checksum
    file.seek(place)
    return late


_turn = Lock()


def _decoded(image: "Image", *, resize: Resize | None, grey: bool) -> npt.NDArray[np.uint8]:
    """All of `pixels_of` but the crop."""
    import PIL.Image
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        if not isinstance(image, JpegImageFile):
            image.load()  # Here TIFF turns itself upright, and PNG meets EXIF that stands behind the pixels.
        orientation = _orientation(image)
        sideways = orientation >= 5
        upright = (image.width, image.height) if sideways else (image.height, image.width)
        size = _within_limits(resize.scaled(upright), upright) if resize else upright
        stored = (size[1], size[0]) if sideways else size
        image, box = _drafted(image, stored, resize)
        image = _coloured(image, grey=grey)
        if resize and (image.height, image.width) != stored:
            kind = PIL.Image.Resampling[resize.interpolation.upper()]
            image = image.resize((stored[1], stored[0]), kind, box=box)
        if orientation != 1:
            image = image.transpose(PIL.Image.Transpose[_TURNS[orientation]])
        if resize and resize.mode == "letterbox" and isinstance(resize.size, tuple):
            image = _letterboxed(image, resize.size, resize.fill)
        pixels = np.asarray(image if grey or image.mode == "RGB" else image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # As in `opened`: decoding happens here.
        raise BadImageError(_reason(error)) from error
    return pixels.reshape(*pixels.shape[:2], -1)


_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
"""What undoes each EXIF orientation; from 5 on, height and width change places."""


def _orientation(image: "Image", exif: "Callable[[Image], Exif] | None" = None) -> int:
    try:
        orientation = (image.getexif() if exif is None else exif(image)).get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF beside good pixels: every viewer shows such an image as it is stored.
        return 1
    return orientation if orientation in _TURNS else 1


def _drafted(image: "Image", size: Size, resize: Resize | None) -> "tuple[Image, tuple[float, float, float, float]]":
    """The image to scale to `size`, and the part of it that the picture covers: (left, top, right, bottom)."""
    import PIL.Image
    from PIL.JpegImagePlugin import JpegImageFile

    twice = (2 * size[1], 2 * size[0])
    whole = (0.0, 0.0, float(image.width), float(image.height))
    shrinks = min(image.width // twice[0], image.height // twice[1]) >= 2
    if not shrinks or resize is None or resize.interpolation == "nearest":
        return image, whole
    if not isinstance(image, JpegImageFile) or not image.tile or image.fp is None:
        return image, whole
    image.fp.seek(0)
    copy = PIL.Image.open(io.BytesIO(image.fp.read()), formats=FORMATS)  # A draft changes the image it is asked of.
    drafted = copy.draft(None, twice)
    return copy, drafted[1] if drafted else whole


def _coloured(image: "Image", *, grey: bool) -> "Image":
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _of_16_bits(image)
    elif image.mode == "F":
        raise BadImageError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    elif image.mode in ("P", "PA", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "L" or (image.mode == "RGB" and not grey):
        return image  # grey becomes RGB once it is small; a conversion would copy all of it
    return image.convert("L" if grey else "RGB")


def _of_16_bits(image: "Image") -> "Image":
    import PIL.Image

    pixels = np.empty((image.height, image.width), np.uint8)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError("its pixels are integers of more than 16 bits; save it with 8 or 16 bits")
        pixels[top : top + rows] = (values.astype(np.uint32) * 255 + 32767) // 65535
    return PIL.Image.fromarray(pixels)


def _within_limits(size: Size, original: Size) -> Size:
    import PIL.Image

    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise BadImageError(
            f"its {spelled(original)} pixels would become {spelled(size)}, over Pillow's limit of {limit}"
        )
    return size


def _letterboxed(image: "Image", size: Size, fill: int) -> "Image":
    import PIL.Image

    canvas = PIL.Image.new(image.mode, (size[1], size[0]), fill if image.mode == "L" else (fill, fill, fill))
    top, left = letterbox_corner((image.height, image.width), size)
    canvas.paste(image, (left, top))
    return canvas


def _cropped(pixels: npt.NDArray[np.uint8], crop: Size) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if height < crop[0] or width < crop[1]:
        raise DataError(f"it is {spelled((height, width))}, smaller than the crop {spelled(crop)}: state a resize")
    top, left = crop_corner((height, width), crop)
    return pixels[top : top + crop[0], left : left + crop[1]]


def _reason(error: Exception) -> str:
    said = folded(error.strerror) if isinstance(error, OSError) and error.strerror else one_line(error)
    return said.rstrip(".")
