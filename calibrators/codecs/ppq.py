"""PPQ's ranges for TensorRT, JSON: ``{"act_quant_info": {name: 127 * scale}}``."""

import json

from calibrators.codecs.encodings import Encodings
from calibrators.codecs.losses import Losses
from calibrators.codecs.ranges import ranges_of
from calibrators.codecs.reading import kind_of, object_of, of_ranges
from calibrators.errors import CacheError

KEY = "act_quant_info"


def load(data: bytes, *, source: str) -> Encodings:
    """Read the ranges of activations; other keys of the file are left out, and noted.

    Raises:
        CacheError: It is malformed; the message names the key.
    """
    values = object_of(data, source)
    ranges = values.get(KEY)
    if not isinstance(ranges, dict):
        raise CacheError(f"{source}: {KEY} of PPQ's JSON is an object of ranges, not {kind_of(ranges)}")
    others = ", ".join(key for key in values if key != KEY)
    return of_ranges(ranges, f"{source}, {KEY}", notes=(f"{others} in PPQ's JSON left out",) if others else ())


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The JSON, and what it cannot hold.

    Raises:
        CacheError: No activation has a range, or one has several scales.
    """
    losses = Losses("PPQ's JSON")
    ranges = ranges_of(encodings, losses)
    return (json.dumps({KEY: ranges}, indent=4, ensure_ascii=False) + "\n").encode(), losses.lines


def recognises(values: object) -> bool:
    """Whether JSON values are of this kind."""
    return isinstance(values, dict) and isinstance(values.get(KEY), dict)
