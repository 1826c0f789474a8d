import numpy as np
import numpy.typing as npt
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_WEIGHTS, Grid
from calibrators.methods.loss import expected_error
from calibrators.methods.lsq_scale import lsq_scale_range
from calibrators.methods.minmax import minmax_range
from calibrators.methods.mse import mse_range
from calibrators.statistics.tensor import TensorStatistics

Floats = npt.NDArray[np.float64]

RNG = np.random.default_rng(0)
GAUSS = RNG.standard_normal(20_000)
TENSORS = {
    "laplace": RNG.laplace(0, 1, 32768),
    "relu": np.maximum(RNG.standard_normal(32768), 0),
    "gauss": GAUSS,
    "skewed": RNG.gamma(2, 1, 20_000) - 0.7,
    "silu": 2 * GAUSS / (1 + np.exp(-2 * GAUSS)),
    "negative": -RNG.gamma(2, 1, 20_000),
    "far outlier": np.append(RNG.standard_normal(20_000), 60),
    "outliers on both sides": np.append(RNG.laplace(0, 1, 20_000), [90, -40]),
}
TENSORS = {name: values.astype(np.float32).astype(np.float64) for name, values in TENSORS.items()}
GRIDS = [Grid(), Grid(bits=4), Grid(bits=4, symmetric=False), Grid(symmetric=False), Grid(bits=16)]


def alternated(x: Floats, step: float, grid: Grid) -> tuple[float, float]:
    """Where the alternation leads from a scale over the very values, and its error there."""
    for _ in range(2000):
        level = np.clip(np.rint(x / step), grid.minimum, grid.maximum)
        following = (level * x).sum() / (level**2).sum()
        if following == step:
            break
        step = following
    return step, float(((x - level * step) ** 2).mean())


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("grid", [Grid(bits=4), TENSORRT_WEIGHTS])
def test_it_is_the_best_end_of_the_alternation(name: str, grid: Grid) -> None:
    x = TENSORS[name]
    statistics = TensorStatistics.of(x)
    found = lsq_scale_range(statistics, grid)
    starts = np.array([1, 0.7, 0.4, 0.2, 0.1]) * statistics.amax / grid.maximum
    least = min(alternated(x, start, grid)[1] for start in starts)
    step = found.amax / grid.maximum
    level = np.clip(np.rint(x / step), grid.minimum, grid.maximum)
    assert float(((x - level * step) ** 2).mean()) <= 1.001 * least
    if found != minmax_range(statistics, grid):
        assert (level * x).sum() / (level**2).sum() == pytest.approx(step, rel=5e-4)  # a bin of 4096


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TENSORS)
def test_it_loses_no_more_than_the_whole_range_and_hardly_more_than_any(name: str, grid: Grid) -> None:
    statistics = TensorStatistics.of(TENSORS[name])
    found, whole, least = (
        expected_error(statistics, find(statistics, grid), grid) for find in (lsq_scale_range, minmax_range, mse_range)
    )
    assert found <= whole * (1 + 1e-8)
    assert found <= least * (1.03 if grid.bits == 16 else 1.01)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["laplace", "skewed", "silu", "outliers on both sides"])
def test_no_offset_nearby_is_better(name: str, bits: int) -> None:
    """Over the very values, by the best scale for each offset, except for what a value's place in its bin changes."""
    grid = Grid(bits=bits, symmetric=False)
    x = TENSORS[name]
    encoding = Encoding.of_range(lsq_scale_range(TensorStatistics.of(x), grid), grid)
    scale, offset = float(encoding.scale), int(encoding.zero_point)

    def error(offset: int, scale: float) -> float:
        level = np.clip(np.rint(x / scale), grid.minimum - offset, grid.maximum - offset)
        return float(((x - level * scale) ** 2).mean())

    found = error(offset, scale)
    for move in (-3, -2, -1, 1, 2, 3):
        if grid.minimum <= offset + move <= grid.maximum:
            assert found <= 1.005 * min(error(offset + move, scale * factor) for factor in np.linspace(0.97, 1.03, 31))


@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_that_must_be_powers_of_two_are_all_tried(symmetric: bool) -> None:
    grid = Grid(symmetric=symmetric, power_of_two=True)
    for values in TENSORS.values():
        statistics = TensorStatistics.of(values)
        assert lsq_scale_range(statistics, grid) == mse_range(statistics, grid)


def test_a_value_on_every_level_is_found_again() -> None:
    """Levels 0..100 of a grid that goes to 127 lose nothing: the scale is known before."""
    values = (np.arange(-100, 101) * 0.013).astype(np.float32)
    for grid in (TENSORRT_WEIGHTS, Grid(symmetric=False)):
        statistics = TensorStatistics.of(values)
        assert expected_error(statistics, lsq_scale_range(statistics, grid), grid) < 0.013**2 / 12
