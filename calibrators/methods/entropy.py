"""The range that loses least information: TensorRT's entropy calibration.

The search of S. Migacz, "8-bit inference with TensorRT" (GTC 2017), in the form that reproduces thresholds which
TensorRT itself wrote: 2048 bins of |x| over [0, amax], the first one's count replaced by the second's, so that the
zeros of a ReLU do not count; for each number i of kept bins from 128 to 2048, P is the first i bins with the clipped
tail added to its last one, Q the same bins merged into 128 levels (bin j to level floor(128 j / i)) and spread again
over P's non-empty bins; the i with the least divergence KL(P || Q) wins, the largest where several do, and the
threshold is the middle of bin i: (i + 0.5) / 2048 of amax.

Where the last level holds nothing but the tail, Q would be 0 and the divergence infinite: a lone outlier far away could
never be clipped. There Q counts as one value.

128 is the number of levels that 8 symmetric bits have for magnitudes; other grids search with their own. A divergence
does not see how far a clipped value is moved: with 16 levels or fewer, nearly all of a tensor with a long tail may be.
"""

from functools import lru_cache
from math import log

import numpy as np
import numpy.typing as npt

from calibrators.compiled import kernel, summing_kernel
from calibrators.grid import Grid
from calibrators.methods.minmax import minmax_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

BINS = 2048
LEVELS = 128

SHARES = 32
"""The larger side's share of an asymmetric grid is rounded to so many parts: there are few different searches."""

TIE = 1e-12
"""Divergences in nats that differ by no more than rounding are equal: tensors of few distinct values have many 0."""

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.uint16]


def entropy_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range up to the threshold of least KL divergence; on an asymmetric grid not beyond what was seen.

    An asymmetric grid is searched with the levels that the tensor's whole range gives its larger side: with all 256 of
    8 bits where no value is below 0. As many levels as there are bins lose nothing that the histogram could tell, so
    nothing is gained by clipping, and the whole range is kept: from 12 bits on, or 11 where all are on one side.
    """
    levels = _levels_of_magnitudes(statistics, grid)
    if levels >= BINS:
        return minmax_range(statistics, grid)
    threshold = _threshold(statistics, levels)
    if grid.symmetric:
        return Range.symmetric(threshold)
    return Range(max(statistics.minimum, -threshold), min(statistics.maximum, threshold))


def _levels_of_magnitudes(statistics: TensorStatistics, grid: Grid) -> int:
    if grid.symmetric:
        return grid.maximum - grid.zero_point + 1
    width = statistics.maximum - statistics.minimum
    share = round(SHARES * statistics.amax / width) / SHARES if width > 0 else 1.0
    return round((grid.maximum - grid.minimum + 1) * share)


def _threshold(statistics: TensorStatistics, levels: int) -> float:
    """The threshold of least KL divergence; 0.0 for a tensor of zeros.

    It may exceed the largest magnitude by half a bin.
    """
    magnitudes = statistics.magnitudes()
    amax = magnitudes.maximum
    if amax == 0.0:
        return 0.0
    bins = magnitudes.over(amax, BINS)
    bins[0] = bins[1]
    divergences = kl_divergences(bins, levels)
    last_minimum = int(np.flatnonzero(divergences <= divergences.min() + TIE)[-1])
    return (levels + last_minimum + 0.5) / BINS * amax


def kl_divergences(bins: Floats, levels: int = LEVELS) -> Floats:
    """KL(P || Q) in nats for each number of kept bins from `levels` to BINS, shape (BINS - levels + 1,).

    All candidates are found at once from cumulative sums: with m the counts of a level, z its non-empty bins and N, S
    the total and the kept count, ``KL = (sum_j P_j ln P_j - sum_levels m ln(m / z)) / N - ln N + ln S``, where the last
    level's first m includes the tail.

    Args:
        bins: Counts over [0, amax], shape (BINS,), their sum positive.
        levels: The number of levels, from 2 to BINS.
    """
    return np.asarray(_divergences(bins, *_intervals(levels)))


@lru_cache(maxsize=32)
def _intervals(levels: int) -> tuple[Places, Places, Places]:
    """What the levels of all candidates but each one's last are: level l of i bins begins at bin ceil(l i / levels).

    A quarter of a million levels are only 17 thousand different intervals of bins.

    Returns:
        The different intervals' first bins and ends, and for each candidate its levels' places among them, shape
        (BINS - levels + 1, levels - 1).
    """
    starts, ends, used = _enumerated(levels)
    return starts, ends, used


@kernel
def _enumerated(levels):  # type: ignore[no-untyped-def]
    widest = -(-BINS // levels)
    known = np.full((widest + 1, BINS), -1, np.int32)
    used = np.empty((BINS - levels + 1, levels - 1), np.uint16)
    starts, ends = np.empty(min(used.size, known.size), np.uint16), np.empty(min(used.size, known.size), np.uint16)
    number = 0
    for kept in range(levels, BINS + 1):
        start = 0
        for level in range(levels - 1):
            end = ((level + 1) * kept + levels - 1) // levels
            if known[end - start, start] < 0:
                known[end - start, start] = number
                starts[number], ends[number] = start, end
                number += 1
            used[kept - levels, level] = known[end - start, start]
            start = end
    return starts[:number].copy(), ends[:number].copy(), used


@kernel
def _divergences(bins, starts, ends, used):  # type: ignore[no-untyped-def]
    levels = BINS + 1 - len(used)
    below, occupied = np.zeros(BINS + 1), np.zeros(BINS + 1)
    for i in range(BINS):
        below[i + 1], occupied[i + 1] = below[i] + bins[i], occupied[i] + (bins[i] > 0)
    worth = np.empty(starts.size)
    for i in range(starts.size):
        worth[i] = _m_ln_level(below[ends[i]] - below[starts[i]], occupied[ends[i]] - occupied[starts[i]])
    total = below[BINS]
    found = np.full(len(used), np.inf)
    own = 0.0  # of all kept bins but the last
    for kept in range(1, BINS + 1):
        at_end = bins[kept - 1]
        if kept >= levels and below[kept] > 0:
            tail = total - below[kept]
            first = ((levels - 1) * kept + levels - 1) // levels
            mass, spread = below[kept] - below[first], occupied[kept] - occupied[first]
            if at_end == 0 and tail > 0:
                spread += 1
            alone = 1.0 if mass == 0 and tail > 0 else 0.0
            cross = _total(worth, used[kept - levels])
            if mass + tail > 0:
                cross += (mass + tail) * log((mass + alone) / spread)
            found[kept - levels] = (own + _x_ln_x(at_end + tail) - cross) / total - log(total / (below[kept] + alone))
        own += _x_ln_x(at_end)
    return found


@kernel
def _x_ln_x(x):  # type: ignore[no-untyped-def]
    return x * log(x) if x > 0 else 0.0


@kernel
def _m_ln_level(mass, spread):  # type: ignore[no-untyped-def]
    return mass * log(mass / spread) if mass > 0 else 0.0


@summing_kernel
def _total(worth, places):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(places.size):
        total += worth[places[i]]
    return total
