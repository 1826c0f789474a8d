"""Ranges that keep the distribution: by earth mover's distance, and by its first two moments."""

import numpy as np

from calibrators.grid import Grid
from calibrators.methods.loss import Lattices, absolute_errors, moments, moments_of_values
from calibrators.methods.search import least_loss
from calibrators.range import Range
from calibrators.statistics.density import Density, Floats
from calibrators.statistics.tensor import TensorStatistics


def emd_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range of least earth mover's distance between the values and the quantized ones: the mean of |x - x^|.

    In one dimension the cheapest transport joins values by rank (Vallender, "Calculation of the Wasserstein distance",
    1974). Quantization never puts a smaller value above a larger one, so that each x is joined with its own x^.
    """
    return least_loss(statistics, grid, absolute_errors)


def emd_moments_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range of least ``|mean x - mean x^| + |std x - std x^|`` over the values of both signs, zeros included.

    What PaddleSlim's `EMDObserver` calls earth mover's distance; unlike there the range is that of the magnitudes, the
    loss is one over all data, and the whole range is tried. Both terms may vanish where errors cancel.
    """
    return least_loss(statistics, grid, _moment_losses)


def _moment_losses(density: Density, lattices: Lattices) -> Floats:
    mean, square = moments_of_values(density)
    errors, squares = moments(density, lattices)
    deviations = np.sqrt(np.maximum(squares - (mean - errors) ** 2, 0.0))
    return np.asarray(np.abs(errors) + np.abs(np.sqrt(max(square - mean * mean, 0.0)) - deviations))
