"""What one pass over the data remembers of a tensor; any range method derives from it afterwards."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.errors import RangeError
from calibrators.statistics.histogram import BINS, INFINITE, LOWEST_EXPONENT, SIDES, SPREAD, Histogram, count_values

SMALLEST = 2.0**-149
"""The smallest subnormal float32: every float32 is a whole number of these, so sums of them are exact integers."""

MOST = 2**32 - 1
"""Values after which a counter of 32 bits could be full."""

EMPTY = Histogram.empty()


class InfiniteError(RangeError):
    """A value is infinite, and none is NaN."""


@dataclass(frozen=True, eq=False, slots=True)
class TensorStatistics:
    """A tensor's values over a set of samples; ``a + b`` are those over both sets.

    Merging is exact: the same samples give the same bits in any order and from any shards.

    Attributes:
        positive: Magnitudes of the values above 0.
        negative: Magnitudes of the values below 0.
        zeros: The number of exact zeros, -0.0 included.
        samples: The number of samples.
        highest_sum: The sum over samples of each one's largest magnitude above 0, in units of `SMALLEST`.
        lowest_sum: The same of the magnitudes below 0.
        absmax_sum: The same of all magnitudes.
        found: What searches found in them, by what was searched. It says nothing that is not in the other attributes,
            and takes no part in equality.
    """

    positive: Histogram
    negative: Histogram
    zeros: int
    samples: int
    highest_sum: int
    lowest_sum: int
    absmax_sum: int
    found: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.zeros, self.samples, self.highest_sum, self.lowest_sum, self.absmax_sum) < 0:
            raise RangeError("a tensor's counts and sums are not negative")

    @classmethod
    def empty(cls) -> "TensorStatistics":
        """The statistics of no sample: the neutral element of `+`."""
        return cls(EMPTY, EMPTY, 0, 0, 0, 0, 0)

    @classmethod
    def of(cls, *samples: npt.ArrayLike) -> "TensorStatistics":
        """The statistics of some samples, each an array of any shape.

        Raises:
            RangeError: A value is NaN or infinite.
        """
        accumulator = Accumulator()
        for sample in samples:
            accumulator.add(np.asarray(sample, np.float32))
        return accumulator.statistics()

    @property
    def amax(self) -> float:
        """The largest magnitude."""
        return max(self.positive.maximum, self.negative.maximum)

    @property
    def maximum(self) -> float:
        """The largest value, or 0.0 where none is above 0."""
        return self.positive.maximum

    @property
    def minimum(self) -> float:
        """The smallest value, or 0.0 where none is below 0."""
        return -self.negative.maximum

    @property
    def total(self) -> int:
        """The number of values."""
        return self.zeros + self.positive.total + self.negative.total

    @property
    def mean_absmax(self) -> float:
        """The mean over samples of the largest magnitude."""
        return self._mean(self.absmax_sum)

    @property
    def mean_maximum(self) -> float:
        """The mean over samples of the largest value; one without a value above 0 counts as 0."""
        return self._mean(self.highest_sum)

    @property
    def mean_minimum(self) -> float:
        """The mean over samples of the smallest value; one without a value below 0 counts as 0."""
        return -self._mean(self.lowest_sum)

    def magnitudes(self) -> Histogram:
        """The histogram of `|x|` without the exact zeros."""
        return self.positive + self.negative

    def after_relu(self) -> "TensorStatistics":
        """The statistics of max(x, 0), exactly those that a pass over it would give."""
        zeros = self.zeros + self.negative.total
        return TensorStatistics(self.positive, EMPTY, zeros, self.samples, self.highest_sum, 0, self.highest_sum)

    def __add__(self, other: "TensorStatistics") -> "TensorStatistics":
        """The statistics over both sets of samples."""
        return TensorStatistics(
            self.positive + other.positive,
            self.negative + other.negative,
            self.zeros + other.zeros,
            self.samples + other.samples,
            self.highest_sum + other.highest_sum,
            self.lowest_sum + other.lowest_sum,
            self.absmax_sum + other.absmax_sum,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorStatistics) and self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]

    def _mean(self, total: int) -> float:
        return total / self.samples * SMALLEST if self.samples else 0.0

    def _parts(self) -> tuple[object, ...]:
        sums = (self.highest_sum, self.lowest_sum, self.absmax_sum)
        return (self.positive, self.negative, self.zeros, self.samples, *sums)


class Accumulator:
    """Gathers a tensor's statistics sample by sample, from any number of threads; its memory does not grow.

    Args:
        ceiling: If given, the statistics of min(max(x, 0), ceiling) are gathered on the side.
    """

    def __init__(self, ceiling: float | None = None) -> None:
        self._ceiling = np.float32(np.inf if ceiling is None else ceiling)
        if not self._ceiling > 0:
            raise RangeError(f"a ceiling is above 0, not {ceiling}")
        self._ceiling_bits = int(self._ceiling.view(np.uint32))
        self._counts = np.zeros(SIDES * BINS + SPREAD, np.uint32)  # int64 would take twice the processor's cache
        self._exponents = np.full(SIDES, LOWEST_EXPONENT, np.int64)
        self._peaks = np.zeros(SIDES, np.uint32)
        self._counted = 0
        self._earlier, self._earlier_zeros = [EMPTY] * SIDES, 0
        self._samples = 0
        self._sums = [0, 0, 0, 0]
        self._lock = threading.Lock()

    def add(self, sample: npt.NDArray[np.float32]) -> None:
        """Add one sample's values, float32 of any shape.

        Raises:
            RangeError: A value is NaN or infinite; the message is which. The accumulator is then of no further use.
        """
        values = np.ascontiguousarray(sample, np.float32).reshape(-1)
        highest, lowest = 0, 0
        with self._lock:
            for start in range(0, values.size, MOST):
                up, down = self._count(values[start : start + MOST])
                highest, lowest = max(highest, up), max(lowest, down)
            largest = max(highest, lowest)
            if largest >= INFINITE:
                raise RangeError("NaN") if largest > INFINITE else InfiniteError("infinite")
            self._samples += 1
            for place, bits in enumerate((highest, lowest, largest, min(highest, self._ceiling_bits))):
                self._sums[place] += _in_smallest(bits)

    def statistics(self) -> TensorStatistics:
        """What has been gathered so far."""
        with self._lock:
            positive, negative, high = map(self._side, range(SIDES))
            return TensorStatistics(positive + high, negative, self._zeros(), self._samples, *self._sums[:3])

    def clipped(self) -> TensorStatistics:
        """The statistics of min(max(x, 0), ceiling), exactly those that a pass over it would give."""
        with self._lock:
            at_ceiling = Histogram.repeated(float(self._ceiling), self._total(2))
            zeros = self._zeros() + self._total(1)
            return TensorStatistics(
                self._side(0) + at_ceiling, EMPTY, zeros, self._samples, self._sums[3], 0, self._sums[3]
            )

    def _count(self, values: npt.NDArray[np.float32]) -> tuple[int, int]:
        """Count no more than `MOST` values; the bits of their largest magnitudes above and below 0."""
        if self._counted + values.size > MOST:
            self._earlier, self._earlier_zeros = list(map(self._side, range(SIDES))), self._zeros()
            self._counts[:], self._exponents[:], self._peaks[:], self._counted = 0, LOWEST_EXPONENT, 0, 0
        self._counted += values.size
        up, down = count_values(values, self._ceiling, self._counts, self._exponents, self._peaks)
        return int(up), int(down)

    def _side(self, side: int) -> Histogram:
        if not self._peaks[side]:
            return self._earlier[side]
        counts = self._counts[side * BINS : (side + 1) * BINS].astype(np.int64)
        peak = float(self._peaks[side : side + 1].view(np.float32)[0])
        return self._earlier[side] + Histogram(counts, int(self._exponents[side]), peak)

    def _total(self, side: int) -> int:
        """The number of values on a side."""
        return self._earlier[side].total + int(self._counts[side * BINS : (side + 1) * BINS].sum(dtype=np.int64))

    def _zeros(self) -> int:
        return self._earlier_zeros + int(self._counts[SIDES * BINS :].sum(dtype=np.int64))


def _in_smallest(bits: int) -> int:
    """The float32 with these bits, not negative, as a multiple of `SMALLEST`."""
    exponent, fraction = bits >> 23, bits & 0x7FFFFF
    return fraction if exponent == 0 else (fraction | 0x800000) << (exponent - 1)
