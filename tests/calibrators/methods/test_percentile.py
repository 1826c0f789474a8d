import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.minmax import minmax_range
from calibrators.methods.percentile import percentile_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

UINT8 = Grid(signed=False, symmetric=False)
PERCENTS = [50, 90, 99, 99.9, 99.99, 99.999, 100]
RNG = np.random.default_rng(7)
GAUSS = RNG.standard_normal(100_000).astype(np.float32)
TENSORS = {
    "gauss": GAUSS,
    "laplace": RNG.laplace(1.0, 3.0, 50_000).astype(np.float32),
    "ReLU": np.maximum(GAUSS, 0),
    "negative": -np.abs(GAUSS[:777]),
    "far from 0": GAUSS + 50,
    "sparse": np.where(RNG.random(100_000) < 0.6, GAUSS, 0).astype(np.float32),
    "long tail": RNG.standard_t(2, 20_000).astype(np.float32),
    "few": GAUSS[:11],
}

Floats = npt.NDArray[np.float32]
floats = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
values = arrays(np.float32, st.integers(1, 60), elements=st.one_of(floats, st.just(0.0), st.floats(-9, 9, width=32)))


def of(x: npt.ArrayLike, percent: float = 99.99, grid: Grid = TENSORRT_INT8) -> Range:
    return percentile_range(TensorStatistics.of(x), grid, percent)


@pytest.mark.parametrize("percent", PERCENTS)
@pytest.mark.parametrize("name", TENSORS)
def test_it_is_numpys_percentile_within_a_bin(name: str, percent: float) -> None:
    x = TENSORS[name].astype(np.float64)
    bin_width = np.abs(x).max() / 4096
    assert of(x, percent).amax == pytest.approx(np.percentile(np.abs(x), percent), abs=bin_width)
    found = of(x, percent, UINT8)
    assert found.maximum == pytest.approx(max(np.percentile(x, percent), 0.0), abs=bin_width)
    assert found.minimum == pytest.approx(min(np.percentile(x, 100 - percent), 0.0), abs=bin_width)


def sqnr(x: Floats, found: Range) -> float:
    noise = Encoding.of_range(found, TENSORRT_INT8).fake_quantize(x).astype(np.float64) - x
    return 10 * math.log10(np.square(x, dtype=np.float64).sum() / np.square(noise).sum())


def test_known_thresholds() -> None:
    rng = np.random.default_rng(0)
    laplace = rng.laplace(0, 1, 32768).astype(np.float32)
    relu = np.maximum(rng.standard_normal(32768).astype(np.float32), 0)
    assert of(laplace).amax == pytest.approx(9.6179, abs=16 / 8192)
    assert of(relu).amax == pytest.approx(3.8242, abs=8 / 8192)
    assert sqnr(laplace, of(laplace)) == pytest.approx(34.88, abs=0.03)
    assert sqnr(relu, of(relu)) == pytest.approx(38.85, abs=0.03)
    assert of(laplace, 100).amax == pytest.approx(11.9489, abs=5e-5)
    assert of(relu, 100).amax == pytest.approx(4.7320, abs=5e-5)
    assert sqnr(laplace, of(laplace, 100)) == pytest.approx(34.31, abs=0.01)
    assert sqnr(relu, of(relu, 100)) == pytest.approx(39.33, abs=0.01)


@given(values)
@settings(max_examples=50)
def test_all_of_the_values_are_the_whole_range_to_the_bit(x: Floats) -> None:
    statistics = TensorStatistics.of(x)
    for grid in (TENSORRT_INT8, UINT8):
        assert percentile_range(statistics, grid, 100) == minmax_range(statistics, grid)


@given(values, st.floats(50, 100), st.floats(50, 100))
@settings(max_examples=100)
def test_a_higher_percentage_is_a_wider_range_and_never_wider_than_what_was_seen(
    x: Floats, one: float, other: float
) -> None:
    for grid in (TENSORRT_INT8, UINT8):
        whole = minmax_range(TensorStatistics.of(x), grid)
        narrow, wide = (of(x, percent, grid) for percent in sorted((one, other)))
        assert whole.minimum <= wide.minimum <= narrow.minimum <= 0 <= narrow.maximum <= wide.maximum <= whole.maximum


@given(values, st.floats(50, 100))
@settings(max_examples=50)
def test_the_opposite_values_have_the_opposite_range(x: Floats, percent: float) -> None:
    found, mirrored = of(x, percent, UINT8), of(-x, percent, UINT8)
    assert (found.minimum, found.maximum) == (-mirrored.maximum, -mirrored.minimum)
    assert of(x, percent) == of(-x, percent) == of(np.abs(x), percent)


