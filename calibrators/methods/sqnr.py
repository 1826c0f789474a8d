"""The range of the best signal to noise ratio, where saturation counts more than rounding."""

from calibrators.grid import Grid
from calibrators.methods.loss import Lattices, squared_errors
from calibrators.methods.search import least_loss
from calibrators.range import Range
from calibrators.statistics.density import Density, Floats
from calibrators.statistics.tensor import TensorStatistics

SATURATION = 3.0
"""AIMET's gamma."""


def sqnr_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range of least squared error of rounding plus `SATURATION` times that of values beyond the last level.

    The loss of AIMET's "tf_enhanced" (its `SqnrEncodingAnalyzer`). There the error is taken at the middles of 512 or
    2048 bins and 101 scales or 17 scales by 21 offsets are tried; here it is that of `calibrators.methods.loss`, and
    the candidates are those of all methods that search.
    """
    return least_loss(statistics, grid, _losses)


def _losses(density: Density, lattices: Lattices) -> Floats:
    return squared_errors(density, lattices, SATURATION)
