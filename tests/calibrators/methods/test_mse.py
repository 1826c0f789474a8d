import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_WEIGHTS, Grid
from calibrators.methods.loss import expected_error
from calibrators.methods.minmax import minmax_range
from calibrators.methods.mse import mse_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

Values = npt.NDArray[np.float32]

RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(0, 1, 32768).astype(np.float32)
RELU = np.maximum(RNG.standard_normal(32768).astype(np.float32), 0)
GAUSS = RNG.standard_normal(20_000).astype(np.float32)
TENSORS = {
    "laplace": LAPLACE,
    "relu": RELU,
    "gauss": GAUSS,
    "skewed": (RNG.gamma(2, 1, 20_000) - 0.7).astype(np.float32),
    "silu": (2 * GAUSS / (1 + np.exp(-2 * GAUSS))).astype(np.float32),
    "far outlier": np.append(RNG.standard_normal(20_000), 60).astype(np.float32),
    "outliers on both sides": np.append(RNG.laplace(0, 1, 20_000), [90, -40]).astype(np.float32),
    "negative": -RNG.gamma(2, 1, 20_000).astype(np.float32),
    "images": (RNG.integers(0, 256, 20_000) / 255).astype(np.float32),
}
GRIDS = {
    "int8": Grid(),
    "narrow": TENSORRT_WEIGHTS,
    "int4": Grid(bits=4),
    "int16": Grid(bits=16),
    "asymmetric": Grid(symmetric=False),
    "asymmetric uint4": Grid(bits=4, signed=False, symmetric=False),
    "power of two": Grid(power_of_two=True),
    "asymmetric power of two": Grid(symmetric=False, power_of_two=True),
}


def error(values: Values, represented: Range, grid: Grid) -> float:
    """The mean squared error over the very values."""
    quantized = Encoding.of_range(represented, grid).fake_quantize(values)
    return float(((values.astype(np.float64) - quantized) ** 2).mean())


def sqnr(values: Values, represented: Range, grid: Grid) -> float:
    return 10 * math.log10((values.astype(np.float64) ** 2).mean() / error(values, represented, grid))


def scan(values: Values, grid: Grid) -> list[Range]:
    """Ranges of all sizes, along each end."""
    lowest, highest = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if grid.symmetric or 0.0 in (lowest, highest):
        parts = np.concatenate([np.arange(1, 0.02, -0.005), 0.02 * 0.9 ** np.arange(40)])
        pairs = [(part, part) for part in parts]
    else:
        parts = np.concatenate([np.linspace(1, 0.1, 19), 0.1 * 0.6 ** np.arange(1, 10)])
        pairs = [(low, high) for low in parts for high in parts]
    ranges = [Range(low * lowest, high * highest) for low, high in pairs]
    return [Range.symmetric(each.amax) for each in ranges] if grid.symmetric else ranges


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TENSORS)
def test_no_other_range_is_better(name: str, grid: str) -> None:
    """Over the very values to 1 %; at 16 bits to 3 %, as steps are finer than bins."""
    values, levels = TENSORS[name], GRIDS[grid]
    found = error(values, mse_range(TensorStatistics.of(values), levels), levels)
    least = min(error(values, each, levels) for each in scan(values, levels))
    assert found <= least * (1.03 if levels.bits == 16 else 1.01) + 1e-14


