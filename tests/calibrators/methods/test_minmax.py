import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.grid import TENSORRT_INT8
from calibrators.methods.minmax import minmax_range
from calibrators.statistics.tensor import TensorStatistics

SMALLEST = 2.0**-149


def minmax_amax(statistics: TensorStatistics) -> float:
    return minmax_range(statistics, TENSORRT_INT8).amax


LARGEST = float(np.finfo(np.float32).max)

samples = arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(st.lists(samples, min_size=1, max_size=4))
@settings(max_examples=30)
def test_it_is_the_largest_magnitude_to_the_bit(samples: list[npt.NDArray[np.float32]]) -> None:
    assert minmax_amax(TensorStatistics.of(*samples)) == max(float(np.abs(sample).max()) for sample in samples)


@pytest.mark.parametrize("value", [SMALLEST, 2.0**-126, 0.1, 1.0, LARGEST])
def test_either_sign_counts(value: float) -> None:
    value = float(np.float32(value))
    assert minmax_amax(TensorStatistics.of([value, 0.0])) == value == minmax_amax(TensorStatistics.of([0.0, -value]))


def test_one_outlier_is_enough() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[77_777] = -1234.5
    assert minmax_amax(TensorStatistics.of(values)) == 1234.5


@given(samples, st.integers(-20, 20))
@settings(max_examples=30)
def test_a_power_of_two_scales_it_to_the_bit(sample: npt.NDArray[np.float32], k: int) -> None:
    sample = np.where((np.abs(sample) < 1e-30) | (np.abs(sample) > 1e30), np.float32(1), sample)
    factor = np.float32(2.0**k)
    assert minmax_amax(TensorStatistics.of(sample * factor)) == minmax_amax(TensorStatistics.of(sample)) * 2.0**k


@pytest.mark.parametrize("sample", [[0.0], [-0.0, 0.0], []])
def test_of_zeros_it_is_zero(sample: list[float]) -> None:
    assert minmax_amax(TensorStatistics.of(sample)) == 0.0


def test_of_images_from_0_to_1_it_is_the_scale_that_tensorrt_writes() -> None:
    images = (np.arange(256) / 255).astype(np.float32)
    scale = TENSORRT_INT8.symmetric_scale(minmax_amax(TensorStatistics.of(images)))
    assert struct.pack(">f", scale).hex() == "3c010204"
