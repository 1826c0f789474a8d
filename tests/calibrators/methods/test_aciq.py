import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.aciq import Bell, aciq_range, ends, symmetric_end
from calibrators.methods.minmax import minmax_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

UINT8 = Grid(signed=False, symmetric=False)
UINT4 = Grid(4, signed=False, symmetric=False)
GRIDS = [TENSORRT_INT8, Grid(4), Grid(16), Grid(8, signed=False), UINT8, UINT4, Grid(16, symmetric=False)]

Floats = npt.NDArray[np.float32]

NOTHING = Bell(0.0, 1.0, 0.0, gauss=False)


def bell(*, gauss: bool = False, share: float = 0.5, reach: float = 99.0) -> Bell:
    return Bell(share, 1.0, reach, gauss)


PLACES = (np.arange(400_000) + 0.5) / 400_000
EXPONENTIAL = -np.log1p(-PLACES)
HALF_NORMAL = np.array([NormalDist().inv_cdf((1 + float(place)) / 2) for place in PLACES])
"""Quantiles in equal steps: densities without chance."""


def both_signs(x: npt.NDArray[np.float64]) -> Floats:
    return np.concatenate([x, -x]).astype(np.float32)


def of(x: npt.ArrayLike, grid: Grid = TENSORRT_INT8) -> Range:
    return aciq_range(TensorStatistics.of(x), grid)


def sqnr(x: Floats, represented: Range, grid: Grid) -> float:
    noise = Encoding.of_range(represented, grid).fake_quantize(x).astype(np.float64) - x
    return 10 * math.log10(np.square(x, dtype=np.float64).sum() / np.square(noise).sum())


def best_sqnr(x: Floats, grid: Grid) -> float:
    """Over 25 parts of the whole range."""
    whole = minmax_range(TensorStatistics.of(x), grid)
    cut = [whole.amax * k / 25 for k in range(1, 26)]
    return max(sqnr(x, Range(max(whole.minimum, -end), min(whole.maximum, end)), grid) for end in cut)


# The paper's tables: 2**bits steps


@pytest.mark.parametrize(("bits", "expected"), [(2, 2.83), (3, 3.89), (4, 5.03), (5, 6.20), (6, 7.41), (8, 9.89)])
def test_laplaces_table(bits: int, expected: float) -> None:
    assert symmetric_end(bell(), bell(), 2**bits) == pytest.approx(expected, abs=0.011)
    assert ends(bell(), bell(), 2**bits) == pytest.approx((expected, expected), abs=0.011)


@pytest.mark.parametrize(("bits", "expected"), [(2, 1.71), (3, 2.15), (4, 2.55), (5, 2.93), (6, 3.28), (8, 3.92)])
def test_gausss_table(bits: int, expected: float) -> None:
    sides = bell(gauss=True), bell(gauss=True)
    assert symmetric_end(*sides, 2**bits) == pytest.approx(expected, abs=0.011)
    assert ends(*sides, 2**bits) == pytest.approx((expected, expected), abs=0.011)


@pytest.mark.parametrize(("bits", "expected"), [(3, 5.03), (4, 6.20), (8, 11.16)])
def test_the_table_behind_a_relu(bits: int, expected: float) -> None:
    assert ends(NOTHING, bell(share=1.0), 2**bits) == pytest.approx((0.0, expected), abs=0.011)
    assert ends(bell(share=1.0), NOTHING, 2**bits) == pytest.approx((expected, 0.0), abs=0.011)


@pytest.mark.parametrize("steps", [1, 2, 14, 15, 254, 255, 65534, 65535])
def test_laplaces_end_solves_lamberts_equation(steps: int) -> None:
    """``a exp(a) = 3 steps**2``."""
    end = symmetric_end(bell(), bell(), steps)
    assert end * math.exp(end) == pytest.approx(3 * steps**2, rel=1e-12)
    (low, high) = ends(bell(share=0.25), bell(share=0.75), steps)
    assert 4 * math.exp(low) == pytest.approx(4 / 3 * math.exp(high), rel=1e-12)
    assert (low + high) * math.exp(high) == pytest.approx(9 * steps**2, rel=1e-12)


@pytest.mark.parametrize("gauss", [False, True])
def test_an_end_is_exceeded_by_what_it_was_asked_for(gauss: bool) -> None:
    side = Bell(0.3, 2.5, 99.0, gauss)
    for end in (0.1, 1.0, 10.0):
        assert side.end(side.excess(end)) == pytest.approx(end, rel=1e-12)
    assert side.end(side.excess(0.0)) == pytest.approx(0.0, abs=1e-12)
    assert side.end(1.0) == 0.0
    assert Bell(0.3, 2.5, 4.0, gauss).end(1e-9) == 4.0


@pytest.mark.parametrize("gauss", [False, True])
def test_the_excess_is_the_integral(gauss: bool) -> None:
    x = HALF_NORMAL if gauss else EXPONENTIAL
    for end in (0.0, 0.5, 2.0, 3.0):
        assert bell(gauss=gauss, share=1.0).excess(end) == pytest.approx(np.maximum(x - end, 0).mean(), abs=1e-5)


# Tensors