@pytest.mark.parametrize(
    ("values", "largest", "whole_dB", "threshold", "dB"),
    [(LAPLACE, 11.9489, 34.31, 10.133, 35.01), (RELU, 4.73196, 39.33, 4.372, 39.74)],
)
def test_known_optima(values: Values, largest: float, whole_dB: float, threshold: float, dB: float) -> None:
    """Found by a scan in steps of 0.002 of the largest magnitude, over the very values."""
    statistics = TensorStatistics.of(values)
    assert statistics.amax == pytest.approx(largest, abs=1e-4)
    assert sqnr(values, minmax_range(statistics, TENSORRT_WEIGHTS), TENSORRT_WEIGHTS) == pytest.approx(
        whole_dB, abs=0.005
    )
    found = mse_range(statistics, TENSORRT_WEIGHTS)
    assert found.amax == pytest.approx(threshold, abs=0.002 * largest)
    assert sqnr(values, found, TENSORRT_WEIGHTS) == pytest.approx(dB, abs=0.005)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_of_uniform_values_the_last_level_is_half_a_step_inside(bits: int) -> None:
    """T (T / K)^2 / 12 of rounding and (1 - T)^3 / 3 of saturation are least together at T = K / (K + 1/2)."""
    values = np.linspace(-1, 1, 200_001)
    grid = Grid(bits=bits, narrow=True)
    largest = grid.maximum
    found = mse_range(TensorStatistics.of(values), grid)
    assert found.amax == pytest.approx(largest / (largest + 0.5), rel=2e-3)


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_of_a_laplace_density_it_is_where_rounding_and_saturation_balance(bits: int) -> None:
    """T^2 / (12 K^2) of rounding and 2 exp(-T) of saturation are least together where T / (6 K^2) = 2 exp(-T)."""
    ranks = (np.arange(500_000) + 0.5) / 500_000
    half = -np.log(1 - ranks)
    grid = Grid(bits=bits, narrow=True)
    balanced = 5.0
    for _ in range(50):
        balanced = math.log(12 * grid.maximum**2 / balanced)
    found = mse_range(TensorStatistics.of(np.concatenate([half, -half])), grid)
    assert found.amax == pytest.approx(balanced, rel=0.08 if bits == 4 else 0.02)


@pytest.mark.parametrize(("outlier", "clipped"), [(30.0, True), (3000.0, False)])
def test_a_far_outlier_is_clipped_where_that_pays(outlier: float, clipped: bool) -> None:
    """At 4 bits. Two minima lie far apart: one at the bulk, one at the outlier."""
    values = np.append(RNG.standard_normal(100_000), outlier).astype(np.float32)
    found = mse_range(TensorStatistics.of(values), Grid(bits=4)).amax
    assert (found < 4) == clipped
    assert (found > 0.9 * outlier) != clipped


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TENSORS)
def test_the_whole_range_is_a_candidate(name: str, grid: str) -> None:
    statistics, levels = TensorStatistics.of(TENSORS[name]), GRIDS[grid]
    found, whole = (expected_error(statistics, find(statistics, levels), levels) for find in (mse_range, minmax_range))
    assert found <= whole * (1 + 1e-8)


@pytest.mark.parametrize("values", [[1.0], [-3.0, 0.0], [0.0, 0.0, 2.0**-149], [-1.0, 1.0], [-5.0, -5.0]])
def test_of_equals_the_largest_is_taken(values: list[float]) -> None:
    """Ranges whose levels hit all values lose nothing, and there are many of them."""
    for grid in (Grid(), TENSORRT_WEIGHTS, Grid(bits=4), Grid(bits=16)):
        statistics = TensorStatistics.of(values)
        assert mse_range(statistics, grid) == minmax_range(statistics, grid)


def test_images_keep_a_level_for_each_shade() -> None:
    statistics = TensorStatistics.of(TENSORS["images"])
    assert mse_range(statistics, Grid(signed=False, symmetric=False)) == Range(0.0, 1.0)


@pytest.mark.parametrize("name", TENSORS)
def test_more_bits_never_lose_more(name: str) -> None:
    statistics = TensorStatistics.of(TENSORS[name])
    if name == "images":  # whose shades the levels of some widths hit
        return
    for grids in (
        [Grid(bits=bits) for bits in range(4, 17)],
        [Grid(bits=bits, symmetric=False, signed=False) for bits in range(4, 17)],
        [Grid(bits=bits, power_of_two=True) for bits in range(4, 17)],
    ):
        errors = [expected_error(statistics, mse_range(statistics, grid), grid) for grid in grids]
        assert all(more <= less for less, more in pairwise(errors))


@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_that_must_be_powers_of_two_are(symmetric: bool) -> None:
    grid = Grid(symmetric=symmetric, power_of_two=True)
    for values in TENSORS.values():
        encoding = Encoding.of_range(mse_range(TensorStatistics.of(values), grid), grid)
        assert math.frexp(float(encoding.scale))[0] == 0.5
