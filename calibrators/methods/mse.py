"""The range of least mean squared error."""

from calibrators.grid import Grid
from calibrators.methods.loss import squared_errors
from calibrators.methods.search import least_loss
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics


def mse_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range whose encoding has the least mean of (x - x^)^2 over all values of all samples, x^ after quantization.

    The error is that of `calibrators.methods.loss`. PaddleSlim tries 35 ranges from 0.30 to 0.98 of each batch's own
    maximum, PPQ 9; here the loss is one over all data, and the whole range is among some hundred candidates.
    """
    return least_loss(statistics, grid, squared_errors)
