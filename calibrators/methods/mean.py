"""The average of the samples' ranges: an outlier in one sample moves it little."""

from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics


def mean_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The mean over samples of each one's smallest and largest value; on a symmetric grid of its largest magnitude.

    PaddleSlim's AVG observer, but with every sample of equal weight: a mean over batches of their means would count
    those of a small last batch more. A sample without a value below 0 counts as 0 there, and likewise above. The sums
    are exact integers, hence the quotient is the mean rounded once.
    """
    if grid.symmetric:
        return Range.symmetric(statistics.mean_absmax)
    return Range(statistics.mean_minimum, statistics.mean_maximum)
