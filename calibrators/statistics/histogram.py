"""The mergeable histogram: bins of a power-of-two width, and the compiled kernel that fills them.

A range is always a power of two, so the width of a bin is one too; when a larger value arrives, the range doubles and
bins merge in pairs. The edges of a wider histogram are edges of every narrower one, hence the counts do not depend on
the order in which values arrive, nor on how they were split among histograms that are added up later.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibrators.compiled import kernel
from calibrators.errors import RangeError
from calibrators.statistics.prefetch import prefetch

BINS = 8192
"""Bins per sign. The largest value lies in the upper half, so at least 4096 bins share [0, amax]: twice as fine as
TensorRT's 2048."""

LOG_BINS = BINS.bit_length() - 1
LOWEST_EXPONENT = -148
"""The range of the smallest subnormal float32, 2**-149, is [0, 2**-148)."""

BLOCK = 2048
"""Values looked at and then counted in one go: 8 kB stay in the first-level cache in between."""

RUN = 128
"""Values whose counters are found and then counted, which overlaps with the next run's where the processor looks far
enough ahead."""

LINE = 16
"""Values, and counters, in a cache line."""

FEW = 3000
"""Values so few that they use only some of the counters."""

SPREAD = 16
"""Counters for exact zeros: adding to one and the same counter would wait for the addition before."""

SIDES = 3
"""Below 0, above 0, and at or above a ceiling where one is given: each with a range of its own."""

INFINITE = 0x7F800000
"""The bits of +inf; NaN's are above it."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """Counts of magnitudes m > 0: bin i holds ``i * width <= m < (i + 1) * width``.

    Attributes:
        counts: int64 of shape (BINS,).
        exponent: The range is [0, 2**exponent); the smallest that holds `maximum`.
        maximum: The largest magnitude, exactly; 0.0 where there is none.
    """

    counts: Counts
    exponent: int
    maximum: float

    def __post_init__(self) -> None:
        if self.counts.shape != (BINS,) or self.counts.dtype != np.int64 or self.counts.min() < 0:
            raise RangeError(f"a histogram has {BINS} counts that are not negative")
        if not 0 <= self.maximum < np.inf:
            raise RangeError(f"the largest magnitude of a histogram is finite and not negative, unlike {self.maximum}")
        if self.exponent != exponent_of(self.maximum) or bool(self.counts.max() > 0) != (self.maximum > 0):
            raise RangeError("a histogram's range, maximum and counts do not belong together")

    @classmethod
    def empty(cls) -> "Histogram":
        """The histogram of no value: the neutral element of `+`."""
        return cls(np.zeros(BINS, np.int64), LOWEST_EXPONENT, 0.0)

    @classmethod
    def repeated(cls, magnitude: float, times: int) -> "Histogram":
        """The histogram of one magnitude, a float32 above 0, that occurs so many times."""
        if times == 0:
            return cls.empty()
        exponent = exponent_of(magnitude)
        counts = np.zeros(BINS, np.int64)
        counts[int(magnitude * 2.0 ** (LOG_BINS - exponent))] = times
        return cls(counts, exponent, magnitude)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0 ** (self.exponent - LOG_BINS)

    @property
    def total(self) -> int:
        """The number of values."""
        return int(self.counts.sum())

    def __add__(self, other: "Histogram") -> "Histogram":
        """The histogram of both sets of values, exactly."""
        if self.maximum == 0.0 or other.maximum == 0.0:
            return self if other.maximum == 0.0 else other
        exponent = max(self.exponent, other.exponent)
        counts = self.widened(exponent) + other.widened(exponent)
        return Histogram(counts, exponent, max(self.maximum, other.maximum))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and (self.exponent, self.maximum) == (other.exponent, other.maximum)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]

    def widened(self, exponent: int) -> Counts:
        """The counts over [0, 2**exponent), for an exponent not below this histogram's: its own where that is equal."""
        step = min(exponent - self.exponent, LOG_BINS)
        if step == 0:
            return self.counts
        merged = self.counts
        for _ in range(step):
            merged = merged[::2] + merged[1::2]
        counts = np.zeros(BINS, np.int64)
        counts[: merged.size] = merged
        return counts

    def over(self, amax: float, bins: int) -> npt.NDArray[np.float64]:
        """Counts over `bins` equal bins of [0, amax], shape (bins,); values above `amax` are left out.

        Values are taken to lie evenly within a bin, and those of the last bin at or below `maximum`.
        """
        end = np.nextafter(self.maximum, np.inf)
        wanted = np.minimum(np.linspace(0.0, amax, bins + 1), end)
        places = (wanted / self.width).astype(np.int64)
        starts = places * self.width
        within = (wanted - starts) / (np.minimum(starts + self.width, end) - starts)
        below = np.zeros(BINS + 1)
        below[1:] = np.cumsum(self.counts)
        found = below[places] + self.counts[places] * within
        if amax >= self.maximum:
            found[-1] = below[-1]
        return np.diff(found)


