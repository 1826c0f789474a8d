"""What a grid loses of a tensor, expected from the tensor's statistics.

Values are taken to lie evenly within a bin (`calibrators.statistics.density`). Then the error of a bin is the
difference of an integral at both its edges, and the integral from 0 to x of the error of a lattice with step s and
levels 0..K has a closed form. With r = x / s the place, k = min(round(r), K) its level and d = r - k, it is

- of the squared error: ``s**3 (k / 12 + d**3 / 3)``,
- of the absolute error: ``s**2 (k / 4 + d |d| / 2)``,

exactly, for rounding and saturation alike, whether a step is wider than a bin or finer.

Resolution: a value is known to a bin, a 4096th to an 8192nd of the largest magnitude of its sign, and the largest one
exactly. So of a tensor of few distinct values, or one whose bulk fills a handful of bins below an outlier, errors are
known to about a bin: well below a step of 8 bits of the whole range, not of 16.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from calibrators.compiled import kernel
from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.statistics.density import Density, Floats, Side
from calibrators.statistics.tensor import TensorStatistics

SQUARED: Final = 0
ABSOLUTE: Final = 1
SLOPE: Final = 2
MOMENTS: Final = 3


@dataclass(frozen=True, eq=False, slots=True)
class Lattices:
    """What `n` encodings can represent: the multiples k * step, ``-below <= k <= above``.

    Attributes:
        steps: Shape (n,), in any unit, as the ends of the ranges are.
        below: Levels below 0, shape (n,), whole numbers.
        above: Levels above 0, shape (n,), whole numbers.
    """

    steps: Floats
    below: Floats
    above: Floats

    @classmethod
    def of_ranges(cls, minimum: Floats, maximum: Floats, grid: Grid) -> "Lattices":
        """Those of `Encoding.of_range`, before a scale is rounded to float32.

        Args:
            minimum: The lower ends, shape (n,).
            maximum: The upper ends, shape (n,); no range is only 0.
            grid: The levels.
        """
        if grid.symmetric:
            steps = grid.symmetric_scale(np.maximum(-minimum, maximum))
            zero_point: Floats = np.full(steps.shape, float(grid.zero_point))
        else:
            steps = grid.allowed((maximum - minimum) / (grid.maximum - grid.minimum))
            zero_point = np.clip(np.rint(grid.minimum - minimum / steps), grid.minimum, grid.maximum)
        return cls(steps, zero_point - grid.minimum, grid.maximum - zero_point)


def expected_error(statistics: TensorStatistics, represented: Range, grid: Grid) -> float:
    """The mean squared error of quantizing a tensor with the encoding of a range, zeros included.

    Args:
        statistics: Of the tensor.
        represented: The range; one that is only 0 makes zeros of all values.
        grid: The levels.
    """
    if statistics.amax == 0.0:
        return 0.0
    density = Density.of(statistics)
    ends = np.array([[represented.minimum], [represented.maximum]]) / density.unit
    if represented.amax == 0.0:
        lattices = Lattices(np.ones(1), np.zeros(1), np.zeros(1))
    else:
        lattices = Lattices.of_ranges(ends[0], ends[1], grid)
    return float(squared_errors(density, lattices)[0]) * density.unit * density.unit


def squared_errors(density: Density, lattices: Lattices, saturation: float = 1.0) -> Floats:
    """The mean squared error of each lattice, shape (n,), in squared units.

    Args:
        density: The values.
        lattices: The candidates, in the same unit.
        saturation: How much the error of a value beyond the last level counts, 1 as any other.
    """
    return _over_both_sides(density, lattices, SQUARED, saturation) * lattices.steps**2


def absolute_errors(density: Density, lattices: Lattices) -> Floats:
    """The mean absolute error of each lattice, shape (n,), in units."""
    return _over_both_sides(density, lattices, ABSOLUTE) * lattices.steps


def slopes(density: Density, lattices: Lattices) -> Floats:
    """The mean of ``k (x / step - k)`` over each lattice, k the level of x, shape (n,).

    It is above 0 where a larger step lessens the squared error, and 0 where the step is the least-squares one.
    """
    return _over_both_sides(density, lattices, SLOPE)


def moments(density: Density, lattices: Lattices) -> tuple[Floats, Floats]:
    """The mean of x - x^ and the mean of x^ squared, x^ being x after quantization and back.

    Returns:
        Two arrays of shape (n,), in units and in squared units.
    """
    above, below = (side.reshape(2, -1) / density.total for side in _sides(density, lattices, MOMENTS, 1.0))
    return (above[0] - below[0]) * lattices.steps, (above[1] + below[1]) * lattices.steps**2


@lru_cache(maxsize=4)
def moments_of_values(density: Density) -> tuple[float, float]:
    """The mean and the mean square of the values, in units and in squared units."""
    first, second = ([_power_sum(side, power) for side in (density.positive, density.negative)] for power in (1, 2))
    return (first[0] - first[1]) / density.total, (second[0] + second[1]) / density.total


def _power_sum(side: Side, power: int) -> float:
    integrals = np.diff(side.edges ** (power + 1)) / (power + 1)
    return float((side.density * integrals).sum()) + side.at_maximum * side.maximum**power


def _over_both_sides(density: Density, lattices: Lattices, kind: int, saturation: float = 1.0) -> Floats:
    """The mean over all values of what `kind` says, in powers of the step."""
    above, below = _sides(density, lattices, kind, saturation)
    return np.asarray((above + below) / density.total)


def _sides(density: Density, lattices: Lattices, kind: int, saturation: float) -> tuple[Floats, Floats]:
    """The sums over the values above 0 and over those below, shape (n,); of moments the first, then the second."""
    inverse = 1.0 / lattices.steps
    widths = np.tile(lattices.steps, 2) if kind == MOMENTS else lattices.steps
    # Copies, as an array that is read-only or not contiguous would have the kernel compiled once more.
    both = ((density.positive, np.array(lattices.above)), (density.negative, np.array(lattices.below)))
    above, below = (
        _integrals(side.edges, side.density, inverse, levels, kind, (saturation - 1.0) / 3.0) * widths
        + (side.at_maximum * _at(side.maximum * inverse, levels, kind, saturation) if side.at_maximum else 0.0)
        for side, levels in both
    )
    return above, below


def _at(places: Floats, levels: Floats, kind: int, saturation: float) -> Floats:
    """What the kinds say of one value that stands at `places`, in steps."""
    k = np.minimum(np.rint(places), levels)
    d = places - k
    if kind == SQUARED:
        return np.asarray(d * d * np.where(places > levels, saturation, 1.0))
    if kind == ABSOLUTE:
        return np.abs(d)
    if kind == SLOPE:
        return np.asarray(k * d)
    return np.concatenate([d, k * k])


@kernel
def _integrals(edges: Floats, density: Floats, inverse: Floats, levels: Floats, kind: int, beyond: float) -> Floats:
    """For each lattice the sum over bins of density times integral, shape (n,) or (2 n,), its step being the unit.

    The integral up to an edge counts by what the density falls there: the same sum, each edge once. Sums run in the
    order of the edges, so that no width of the processor's vectors changes a bit.
    """
    totals = np.zeros(2 * inverse.size if kind == MOMENTS else inverse.size)
    for i in range(1, edges.size):
        fall = density[i - 1] - (density[i] if i < density.size else 0.0)
        if fall != 0.0:
            _add_integral(edges[i], fall, inverse, levels, kind, beyond, totals)
    return totals


@kernel
def _add_integral(
    edge: float, weight: float, inverse: Floats, levels: Floats, kind: int, beyond: float, totals: Floats
) -> None:
    """Add the weighted integral from 0 to an edge, for each lattice."""
    size = inverse.size
    for j in range(size):
        r = edge * inverse[j]
        k = min(np.rint(r), levels[j])
        d = r - k
        if kind == SQUARED and beyond == 0.0:
            totals[j] += weight * (k * (1 / 12) + d * d * d * (1 / 3))
        elif kind == SQUARED:
            over = max(r - levels[j], 0.0)
            totals[j] += weight * (k * (1 / 12) + d * d * d * (1 / 3) + beyond * over * over * over)
        elif kind == ABSOLUTE:
            totals[j] += weight * (k * 0.25 + d * abs(d) * 0.5)
        elif kind == SLOPE:
            totals[j] += weight * (k * (d * d - 0.25) * 0.5)
        else:
            totals[j] += weight * (d * d * 0.5)
            totals[size + j] += weight * (k * k * d + k * k * k * (1 / 3) + k * (1 / 6))