def test_a_laplace_tensor_is_clipped_as_laplaces_density() -> None:
    """The step is T / 127, so that ``T / b exp(T / b) = 12 * 127**2``."""
    found = of(both_signs(3.5 * EXPONENTIAL))
    end = found.maximum / 3.5
    assert found.minimum == -found.maximum
    assert end * math.exp(end) == pytest.approx(12 * 127**2, rel=2e-3)
    assert end == pytest.approx(9.89, rel=2e-3)  # 128 steps
    assert of(3.5 * EXPONENTIAL, UINT8).maximum / 3.5 == pytest.approx(11.16, rel=2e-3)
    assert of(both_signs(EXPONENTIAL), Grid(4)).maximum == pytest.approx(5.03, rel=0.05)


def test_a_gauss_tensor_is_clipped_as_gausss() -> None:
    assert of(both_signs(0.2 * HALF_NORMAL)).maximum / 0.2 == pytest.approx(3.92, rel=2e-3)
    assert of(both_signs(HALF_NORMAL), Grid(4)).maximum == pytest.approx(2.55, rel=0.03)
    found = of(HALF_NORMAL, UINT8)
    assert (found.minimum, found.maximum) == (0.0, pytest.approx(4.216, rel=2e-3))


def test_zeros_do_not_count() -> None:
    for x in (both_signs(EXPONENTIAL), HALF_NORMAL):
        for grid in GRIDS:
            assert of(np.append(x, np.zeros(3 * x.size)), grid) == of(x, grid)


def test_both_sides_have_a_density_of_their_own() -> None:
    """A leaky ReLU's left side is narrow: it takes nothing from the right one's range."""
    leaky = np.concatenate([EXPONENTIAL, -0.1 * EXPONENTIAL])
    found = of(leaky, UINT8)
    assert 8 < found.maximum < 11.16
    assert 0.6 < -found.minimum < 1.1
    assert of(-leaky, UINT8) == Range(-found.maximum, -found.minimum)


def tensors() -> dict[str, Floats]:
    gauss, laplace = (np.concatenate([x, -x])[::4] for x in (HALF_NORMAL, EXPONENTIAL))
    found = {
        "gauss": gauss,
        "laplace": laplace,
        "ReLU": np.maximum(gauss, 0),
        "ReLU of laplace": np.maximum(laplace, 0),
        "ReLU6": np.clip(3 * gauss, 0, 6),
        "SiLU": 3 * gauss / (1 + np.exp(-3 * gauss)),
        "leaky ReLU": np.where(laplace > 0, laplace, 0.1 * laplace),
        "sigmoid": 1 / (1 + np.exp(-3 * gauss)),
        "uniform": 2 * PLACES[::4] - 1,
        "negative": -np.abs(laplace),
    }
    return {name: x.astype(np.float32) for name, x in found.items()}


@pytest.mark.parametrize(("name", "x"), tensors().items())
@pytest.mark.parametrize("grid", [TENSORRT_INT8, Grid(4), UINT8, UINT4])
def test_of_bells_nearly_nothing_is_lost_against_the_best_threshold(name: str, x: Floats, grid: Grid) -> None:
    assert sqnr(x, of(x, grid), grid) > best_sqnr(x, grid) - (0.3 if grid.bits == 8 else 0.7), name


@given(
    arrays(
        np.float32,
        st.integers(1, 60),
        elements=st.one_of(st.just(0.0), st.floats(-9, 9, width=32), st.floats(width=32)),
    ).filter(lambda x: np.isfinite(x).all())
)
@settings(max_examples=60)
def test_it_is_never_wider_than_what_was_seen(x: Floats) -> None:
    for grid in GRIDS:
        whole, found = minmax_range(TensorStatistics.of(x), grid), of(x, grid)
        assert whole.minimum <= found.minimum <= 0 <= found.maximum <= whole.maximum
        assert (found.amax > 0) == (whole.amax > 0)


@given(arrays(np.float32, 50, elements=st.floats(-100, 100, width=32)), st.integers(-20, 20))
@settings(max_examples=30)
def test_a_power_of_two_scales_it_to_the_bit(x: Floats, k: int) -> None:
    x = np.where(np.abs(x) < 1e-20, np.float32(0), x)
    for grid in GRIDS:
        expected, found = of(x, grid), of(x * np.float32(2.0**k), grid)
        assert (found.minimum, found.maximum) == (expected.minimum * 2.0**k, expected.maximum * 2.0**k)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("value", [2.0**-149, 2.0**-126, 0.1, -1.0, float(np.finfo(np.float32).max)])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_constant_is_kept_to_the_bit(value: float, times: int, grid: Grid) -> None:
    x = np.full(times, value, np.float32)
    assert of(x, grid) == minmax_range(TensorStatistics.of(x), grid)


@pytest.mark.parametrize("grid", GRIDS)
def test_of_zeros_it_is_zero(grid: Grid) -> None:
    for samples in ([], [[]], [[0.0, -0.0], [0.0]]):
        assert aciq_range(TensorStatistics.of(*samples), grid) == Range(0.0, 0.0)


def test_an_outlier_is_clipped_and_more_bits_clip_less() -> None:
    x = np.append(both_signs(HALF_NORMAL), np.float32(1000))
    found = [of(x, Grid(bits)).maximum for bits in range(2, 17)]
    assert found == sorted(found)
    assert found[0] < 3 < found[6] < 10 < found[-1] < 1000