def exponent_of(magnitude: float) -> int:
    """The smallest e with ``magnitude < 2**e``, not below LOWEST_EXPONENT."""
    return max(int(np.frexp(magnitude)[1]), LOWEST_EXPONENT) if magnitude > 0 else LOWEST_EXPONENT


@kernel
def count_values(values, ceiling, counts, exponents, peaks):  # type: ignore[no-untyped-def]
    """Add one sample's values to a tensor's counts.

    Values are counted on three sides: below 0, above 0 and at or above `ceiling`, each in a histogram of its own range.

    Args:
        values: float32 of shape (n,), contiguous.
        ceiling: A float32 above 0; infinite where the third side is not wanted.
        counts: uint32 of shape (3 * BINS + SPREAD,): the sides positive, negative, high, then exact zeros; added to.
        exponents: int64 of shape (3,): each side's range; raised as needed.
        peaks: uint32 of shape (3,): the bits of each side's largest magnitude; raised as needed.

    Returns:
        The bits of the sample's largest positive and negative magnitude; one of them is `INFINITE` or more where a
        value is infinite or NaN, in which case the counts are no longer of use.
    """
    bits, places = values.view(np.uint32), np.empty(RUN, np.uint32)
    highest, lowest = np.uint32(0), np.uint32(0)
    if values.size > FEW:
        _fetch(counts, peaks)
    for start in range(0, values.size, BLOCK):
        block, block_bits = values[start : start + BLOCK], bits[start : start + BLOCK]
        up, down = _largest(block_bits)
        highest, lowest = max(highest, up), max(lowest, down)
        if max(up, down) >= np.uint32(INFINITE):
            break
        # Where something is above the ceiling and the range below it is the widest, only the peak above matters.
        known = peaks[2] if 2.0 ** exponents[0] >= ceiling else peaks[0]
        if up > known or down > peaks[1]:
            below, above = _around(block, block_bits, ceiling)
            _raise(counts, exponents, peaks, 0, below)
            _raise(counts, exponents, peaks, 1, down)
            _raise(counts, exponents, peaks, 2, above)
        _count(block, bits[start + BLOCK : start + 2 * BLOCK], ceiling, counts, exponents, peaks, places)
    return highest, lowest


