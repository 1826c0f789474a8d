import math

import numpy as np
import numpy.typing as npt
import pytest

from calibrators.grid import Grid
from calibrators.methods.mse import mse_range
from calibrators.methods.sqnr import SATURATION, sqnr_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(0, 1, 32768).astype(np.float32)
RELU = np.maximum(RNG.standard_normal(32768).astype(np.float32), 0)
SKEWED = (RNG.gamma(2, 1, 20_000) - 0.7).astype(np.float32)
GRIDS = [Grid(), Grid(bits=4), Grid(bits=6), Grid(bits=4, symmetric=False), Grid(symmetric=False)]


def loss(values: npt.NDArray[np.float32], represented: Range, grid: Grid) -> float:
    """AIMET's: values between the first and the last level are rounded, those beyond count three times."""
    x = values.astype(np.float64)
    if grid.symmetric:
        step, below = represented.amax / grid.maximum, -grid.minimum
    else:
        step = (represented.maximum - represented.minimum) / (grid.maximum - grid.minimum)
        below = int(np.rint(-represented.minimum / step))
    above = grid.maximum - grid.minimum - below
    error = (x - np.clip(np.rint(x / step), -below, above) * step) ** 2
    return float((error * np.where((x > above * step) | (x < -below * step), SATURATION, 1.0)).mean())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("values", [LAPLACE, RELU, SKEWED], ids=["laplace", "relu", "skewed"])
def test_no_other_range_is_better(values: npt.NDArray[np.float32], grid: Grid) -> None:
    statistics = TensorStatistics.of(values)
    found = loss(values, sqnr_range(statistics, grid), grid)
    for part in np.arange(1.0, 0.2, -0.01):
        for other in {part, 0.5 * (1 + part), 0.9}:
            each = Range(part * statistics.minimum, other * statistics.maximum)
            assert found <= 1.003 * loss(
                values, Range.symmetric(part * statistics.amax) if grid.symmetric else each, grid
            )


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_of_a_laplace_density_saturation_weighs_three_times(bits: int) -> None:
    """T^2 / (12 K^2) of rounding and 3 * 2 exp(-T) of saturation are least together where T / (6 K^2) = 6 exp(-T)."""
    half = -np.log(1 - (np.arange(500_000) + 0.5) / 500_000)
    grid = Grid(bits=bits, narrow=True)
    balanced = 5.0
    for _ in range(50):
        balanced = math.log(36 * grid.maximum**2 / balanced)
    found = sqnr_range(TensorStatistics.of(np.concatenate([half, -half])), grid)
    assert found.amax == pytest.approx(balanced, rel=0.08 if bits == 4 else 0.02)


def test_it_clips_less_than_the_squared_error_does() -> None:
    for values in (LAPLACE, RELU, SKEWED):
        for grid in (Grid(bits=4), Grid(bits=6), Grid()):
            statistics = TensorStatistics.of(values)
            assert sqnr_range(statistics, grid).amax > mse_range(statistics, grid).amax


def test_it_is_near_the_one_that_aimet_finds() -> None:
    """Which looks at the middles of 512 bins and every hundredth of the range: 10.9106 and 4.2808 on A / 127.5."""
    assert sqnr_range(TensorStatistics.of(LAPLACE), Grid()).amax == pytest.approx(10.9106, rel=0.05)
    assert sqnr_range(TensorStatistics.of(RELU), Grid()).amax == pytest.approx(4.2808, rel=0.1)
