import math

import numpy as np
import numpy.typing as npt
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import Grid
from calibrators.methods.emd import emd_moments_range, emd_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

Values = npt.NDArray[np.float32]

RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(0, 1, 32768).astype(np.float32)
RELU = np.maximum(RNG.standard_normal(32768).astype(np.float32), 0)
SKEWED = (RNG.gamma(2, 1, 20_000) - 0.7).astype(np.float32)
NEGATIVE = -RNG.gamma(2, 1, 20_000).astype(np.float32)
TENSORS = {"laplace": LAPLACE, "relu": RELU, "skewed": SKEWED, "negative": NEGATIVE}
GRIDS = [Grid(), Grid(bits=4), Grid(bits=6), Grid(symmetric=False), Grid(bits=4, symmetric=False, signed=False)]


def ranges(values: Values, grid: Grid) -> list[Range]:
    lowest, highest = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    parts = np.arange(1.0, 0.1, -0.02)
    if grid.symmetric:
        return [Range.symmetric(part * max(-lowest, highest)) for part in parts]
    return [Range(low * lowest, high * highest) for low in parts[::2] for high in parts[::2]]


def distance(values: Values, represented: Range, grid: Grid) -> float:
    """The earth mover's: the k-th smallest value goes where the k-th smallest quantized one is."""
    quantized = Encoding.of_range(represented, grid).fake_quantize(values)
    return float(np.abs(np.sort(values).astype(np.float64) - np.sort(quantized)).mean())


def moments(values: Values, represented: Range, grid: Grid) -> float:
    x = values.astype(np.float64)
    quantized = Encoding.of_range(represented, grid).fake_quantize(values).astype(np.float64)
    return float(abs(x.mean() - quantized.mean()) + abs(x.std() - quantized.std()))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TENSORS)
def test_no_other_range_moves_less_earth(name: str, grid: Grid) -> None:
    values = TENSORS[name]
    found = distance(values, emd_range(TensorStatistics.of(values), grid), grid)
    assert found <= 1.003 * min(distance(values, each, grid) for each in ranges(values, grid))


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_of_a_laplace_density_it_is_the_logarithm_of_four_times_the_levels(bits: int) -> None:
    """T / (4 K) of rounding and exp(-T) of saturation are least together at T = ln(4 K)."""
    half = -np.log(1 - (np.arange(500_000) + 0.5) / 500_000)
    grid = Grid(bits=bits, narrow=True)
    found = emd_range(TensorStatistics.of(np.concatenate([half, -half])), grid)
    assert found.amax == pytest.approx(math.log(4 * grid.maximum), rel=0.05)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_of_uniform_values_the_last_level_is_half_a_step_inside(bits: int) -> None:
    """T (T / K) / 4 of rounding and (1 - T)^2 / 2 of saturation are least together at T = K / (K + 1/2)."""
    grid = Grid(bits=bits, narrow=True)
    found = emd_range(TensorStatistics.of(np.linspace(-1, 1, 200_001)), grid)
    assert found.amax == pytest.approx(grid.maximum / (grid.maximum + 0.5), rel=2e-3)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TENSORS)
def test_no_other_range_keeps_mean_and_deviation_better(name: str, grid: Grid) -> None:
    """They are known to a fraction of a bin, and of a step at which the errors of few values cancel."""
    values = TENSORS[name]
    statistics = TensorStatistics.of(values)
    found = moments(values, emd_moments_range(statistics, grid), grid)
    known = max(statistics.positive.width, statistics.negative.width) / 4
    assert found <= min(moments(values, each, grid) for each in ranges(values, grid)) + known


def test_both_signs_count() -> None:
    """PaddleSlim takes the largest value, not magnitude: of these it would be 0.1."""
    values = np.append(NEGATIVE, np.float32(0.1))
    assert emd_moments_range(TensorStatistics.of(values), Grid()).amax > 0.5 * float(np.abs(values).max())


def test_they_are_two_methods() -> None:
    """What keeps the two moments clips less than what moves the least earth, as in the published figures."""
    for values, published in ((LAPLACE, 10.9930), (RELU, 4.4480)):
        statistics = TensorStatistics.of(values)
        moved, kept = emd_range(statistics, Grid()).amax, emd_moments_range(statistics, Grid()).amax
        assert moved < 0.8 * kept
        assert kept == pytest.approx(published, rel=0.1)
