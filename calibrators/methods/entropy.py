"""The range that loses least information: TensorRT's entropy calibration.

The search of S. Migacz, "8-bit inference with TensorRT" (GTC 2017), in the form that reproduces thresholds which
TensorRT itself wrote: 2048 bins of |x| over [0, amax], the first one's count replaced by the second's, so that the
zeros of a ReLU do not count; for each number i of kept bins from 128 to 2048, P is the first i bins with the clipped
tail added to its last one, Q the same bins merged into 128 levels (bin j to level floor(128 j / i)) and spread again
over P's non-empty bins; the i with the least divergence KL(P || Q) wins, the largest where several do, and the
threshold is the middle of bin i: (i + 0.5) / 2048 of amax.

Where the last level holds nothing but the tail, Q would be 0 and the divergence infinite: a lone outlier far away could
never be clipped. There Q counts as one value.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.statistics import TensorStatistics

BINS = 2048
LEVELS = 128

TIE = 1e-12
"""Divergences in nats that differ by no more than rounding are equal: tensors of few distinct values have many 0."""

PART = 256
"""Candidates that are looked at together, so that what belongs to them stays in the second-level cache."""

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def entropy_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range up to the threshold of least KL divergence."""
    return Range.symmetric(_threshold(statistics))


def _threshold(statistics: TensorStatistics) -> float:
    """The threshold of least KL divergence; 0.0 for a tensor of zeros.

    It may exceed the largest magnitude by half a bin.
    """
    magnitudes = statistics.magnitudes()
    amax = magnitudes.maximum
    if amax == 0.0:
        return 0.0
    bins = magnitudes.over(amax, BINS)
    bins[0] = bins[1]
    divergences = kl_divergences(bins)
    last_minimum = int(np.flatnonzero(divergences <= divergences.min() + TIE)[-1])
    return (LEVELS + last_minimum + 0.5) / BINS * amax


def kl_divergences(bins: Floats) -> Floats:
    """KL(P || Q) in nats for each number of kept bins from LEVELS to BINS, shape (BINS - LEVELS + 1,).

    All candidates are found at once from cumulative sums: with m the counts of a level, z its non-empty bins and N, S
    the total and the kept count, ``KL = (sum_j P_j ln P_j - sum_levels mass ln(m / z)) / N - ln N + ln S``.

    Args:
        bins: Counts over [0, amax], shape (BINS,), their sum positive.
    """
    kept = np.arange(LEVELS, BINS + 1)
    below = np.concatenate([[0.0], np.cumsum(bins)])
    occupied = np.concatenate([[0.0], np.cumsum(bins > 0)])
    total = below[-1]
    tail = total - below[kept]

    last = bins[kept - 1] + tail
    own = np.concatenate([[0.0], np.cumsum(_x_ln_x(bins))])[kept - 1] + _x_ln_x(last)

    first = _first_of_last_level()
    last_mass, last_spread = below[kept] - below[first], occupied[kept] - occupied[first]
    only_tail = (last_mass == 0) & (tail > 0)
    last_spread += (bins[kept - 1] == 0) & (last > 0)
    cross = _mass_ln_level(np.where(only_tail, 1.0, last_mass), last_spread, times=last_mass + tail)
    starts, ends = _intervals()
    of_interval = _mass_ln_level(below[ends] - below[starts], occupied[ends] - occupied[starts]).reshape(-1)
    for part, intervals in _levels():
        cross[part] += of_interval.take(intervals).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergences = (own - cross) / total - np.log(total) + np.log(below[kept] + only_tail)
    return np.where(below[kept] > 0, divergences, np.inf)


TINY = float(np.finfo(np.float64).tiny)


def _x_ln_x(x: Floats) -> Floats:
    return np.asarray(x * np.log(np.maximum(x, TINY)))


def _mass_ln_level(mass: Floats, spread: Floats, *, times: Floats | None = None) -> Floats:
    """``mass ln(mass / spread)``, or instead of the first mass something else."""
    level = np.maximum(mass, TINY) / np.maximum(spread, 1.0)
    return np.asarray((mass if times is None else times) * np.log(level))


@lru_cache(maxsize=1)
def _first_of_last_level() -> Places:
    """For each candidate, shape (BINS - LEVELS + 1,)."""
    return np.asarray(-(-(LEVELS - 1) * np.arange(LEVELS, BINS + 1) // LEVELS))


@lru_cache(maxsize=1)
def _intervals() -> tuple[Places, Places]:
    """First bin and end of everything that may be a level: 1 to 16 bins from any bin on; shapes (1, BINS), (16, BINS).

    The candidates' quarter of a million levels are so few different ones.
    """
    starts, widths = np.arange(BINS)[None, :], np.arange(1, BINS // LEVELS + 1)[:, None]
    return starts, np.minimum(starts + widths, BINS)


@lru_cache(maxsize=1)
def _levels() -> list[tuple[slice, Places]]:
    """For each candidate, the intervals that its levels but the last are: level l of i bins begins at ceil(l i / 128).

    Returns:
        `PART` candidates at a time: where they stand among all of them, and indices into the flattened intervals, shape
        (LEVELS - 1, PART) or fewer.
    """
    kept = np.arange(LEVELS, BINS + 1)
    edges = -(-np.arange(LEVELS)[:, None] * kept // LEVELS)
    intervals = np.diff(edges, axis=0) - 1
    intervals *= BINS
    intervals += edges[:-1]
    parts = [slice(first, first + PART) for first in range(0, kept.size, PART)]
    return [(part, np.ascontiguousarray(intervals[:, part])) for part in parts]
