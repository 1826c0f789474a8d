from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.mean import mean_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

UINT8 = Grid(signed=False, symmetric=False)
LARGEST = float(np.finfo(np.float32).max)

Sample = npt.NDArray[np.float32]
samples = arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def exact_mean(values: list[float]) -> float:
    """Rounded once."""
    return float(sum(map(Fraction, values)) / len(values))


@given(st.lists(samples, min_size=1, max_size=7))
@settings(max_examples=50)
def test_it_is_the_mean_of_the_samples_ranges_rounded_once(samples: list[Sample]) -> None:
    statistics = TensorStatistics.of(*samples)
    amax = exact_mean([float(np.abs(sample).max()) for sample in samples])
    lows = [min(float(sample.min()), 0.0) for sample in samples]
    highs = [max(float(sample.max()), 0.0) for sample in samples]
    assert mean_range(statistics, TENSORRT_INT8) == Range(-amax, amax)
    assert mean_range(statistics, Grid(bits=4)) == Range(-amax, amax)
    assert mean_range(statistics, UINT8) == Range(exact_mean(lows), exact_mean(highs))


def test_a_ragged_last_batch_has_no_weight_of_its_own() -> None:
    """PaddleSlim's mean of the batches' means would be 3.5 in batches of two."""
    statistics = TensorStatistics.of([1.0], [1.0, -3.0], [5.0, -1.0])
    assert mean_range(statistics, TENSORRT_INT8) == Range(-3.0, 3.0)
    assert mean_range(statistics, UINT8) == Range(-4 / 3, 7 / 3)


def test_one_outlier_counts_once_among_the_samples() -> None:
    values = np.ones((1000, 50), np.float32)
    values[3, 7] = -1001.0
    statistics = TensorStatistics.of(*values)
    assert mean_range(statistics, TENSORRT_INT8).amax == 2.0
    assert mean_range(statistics, UINT8) == Range(-1.001, 1.0)


@given(st.lists(samples, min_size=1, max_size=5), st.integers(-20, 20))
@settings(max_examples=30)
def test_a_power_of_two_scales_it_to_the_bit(samples: list[Sample], k: int) -> None:
    samples = [np.where((np.abs(s) < 1e-30) | (np.abs(s) > 1e30), np.float32(1), s) for s in samples]
    scaled = [sample * np.float32(2.0**k) for sample in samples]
    for grid in (TENSORRT_INT8, UINT8):
        expected = mean_range(TensorStatistics.of(*samples), grid)
        found = mean_range(TensorStatistics.of(*scaled), grid)
        assert found == Range(expected.minimum * 2.0**k, expected.maximum * 2.0**k)


@pytest.mark.parametrize("value", [2.0**-149, 3 * 2.0**-149, 2.0**-126, 0.1, 1.0, LARGEST])
@pytest.mark.parametrize("times", [1, 3, 1000])
def test_of_constants_it_is_the_constant(value: float, times: int) -> None:
    value = float(np.float32(value))
    statistics = TensorStatistics.of(*[[value]] * times)
    assert mean_range(statistics, TENSORRT_INT8).amax == value
    assert mean_range(statistics, UINT8) == Range(0.0, value)


def test_subnormal_magnitudes_are_averaged_as_all_others() -> None:
    statistics = TensorStatistics.of([2.0**-149], [0.0], [-(2.0**-148)])
    assert mean_range(statistics, TENSORRT_INT8).amax == 2.0**-149
    assert mean_range(statistics, UINT8) == Range(-(2.0**-148) / 3, 2.0**-149 / 3)


@pytest.mark.parametrize("samples", [[], [[]], [[0.0], [-0.0, 0.0]]])
def test_of_zeros_it_is_zero(samples: list[list[float]]) -> None:
    for grid in (TENSORRT_INT8, UINT8):
        assert mean_range(TensorStatistics.of(*samples), grid) == Range(0.0, 0.0)
