"""For each tensor the method that suits it best."""

import numpy as np

from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.loss import squared_errors
from calibrators.methods.named import SINGLE
from calibrators.methods.search import first_of_least
from calibrators.range import Range
from calibrators.statistics.density import Density
from calibrators.statistics.tensor import TensorStatistics


def best_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range of least expected squared error among those that all other methods find."""
    return _best(statistics, grid)[1]


def best_method(statistics: TensorStatistics, grid: Grid = TENSORRT_INT8) -> str:
    """The name of the method whose range `best_range` takes; of equals minmax, else the one with the largest range."""
    return _best(statistics, grid)[0]


def _best(statistics: TensorStatistics, grid: Grid) -> tuple[str, Range]:
    known: tuple[str, Range] | None = statistics.found.get(("best", grid))
    if known is None:
        known = statistics.found["best", grid] = _searched(statistics, grid)
    return known


def _searched(statistics: TensorStatistics, grid: Grid) -> tuple[str, Range]:
    ranges = {name: find(statistics, grid) for name, find in SINGLE.items()}
    ranges = {name: found for name, found in ranges.items() if found.amax > 0}
    if not ranges:
        return "minmax", Range(0.0, 0.0)
    density = Density.of(statistics)
    ends = np.array([[found.minimum, found.maximum] for found in ranges.values()]) / density.unit
    best = list(ranges)[first_of_least(density, ends, grid, squared_errors)]
    return best, ranges[best]
