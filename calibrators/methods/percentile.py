"""The range that holds a given share of the values: what lies beyond is clipped, however far."""

import math

import numpy as np

from calibrators.errors import RangeError
from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.statistics.histogram import Counts, Histogram
from calibrators.statistics.tensor import TensorStatistics


def percentile_range(statistics: TensorStatistics, grid: Grid, percent: float = 99.99) -> Range:
    """The range that so many percent of the values do not exceed; 100 is the whole range.

    On a symmetric grid the percentile of all magnitudes; on another one the values' percentile above and its mirror
    image below, so that each tail loses the rest (PaddleSlim's histogram observer). Zeros count. Percentiles are
    NumPy's: the values in order, and straight lines between them.

    Of a tensor with 99.995 % of zeros the 99.99th percentile is 0, and a range that holds only 0 would leave nothing of
    it. The range therefore always reaches the smallest magnitudes there are, to the end of their bin; on an asymmetric
    grid on the side of 0 that has more values.

    Args:
        statistics: What was seen of the tensor.
        grid: The levels; only whether they are symmetric matters.
        percent: From 50 to 100.

    Raises:
        RangeError: `percent` is not between 50 and 100.
    """
    if not 50 <= percent <= 100:
        usual = f"in per cent: {100 * percent:.10g}" if 0.5 <= percent <= 1 else "99.99 is usual"
        raise RangeError(f"a percentile to calibrate with lies between 50 and 100, not at {percent}: {usual}")
    fraction = percent / 100
    if grid.symmetric:
        magnitudes = statistics.magnitudes()
        return Range.symmetric(max(_smallest(magnitudes), _quantile(magnitudes, statistics.zeros, fraction)))
    below, above = (
        max(
            _smallest(side) if side.total >= other.total else 0.0,
            _quantile(side, statistics.zeros + other.total, fraction),
        )
        for side, other in (
            (statistics.negative, statistics.positive),
            (statistics.positive, statistics.negative),
        )
    )
    return Range(-below, above)


def _quantile(histogram: Histogram, zeros: int, fraction: float) -> float:
    """The quantile of a histogram's magnitudes and so many zeros beside them, by linear interpolation between ranks."""
    rank = max(histogram.total + zeros - 1, 0) * fraction - zeros
    lower = math.floor(rank)
    cumulative = np.cumsum(histogram.counts)
    low, high = (_ranked(histogram, cumulative, place) for place in (lower, lower + 1))
    return min(low + (high - low) * (rank - lower), high)


def _ranked(histogram: Histogram, cumulative: Counts, rank: int) -> float:
    """The magnitude of that rank, the smallest one's being 0; below it there are zeros, beyond the largest nothing.

    Magnitudes lie evenly within their bin; those in the bin of the largest one are taken to equal it, as they do in a
    tensor that is constant, clipped or has one outlier.
    """
    total = int(cumulative[-1])
    if rank < 0 or total == 0:
        return 0.0
    place = int(np.searchsorted(cumulative, min(rank, total - 1), side="right"))
    if cumulative[place] == total:
        return histogram.maximum
    count = int(histogram.counts[place])
    nth = rank - (int(cumulative[place]) - count)
    return (place + (nth + 0.5) / count) * histogram.width


def _smallest(histogram: Histogram) -> float:
    """The end of the first bin that is not empty, or the largest magnitude where that is less."""
    first = int(np.argmax(histogram.counts > 0))
    return min((first + 1) * histogram.width, histogram.maximum)
