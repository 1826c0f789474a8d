"""TensorRT's calibration cache as one of the formats."""

import re

from calibrators.cache.text import CalibrationCache
from calibrators.codecs.encodings import Encodings, to_cache


def load(data: bytes, *, source: str) -> Encodings:
    """Read a cache; what it says is kept byte for byte.

    Raises:
        CacheError: It is malformed; the message names the line.
    """
    return Encodings.of_cache(CalibrationCache.parse(data, source=source))


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The cache that the encodings came from, byte for byte, or a new one; and what it cannot hold.

    Raises:
        CacheError: There is no activation, one has several scales, or a name cannot be written.
    """
    cache, lost = to_cache(encodings)
    return cache.dumps(), lost


def recognises(data: bytes) -> bool:
    """Whether it begins as a cache does: with a line such as TRT-8601-EntropyCalibration2, or an old one of numbers."""
    first, _, rest = data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if re.fullmatch(rb"TRT-\S+\s*", first):
        return True
    old = re.fullmatch(rb"[0-9]+(?: [0-9a-f]{1,16})*\s*", first)
    if old is None:
        return False
    entry = next((line for line in rest.split(b"\n") if line.strip()), b"")
    return re.fullmatch(rb"[^\r\n]+: [0-9a-fA-F]{1,8}", entry.rstrip()) is not None
