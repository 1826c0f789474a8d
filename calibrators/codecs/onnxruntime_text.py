"""ONNX Runtime's ``calibration.cache``: lines of ``name range`` in decimal, written beside its flatbuffers table.

Its own writer puts ``max(highest, lowest)`` there, which for [-6, 0.5] is 0.5; here it is the largest absolute value.
"""

import re

from calibrators.codecs import lines, text_ranges
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.losses import Losses
from calibrators.codecs.ranges import ranges_of
from calibrators.codecs.reading import of_ranges
from calibrators.errors import CacheError, listed

SEPARATOR = " "

REMEDY = "ONNX Runtime writes max(highest, lowest) there; convert its calibration.json, which has both ends"
"""What to do about a negative range: the tensor is negative throughout."""

_NCNN = re.compile(rb"_param_[0-9]+(?: [-+.0-9e]+){2}")
"""A line of ncnn's calibration table: a weight's scales, one for each channel."""


def load(data: bytes, *, source: str) -> Encodings:
    """Read such lines; a name may itself hold spaces, the last one separates.

    Raises:
        CacheError: It is malformed; the message names the line.
    """
    return of_ranges(lines.read(data, SEPARATOR, source), source, remedy=REMEDY, notes=lines.doubt(data))


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The lines, and what they cannot hold.

    Raises:
        CacheError: No activation has a range, one has several scales, a name holds a line break, or all end in colons.
    """
    losses = Losses("ONNX Runtime's text table")
    ranges = ranges_of(encodings, losses)
    split = [name for name in ranges if " " in name]
    if split:
        losses.say(f"a reader that splits a line at its first space misreads {listed(split)}; trtcal does not")
    data = lines.written(ranges, SEPARATOR)
    if not recognises(data):
        raise CacheError(f"{listed(ranges)}: such names make another format of ONNX Runtime's text; choose its tables")
    return data, losses.lines


def recognises(data: bytes) -> bool:
    """Whether most lines are of this kind, and not of ``name: range``."""
    if text_ranges.recognises(data) or _NCNN.search(data):
        return False
    return lines.share(data, SEPARATOR) > 0.5