@kernel
def _fetch(counts, peaks):  # type: ignore[no-untyped-def]
    """Fetch the counters below and above 0, in order: where they are used, a wait for each would come at random."""
    for side in range(2):
        if peaks[side]:
            for line in range(BINS // LINE):
                prefetch(counts, side * BINS + line * LINE)  # type: ignore[call-arg]


@kernel
def _largest(bits):  # type: ignore[no-untyped-def]
    """The bits of the largest positive and negative magnitude: those of floats of one sign are in order."""
    up, down = np.int32(0), np.uint32(0x80000000)
    for i in range(bits.size):
        up, down = max(up, np.int32(bits[i])), max(down, bits[i])
    return np.uint32(up), down & np.uint32(0x7FFFFFFF)


@kernel
def _count(block, following, ceiling, counts, exponents, peaks, places):  # type: ignore[no-untyped-def]
    """Count a block whose magnitudes are all within their ranges."""
    least = np.int64(LOG_BINS - 125)  # of a side that is still empty, too: its range is of no consequence
    e0 = exponents[0] if peaks[0] else least
    e1 = exponents[1] if peaks[1] else least
    e2 = exponents[2] if peaks[2] else least
    positive, negative, high = 2.0 ** (LOG_BINS - e0), 2.0 ** (LOG_BINS - e1), 2.0 ** (LOG_BINS - e2)
    if min(e0, e1, e2) < least:  # a factor itself would be infinite in float32
        _count_by(block, following, ceiling, positive, negative, high, counts, places)
        return
    _count_by(block, following, ceiling, np.float32(positive), np.float32(negative), np.float32(high), counts, places)


@kernel
def _count_by(block, following, ceiling, positive, negative, high, counts, places):  # type: ignore[no-untyped-def]
    """As `_count`, a run of values at a time, and meanwhile fetch the next block, so that it is there in its turn.

    Of a run whose length the compiler knows, places are found by vector instructions, which the processor does while it
    still counts the run before.
    """
    whole = block.size // RUN
    fetched = min(whole, following.size // RUN)
    for run in range(whole):
        first = run * RUN
        if run < fetched:
            for line in range(RUN // LINE):
                prefetch(following, first + line * LINE)  # type: ignore[call-arg]
        values = block[first : first + RUN]
        for i in range(RUN):
            places[i] = _place(values[i], i, ceiling, positive, negative, high)
        for i in range(RUN):
            counts[places[i]] += 1
    for i in range(whole * RUN, block.size):
        counts[_place(block[i], i, ceiling, positive, negative, high)] += 1


@kernel
def _place(value, i, ceiling, positive, negative, high):  # type: ignore[no-untyped-def]
    """Which counter is that of the i-th value: multiplication by a power of two is exact."""
    factor = positive if value >= 0 else negative
    first = np.int32(0) if value >= 0 else np.int32(BINS)
    factor = high if value >= ceiling else factor
    first = np.int32(2 * BINS) if value >= ceiling else first
    place = np.int32(abs(value) * factor) + first
    return np.uint32(np.int32(3 * BINS) + np.int32(i & (SPREAD - 1))) if value == 0 else np.uint32(place)


@kernel
def _around(block, bits, ceiling):  # type: ignore[no-untyped-def]
    """The bits of the largest value between 0 and `ceiling`, and of the largest from there on; 0 where none is."""
    below, above = np.int32(0), np.int32(0)
    for i in range(block.size):
        pattern = np.int32(bits[i])
        high = block[i] >= ceiling
        below = max(below, np.int32(0) if high else pattern)
        above = max(above, pattern if high else np.int32(0))
    return np.uint32(below), np.uint32(above)


@kernel
def _raise(counts, exponents, peaks, side, bits):  # type: ignore[no-untyped-def]
    """Raise a side's peak and range until they hold the magnitude with these float32 bits: bins merge in pairs."""
    if bits <= peaks[side]:
        return
    peaks[side] = bits
    exponent = np.int64(bits >> np.uint32(23)) - 126
    if exponent == -126:  # subnormal: the leading one tells
        exponent = np.int64(-149)
        while bits:
            bits = bits >> np.uint32(1)
            exponent += 1
    step = exponent - exponents[side]
    if step <= 0:
        return
    exponents[side] = exponent
    run = np.int64(1) << min(step, np.int64(LOG_BINS))
    first = side * BINS
    for i in range(BINS // run):
        total = np.uint32(0)
        for j in range(first + i * run, first + (i + 1) * run):
            total += counts[j]
        counts[first + i] = total
    counts[first + BINS // run : first + BINS] = 0
