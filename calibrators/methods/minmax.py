"""The whole range: nothing is clipped."""

from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics


def minmax_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The smallest and the largest value seen; on a symmetric grid the largest magnitude both ways.

    The latter is what TensorRT's MinMaxCalibration has, and what others call absmax.
    """
    if grid.symmetric:
        return Range.symmetric(statistics.amax)
    return Range(statistics.minimum, statistics.maximum)