@given(arrays(np.float32, 40, elements=st.floats(-100, 100, width=32)), st.floats(50, 100), st.integers(-20, 20))
@settings(max_examples=50)
def test_a_power_of_two_scales_it_to_the_bit(x: Floats, percent: float, k: int) -> None:
    x = np.where(np.abs(x) < 1e-20, np.float32(0), x)
    for grid in (TENSORRT_INT8, UINT8):
        expected, found = of(x, percent, grid), of(x * np.float32(2.0**k), percent, grid)
        assert (found.minimum, found.maximum) == (expected.minimum * 2.0**k, expected.maximum * 2.0**k)


def test_one_outlier_among_many_is_clipped() -> None:
    x = np.append(GAUSS, np.float32(-30))
    assert 3.5 < of(x).amax < 4.5
    assert -4.5 < of(x, grid=UINT8).minimum < -3.5


def test_zeros_count() -> None:
    """Half of a ReLU's values are zeros: its 99.99th percentile is the 99.98th of the others."""
    positive = np.abs(GAUSS)
    with_zeros = np.append(positive, np.zeros_like(positive))
    assert of(with_zeros).amax == pytest.approx(np.percentile(positive, 99.98), abs=2 * 8 / 8192)
    assert of(with_zeros).amax < of(positive).amax


def test_where_the_percentile_is_0_the_smallest_magnitudes_are_kept() -> None:
    x = np.zeros(100_000, np.float32)
    x[:5] = (0.3, 0.5, 1.0, 2.0, 3.0)
    assert np.percentile(x, 99.99) == 0
    end = (math.floor(0.3 * 2048) + 1) / 2048  # of the bin that holds 0.3, of 8192 up to 4
    assert of(x) == Range(-end, end)
    assert of(x, grid=UINT8) == Range(0.0, end)
    assert of(-x, grid=UINT8) == Range(-end, 0.0)
    assert of(x, 99.9999).amax > 2.9


def test_on_the_side_with_fewer_values_all_may_be_clipped() -> None:
    x = np.append(np.abs(GAUSS), np.float32(-100))
    assert of(x, grid=UINT8).minimum == 0.0
    both = np.zeros(100_000, np.float32)
    both[:3] = (-8.0, 1.0, 1.5)
    found = of(both, grid=UINT8)
    assert found.minimum == 0.0 and 1.0 < found.maximum <= 1.0 + 2 / 8192
    both[3] = -8.0  # as many on either side: none is dropped
    assert of(both, grid=UINT8) == Range(-8.0, found.maximum)


@pytest.mark.parametrize(
    "value", [2.0**-149, 3 * 2.0**-149, 2.0**-126, 0.1, 1.0, -2.5, float(np.finfo(np.float32).max)]
)
@pytest.mark.parametrize("times", [1, 100_000])
def test_a_constant_is_kept_to_the_bit(value: float, times: int) -> None:
    x = np.full(times, value, np.float32)
    for grid in (TENSORRT_INT8, UINT8):
        for percent in PERCENTS:
            assert of(x, percent, grid) == minmax_range(TensorStatistics.of(x), grid)


@pytest.mark.parametrize("ceiling", [6.0, 0.1, 2.0**-149])
def test_the_ceiling_of_a_clipped_tensor_is_kept_to_the_bit(ceiling: float) -> None:
    x = np.minimum(np.abs(GAUSS[:1000]), 1) * np.float32(ceiling)
    assert of(x, 99).amax == of(x, 99, UINT8).maximum == float(np.float32(ceiling))


@pytest.mark.parametrize("samples", [[], [[]], [[0.0, -0.0], [0.0]]])
def test_of_zeros_it_is_zero(samples: list[list[float]]) -> None:
    for grid in (TENSORRT_INT8, UINT8):
        for percent in PERCENTS:
            assert percentile_range(TensorStatistics.of(*samples), grid, percent) == Range(0.0, 0.0)


@pytest.mark.parametrize("percent", [49.99, 100.01, -1, 0.4, math.nan, math.inf])
def test_no_other_percentages(percent: float) -> None:
    with pytest.raises(RangeError) as error:
        of([1.0], percent)
    assert str(error.value) == (
        f"a percentile to calibrate with lies between 50 and 100, not at {percent}: 99.99 is usual"
    )


@pytest.mark.parametrize(("share", "percent"), [(0.999, "99.9"), (0.9999, "99.99"), (0.5, "50"), (1, "100")])
def test_a_share_is_told_in_per_cent(share: float, percent: str) -> None:
    with pytest.raises(RangeError) as error:
        of([1.0], share)
    assert str(error.value).endswith(f"between 50 and 100, not at {share}: in per cent: {percent}")
