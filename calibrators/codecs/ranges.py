"""Formats that hold one range per activation, the largest absolute value, and nothing else."""

from calibrators.codecs.encodings import Encodings, dynamic_ranges
from calibrators.codecs.losses import Losses
from calibrators.codecs.reading import LARGEST
from calibrators.errors import CacheError


def ranges_of(encodings: Encodings, losses: Losses, *, own: str = "") -> dict[str, float]:
    """The range of each activation that such a format can hold, as float64: 127 scales for symmetric INT8.

    Args:
        encodings: What is to be written.
        losses: Is told what cannot be.
        own: The key in `extra` that the format has a place for.

    Raises:
        CacheError: No activation has a range, or one has several scales.
    """
    ranges = dynamic_ranges(encodings, losses)
    beyond = [name for name, amax in ranges.items() if amax > LARGEST]
    losses.left_out(beyond, "range", "for being beyond float32")
    losses.left_out(encodings.unusable, "scale", "for being 0, subnormal, negative or not finite, and no range")
    losses.origin(encodings.cache)
    losses.extra(encodings.extra, own=own)
    kept = {name: amax for name, amax in ranges.items() if amax <= LARGEST}
    if not kept:
        raise CacheError(f"there is no activation's range to write into {losses.where}: give encodings of activations")
    return kept
