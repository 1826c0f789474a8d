"""A tensor's values as a density, for integrals over them.

Values are taken to lie evenly within a bin. The largest value of either sign is known exactly, and all of its bin is
taken to stand there, as it does in tensors that are constant, clipped or have one outlier.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from calibrators.statistics.histogram import BINS, Histogram
from calibrators.statistics.tensor import TensorStatistics

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """The magnitudes of one sign, in units of a bin width.

    Attributes:
        edges: Of the bins below the last occupied one, ascending, shape (n + 1,); none where nothing is below it.
        density: Values per unit, shape (n,).
        maximum: The largest magnitude; 0.0 where there is none.
        at_maximum: The number of values in its bin.
    """

    edges: Floats
    density: Floats
    maximum: float
    at_maximum: int

    @classmethod
    def of(cls, histogram: Histogram, unit: float) -> "Side":
        """The magnitudes of a histogram in some unit, a power of two."""
        if histogram.maximum == 0.0:
            return cls(np.zeros(1), np.zeros(0), 0.0, 0)
        width = histogram.width / unit
        last = int(histogram.maximum / histogram.width)
        edges = np.arange(last + 1, dtype=np.float64) * width
        return cls(edges, histogram.counts[:last] / width, histogram.maximum / unit, int(histogram.counts[last]))

    def merged(self, fine: int) -> "Side":
        """The same with wider bins far from 0; where few bins are occupied, they are not worth merging."""
        starts = _starts(fine)
        if np.count_nonzero(self.density) <= starts.size:
            return self
        size = self.density.size
        starts = starts[starts < size]
        edges = self.edges[np.append(starts, size)]
        counts = np.add.reduceat(self.density, starts) * (self.edges[1] - self.edges[0])
        return Side(edges, counts / np.diff(edges), self.maximum, self.at_maximum)


@lru_cache(maxsize=4)
def _starts(fine: int) -> npt.NDArray[np.int64]:
    """Where merged bins begin: twice as wide from bin `fine` on, four times from twice that on, and so forth."""
    parts = [np.arange(fine)]
    while (first := fine << (len(parts) - 1)) < BINS:
        parts.append(np.arange(first, 2 * first, 1 << len(parts)))
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False, slots=True)
class Density:
    """A tensor's values, in units of the wider of both sides' bins: a power of two, so that it can be put back exactly.

    Attributes:
        positive: The values above 0.
        negative: Those below 0.
        total: The number of values, zeros included.
        unit: The width of a bin.
    """

    positive: Side
    negative: Side
    total: int
    unit: float

    @classmethod
    def of(cls, statistics: TensorStatistics) -> "Density":
        """The values of a tensor that is not only zeros.

        The latest one is kept: several methods may look at one tensor in turn.
        """
        global _latest  # noqa: PLW0603 - a pair is replaced at once, whichever thread does it
        latest, density = _latest
        if latest is not statistics or density is None:
            sides = (statistics.positive, statistics.negative)
            unit = max(side.width for side in sides if side.maximum > 0)
            density = cls(Side.of(sides[0], unit), Side.of(sides[1], unit), statistics.total, unit)
            _latest = statistics, density
        return density

    @property
    def maximum(self) -> float:
        """The largest value."""
        return self.positive.maximum

    @property
    def minimum(self) -> float:
        """The smallest value."""
        return -self.negative.maximum

    @property
    def amax(self) -> float:
        """The largest magnitude."""
        return max(self.positive.maximum, self.negative.maximum)

    def merged(self, fine: int) -> "Density":
        """The same with wider bins far from 0: enough for a first look, in a fraction of the time.

        Args:
            fine: A power of two; bins below this one are kept, and a merged one is at most the part 2 / fine of where
                it lies.
        """
        return _merged(self, fine)


_latest: tuple[TensorStatistics | None, Density | None] = None, None


@lru_cache(maxsize=4)
def _merged(density: Density, fine: int) -> Density:
    """By identity: of a density that is looked at by several methods in turn."""
    positive, negative = density.positive.merged(fine), density.negative.merged(fine)
    return Density(positive, negative, density.total, density.unit)
