"""Lines of ``name: range`` in decimal, as TensorRT's sampleINT8API reads ranges of activations."""

from calibrators.codecs import lines
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.losses import Losses
from calibrators.codecs.ranges import ranges_of
from calibrators.codecs.reading import of_ranges
from calibrators.errors import listed

SEPARATOR = ": "


def load(data: bytes, *, source: str) -> Encodings:
    """Read such lines; a name may itself hold ``": "``, the last one separates.

    Raises:
        CacheError: It is malformed; the message names the line.
    """
    return of_ranges(lines.read(data, SEPARATOR, source), source, notes=lines.doubt(data))


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The lines, and what they cannot hold.

    Raises:
        CacheError: No activation has a range, one has several scales, or a name holds a line break.
    """
    losses = Losses("text of `name: range`")
    ranges = ranges_of(encodings, losses)
    split = [name for name in ranges if ":" in name]
    if split:
        losses.say(f"sampleINT8API splits a line at its first colon, and misreads {listed(split)}; trtcal does not")
    return lines.written(ranges, SEPARATOR), losses.lines


def recognises(data: bytes) -> bool:
    """Whether most lines are of this kind."""
    return lines.share(data, SEPARATOR) > 0.5
