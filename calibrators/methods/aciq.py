"""The range that loses least of a bell: analytical clipping for integer quantization (ACIQ).

R. Banner, Y. Nahshan, D. Soudry, "Post training 4-bit quantization of convolutional networks for rapid-deployment"
(NeurIPS 2019, arXiv 1810.05723): magnitudes have Laplace's or Gauss's density, those beyond T are clipped, and the
expected squared error of clipping and of rounding, ``p E[((|x| - T)+)**2] + width**2 / (12 N**2)`` for a range of that
width in N steps, is least where its derivative by T is 0:

    width = 12 N**2 p E[(|x| - T)+]

for an end that moves by itself, p being the share of values on its side of 0; for a symmetric range, of width 2 T, half
the sum of both sides' right-hand sides stands there. The expectation is ``b exp(-T / b)`` for Laplace's density with
mean magnitude b, and ``2 sigma (phi(T / sigma) - T / sigma Q(T / sigma))`` for Gauss's with root mean square sigma, phi
and Q being the normal density and its tail. The paper's tables, such as T = 9.89 b for 8 bits, 3.92 sigma, or 11.16 b
behind a ReLU, are the solutions for 2**bits steps; here N is the number that the grid has: 254 for signed 8 bits, 255
where a range ends anywhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibrators.grid import Grid
from calibrators.methods.minmax import minmax_range
from calibrators.range import Range
from calibrators.statistics.density import Density, Side
from calibrators.statistics.tensor import TensorStatistics

LAPLACE = math.sqrt(1 / 2)
GAUSS = math.sqrt(2 / math.pi)
"""The mean magnitude over the root mean square."""


def aciq_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range that the densities nearest to the values would lose least with, never beyond what was seen.

    Values above 0 and below have a density of their own, so that a SiLU or a leaky ReLU is no bell about its mean. It
    is Laplace's or Gauss's, whichever has the ratio of mean magnitude to root mean square nearer to that of the values:
    a long tail has a small one. Exact zeros do not count: every grid represents them exactly, so they lose nothing, and
    those of a ReLU are no part of any bell.

    Beyond the largest magnitude there is nothing to gain: where the density asks for more, the range ends there.
    """
    whole = minmax_range(statistics, grid)
    if whole.amax == 0.0:
        return whole
    density = Density.of(statistics)
    values = _number(density.negative) + _number(density.positive)
    below, above = (Bell.of(side, values) for side in (density.negative, density.positive))
    if grid.symmetric:
        return Range.symmetric(symmetric_end(below, above, 2 * (grid.maximum - grid.zero_point)) * density.unit)
    low, high = ends(below, above, grid.maximum - grid.minimum)
    return Range(-low * density.unit, high * density.unit)


@dataclass(frozen=True, slots=True)
class Bell:
    """Half of a density about 0: the magnitudes on one side of it.

    Attributes:
        share: The share of all values.
        deviation: Laplace's mean magnitude, or Gauss's root mean square.
        reach: The largest magnitude.
        gauss: Whether it is Gauss's.
    """

    share: float
    deviation: float
    reach: float
    gauss: bool

    @classmethod
    def of(cls, side: Side, values: float) -> "Bell":
        """That of the magnitudes of one side, of so many values on both."""
        if side.maximum == 0.0:
            return cls(0.0, 1.0, 0.0, False)
        widths = np.diff(side.edges)
        counts = np.append(side.density * widths, side.at_maximum)
        middles = np.append(side.edges[:-1] + widths / 2, side.maximum)
        variances = np.append(widths**2 / 12, 0.0)
        number = float(counts.sum())
        mean = float((counts * middles).sum() / number)
        root_mean_square = math.sqrt((counts * (middles**2 + variances)).sum() / number)
        gauss = mean / root_mean_square >= (LAPLACE + GAUSS) / 2
        return cls(number / values, root_mean_square if gauss else mean, side.maximum, gauss)

    def excess(self, end: float) -> float:
        """By how much a value exceeds `end` on this side, on average over all values."""
        distance = end / self.deviation
        excess = _gauss_excess(distance) if self.gauss else math.exp(-distance)
        return self.share * self.deviation * excess

    def end(self, excess: float) -> float:
        """The end that is exceeded by so much, above 0, on average over all values; not beyond `reach`."""
        wanted = excess / self.deviation
        if wanted >= self.share * (GAUSS if self.gauss else 1.0):
            return 0.0
        wanted /= self.share
        return min(self.reach, self.deviation * (_gauss_distance(wanted) if self.gauss else -math.log(wanted)))


def symmetric_end(below: Bell, above: Bell, steps: int) -> float:
    """The magnitude at which a range as far below 0 as above it, in so many steps, loses least."""
    return _first(
        lambda end: 2 * end >= 6 * steps**2 * (below.excess(end) + above.excess(end)), max(below.reach, above.reach)
    )


def ends(below: Bell, above: Bell, steps: int) -> tuple[float, float]:
    """The magnitudes below 0 and above at which a range in so many steps loses least.

    The wider the range, the wider a step, and the sooner either end loses less by clipping: there is one width that its
    own ends have.
    """
    gain = 12 * steps**2
    width = _first(lambda width: below.end(width / gain) + above.end(width / gain) <= width, below.reach + above.reach)
    return below.end(width / gain), above.end(width / gain)


def _first(holds: Callable[[float], bool], last: float) -> float:
    """The first number from which on `holds` is true, above 0 and up to `last`: bisected until none lies between."""
    lower, upper = 0.0, last
    while lower < (middle := (lower + upper) / 2) < upper:
        lower, upper = (lower, middle) if holds(middle) else (middle, upper)
    return upper


def _gauss_excess(distance: float) -> float:
    """E[(|x| - distance)+] of the normal density."""
    return GAUSS * math.exp(-(distance**2) / 2) - distance * math.erfc(distance / math.sqrt(2))


def _gauss_distance(excess: float) -> float:
    """The distance that is exceeded by so much on average, below that at 0: Newton's iteration, which rises to it."""
    distance, following = -1.0, 0.0
    while following > distance:
        distance = following
        following = distance + (_gauss_excess(distance) - excess) / math.erfc(distance / math.sqrt(2))
    return distance


def _number(side: Side) -> float:
    return float(side.at_maximum + (side.density * np.diff(side.edges)).sum())
