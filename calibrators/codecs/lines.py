"""Text of one range per line, ``name<separator>range`` in decimal; the last separator of a line counts."""

import re
from collections.abc import Mapping

from calibrators.codecs.reading import text_of
from calibrators.errors import CacheError

DECIMAL = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


_BITS = re.compile("[0-9a-f]{8}")  # of a calibration cache without its header


def read(data: bytes, separator: str, source: str) -> dict[str, float]:
    """The ranges by name, in the file's order; blank lines and white space at a line's end do not count.

    Raises:
        CacheError: It is no such text, or a name occurs twice. The message names the line.
    """
    ranges: dict[str, float] = {}
    for number, line in enumerate(text_of(data, source).split("\n"), 1):
        if not line.strip():
            continue
        name, found, value = line.rstrip(" \t\r").rpartition(separator)
        if not found or not name or re.search("[\r\0]", name):
            raise CacheError(f"{source}, line {number}: {_shown(line)} is not a name, {separator!r} and a range")
        if DECIMAL.fullmatch(value) is None:
            raise CacheError(f"{source}, line {number}: {_shown(value)} is no range in decimal, such as 2.53")
        if name in ranges:
            raise CacheError(f"{source}, line {number}: {_shown(name)} has a range already; keep one of the two")
        ranges[name] = float(value)
    return ranges


def doubt(data: bytes) -> tuple[str, ...]:
    """A note where the last line has no end, so that a number may lack digits."""
    if data.endswith(b"\n"):
        return ()
    return ("the last line has no line end: where the file was cut off, its range lacks digits",)


def written(ranges: Mapping[str, float], separator: str) -> bytes:
    """The lines, each range with all its digits.

    Raises:
        CacheError: A name holds a line break.
    """
    for name in ranges:
        if re.search("[\n\r\0]", name):
            raise CacheError(f"{name!r} cannot stand in a line of text: it holds a line break")
    text = "".join(f"{name}{separator}{value!r}\n" for name, value in ranges.items())
    return (("\ufeff" if text.startswith("\ufeff") else "") + text).encode()


def share(data: bytes, separator: str) -> float:
    """How many of a file's lines are such lines, 0 to 1; 0 where no number has a point or an exponent."""
    try:
        lines = [line for line in text_of(data, "").split("\n") if line.strip()]
    except CacheError:
        return 0.0
    values = [line.rstrip(" \t\r").rpartition(separator) for line in lines]
    fit = [value for name, _, value in values if name and DECIMAL.fullmatch(value) and not _BITS.fullmatch(value)]
    return len(fit) / len(lines) if any(re.search("[.eE]", value) for value in fit) else 0.0


def _shown(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
