import math
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.methods.entropy import BINS, LEVELS, entropy_range, kl_divergences
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics
from tests.calibrators.methods.kl import divergences, last_minimum

Floats = npt.NDArray[np.float64]
Random = np.random.Generator


def threshold(values: npt.ArrayLike, levels: int = 128) -> float:
    """The whole method by definition, on a histogram that NumPy counts."""
    magnitudes = np.abs(np.asarray(values, np.float64).reshape(-1))
    amax = float(magnitudes.max())
    bins = np.histogram(magnitudes[magnitudes > 0], 2048, (0.0, amax))[0].astype(np.float64)
    bins[0] = bins[1]
    return (levels + last_minimum(divergences(bins, levels)) + 0.5) / 2048 * amax


def amax_of(*samples: npt.ArrayLike) -> float:
    return entropy_range(TensorStatistics.of(*samples), TENSORRT_INT8).amax


def sqnr(values: npt.NDArray[np.float32], amax: float) -> float:
    """Signal over the noise of INT8 quantization with that range, in dB."""
    noise = Encoding.symmetric(amax).fake_quantize(values).astype(np.float64) - values
    return 10 * math.log10((values.astype(np.float64) ** 2).sum() / (noise**2).sum())


def dense(rng: Random) -> Floats:
    return rng.poisson(1000 * np.exp(-np.arange(2048) / rng.integers(50, 900))).astype(np.float64)


def sparse(rng: Random) -> Floats:
    return np.where(rng.random(2048) < rng.uniform(0.002, 0.3), rng.integers(1, 10**6, 2048), 0).astype(np.float64)


def of_levels(rng: Random) -> Floats:
    """As k/255 fall into bins."""
    bins = np.zeros(2048)
    places = np.minimum(np.arange(256) * 2048 // 255, 2047)
    bins[places] = rng.integers(0, 5000, 256)
    return bins


def spikes(rng: Random) -> Floats:
    bins = np.zeros(2048)
    bins[rng.integers(0, 2048, rng.integers(1, 6))] = rng.integers(1, 10**9)
    return bins


def empty_tail(rng: Random) -> Floats:
    bins = dense(rng)
    bins[rng.integers(1, 2047) :] = 0
    return bins


def outliers(rng: Random) -> Floats:
    bins = empty_tail(rng)
    bins[rng.integers(1024, 2048, 3)] += 1
    return bins


def fractions(rng: Random) -> Floats:
    return rng.random(2048) * 10.0 ** rng.integers(-6, 9)


def huge(rng: Random) -> Floats:
    return dense(rng) * 1e9 + sparse(rng)


SHAPES = [dense, sparse, of_levels, spikes, empty_tail, outliers, fractions, huge]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_all_candidates_at_once_are_each_candidate_by_itself(shape: Callable[[Random], Floats], seed: int) -> None:
    bins = shape(np.random.default_rng(seed))
    bins[2047] = max(bins[2047], float(seed))
    expected, got = divergences(bins), kl_divergences(bins)
    assert got.shape == (BINS - LEVELS + 1,)
    assert np.array_equal(np.isfinite(got), np.isfinite(expected))
    finite = np.isfinite(expected)
    assert np.abs(got[finite] - expected[finite]).max(initial=0.0) < 1e-10
    assert (got > -1e-10).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3, 8))
def test_the_same_candidate_wins(shape: Callable[[Random], Floats], seed: int) -> None:
    bins = shape(np.random.default_rng(seed))
    bins[2047] += 1
    assert last_minimum(kl_divergences(bins)) == last_minimum(divergences(bins))


@pytest.mark.parametrize("levels", [2, 3, 8, 16, 100, 129, 200, 256, 1000, 2047])
@pytest.mark.parametrize("shape", [dense, sparse, outliers])
def test_so_it_is_with_any_number_of_levels(shape: Callable[[Random], Floats], levels: int) -> None:
    bins = shape(np.random.default_rng(levels))
    bins[2047] += 1
    expected, got = divergences(bins, levels), kl_divergences(bins, levels)
    assert np.array_equal(np.isfinite(got), np.isfinite(expected))
    finite = np.isfinite(expected)
    assert np.abs(got[finite] - expected[finite]).max() < 1e-10
    assert last_minimum(got) == last_minimum(expected)


def test_threads_find_what_one_alone_does() -> None:
    histograms = [shape(np.random.default_rng(seed)) for shape in (dense, huge) for seed in range(8)]
    alone = [kl_divergences(bins, 77) for bins in histograms]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda bins: kl_divergences(bins, 77), histograms))
    assert all(map(np.array_equal, alone, together))


@given(
    arrays(np.float64, 2048, elements=st.integers(1, 10**6), fill=st.just(0.0)).filter(lambda bins: bins.any()),
)
@settings(max_examples=6)
def test_any_histogram(bins: Floats) -> None:
    expected, got = divergences(bins), kl_divergences(bins)
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(got), finite)
    assert np.abs(got[finite] - expected[finite]).max(initial=0.0) < 1e-10


def tensors() -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    gauss, laplace = rng.standard_normal(30_000), rng.laplace(size=30_000)
    shapes = {
        "gauss": gauss,
        "laplace": laplace,
        "ReLU": np.maximum(gauss, 0),
        "ReLU with few values": np.maximum(gauss - 2, 0),
        "ReLU6": np.clip(3 * gauss, 0, 6),
        "uniform": rng.uniform(-1, 1, 30_000),
        "negative": -np.abs(laplace),
        "long tail": rng.standard_t(2, 30_000),
        "one outlier": np.append(gauss, 50.0),
        "two clusters": np.concatenate([gauss * 0.01 + 1, gauss * 0.1 + 7]),
        "sparse": rng.standard_normal(40),
        "pixels": rng.integers(0, 256, 30_000) / 255,
        "pixels, mostly dark": np.minimum(rng.exponential(20, 30_000).astype(int), 255) / 255,
        "sigmoid": 1 / (1 + np.exp(-4 * gauss)),
        "softmax": np.exp(5 * gauss[:10_000]) / np.exp(5 * gauss[:10_000]).sum(),
        "SiLU": gauss / (1 + np.exp(-gauss)),
    }
    return {name: values.astype(np.float32) for name, values in shapes.items()}


TENSORS = tensors()


@pytest.mark.parametrize("name", TENSORS)
def test_where_no_value_must_be_split_between_bins_it_is_the_definition(name: str) -> None:
    """The histogram's own bins join to 2048 where the largest magnitude is a power of two."""
    values = TENSORS[name]
    scaled = (values / np.abs(values).max()).astype(np.float32)
    assert np.abs(scaled).max() == 1.0
    assert amax_of(scaled) == threshold(scaled)


@pytest.mark.parametrize("name", ["gauss", "laplace", "ReLU", "uniform", "long tail", "two clusters", "SiLU"])
def test_elsewhere_the_divergence_is_as_good_as_the_best(name: str) -> None:
    values = TENSORS[name]
    magnitudes = np.abs(values[values != 0]).astype(np.float64)
    amax = magnitudes.max()
    bins = np.histogram(magnitudes, 2048, (0.0, amax))[0].astype(np.float64)
    bins[0] = bins[1]
    found = divergences(bins)
    chosen = round(amax_of(values) / amax * 2048 - 0.5) - 128
    assert found[chosen] - found.min() < 2e-3


def test_zeros_do_not_count() -> None:
    values = TENSORS["laplace"]
    with_zeros = np.append(values, np.zeros(10 * values.size, np.float32))
    assert amax_of(with_zeros) == amax_of(values)


def test_neither_does_what_falls_into_the_first_bin() -> None:
    values = TENSORS["ReLU"] / TENSORS["ReLU"].max()
    small = np.full(10 * values.size, 1 / 5000, np.float32)
    assert amax_of(np.append(values, small)) == amax_of(values)


def test_the_sign_does_not_matter() -> None:
    values = TENSORS["long tail"]
    assert amax_of(-values) == amax_of(values) == amax_of(np.abs(values))


def test_neither_do_order_and_samples() -> None:
    values = TENSORS["two clusters"]
    shuffled = np.random.default_rng(0).permutation(values)
    assert amax_of(*np.split(shuffled, 100)) == amax_of(values)


@pytest.mark.parametrize("k", [-60, -7, -1, 1, 5, 50])
@pytest.mark.parametrize("name", ["laplace", "ReLU", "pixels", "sparse", "softmax", "long tail"])
def test_a_power_of_two_scales_it_to_the_bit(name: str, k: int) -> None:
    values = np.where(np.abs(TENSORS[name]) < 2.0**-60, np.float32(0), TENSORS[name])
    assert amax_of(values * np.float32(2.0**k)) == amax_of(values) * 2.0**k


@given(arrays(np.float32, 200, elements=st.floats(-100, 100, width=32)), st.integers(-20, 20))
@settings(max_examples=25)
def test_any_values_scale_by_powers_of_two(values: npt.NDArray[np.float32], k: int) -> None:
    values = np.where(np.abs(values) < 1e-20, np.float32(0), values)
    assert amax_of(values * np.float32(2.0**k)) == amax_of(values) * 2.0**k


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
@settings(max_examples=25)
def test_it_lies_between_a_sixteenth_of_the_largest_magnitude_and_half_a_bin_beyond(
    values: npt.NDArray[np.float32],
) -> None:
    largest = float(np.abs(values).max())
    assert 128.5 / 2048 * largest <= amax_of(values) <= 2048.5 / 2048 * largest


@pytest.mark.parametrize("value", [1.0, 0.1, -3.7, 2.0**-149, 2.0**-126, 3e38])
@pytest.mark.parametrize("times", [1, 3, 100_000])
def test_a_constant_is_kept(value: float, times: int) -> None:
    values = np.full(times, value, np.float32)
    assert amax_of(values) == 2048.5 / 2048 * abs(float(values[0]))


@pytest.mark.parametrize("seed", range(20))
def test_few_distinct_values_are_all_kept(seed: int) -> None:
    """Each has a level of its own: the divergence is 0 with the larger ones and without, and the last minimum wins."""
    rng = np.random.default_rng(seed)
    distinct = rng.choice(np.arange(1, 16), rng.integers(1, 3), replace=False) / 16
    values = np.concatenate([np.full(rng.integers(1, 5000), value, np.float32) for value in (*distinct, 1.0)])
    assert amax_of(values) == threshold(values)
    if len(distinct) == 1:
        assert amax_of(values) == 2048.5 / 2048


@pytest.mark.parametrize("samples", [[], [[]], [[0.0]], [[0.0, -0.0], [0.0]]])
def test_of_zeros_it_is_zero(samples: list[Any]) -> None:
    assert amax_of(*samples) == 0.0


def test_of_images_from_0_to_1_it_is_the_scale_that_tensorrt_writes() -> None:
    """As in many caches from the wild: all 2048 bins are kept, and the threshold is the middle of the one after."""
    images = (np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32)) / 255).astype(np.float32)
    assert images.max() == 1.0
    amax = amax_of(*images)
    assert amax == 2048.5 / 2048
    assert struct.pack(">f", TENSORRT_INT8.symmetric_scale(amax)).hex() == "3c010a14"


def test_the_zeros_of_a_relu_do_not_pull_the_threshold_down() -> None:
    """Where zeros count, the threshold of this tensor falls to 1.8 of 4.73, and the signal to 16 dB over the noise."""
    rng = np.random.default_rng(0)
    laplace = rng.laplace(0, 1, 32768).astype(np.float32)
    relu = np.maximum(rng.standard_normal(32768).astype(np.float32), 0)
    assert relu.max() == pytest.approx(4.73196, abs=1e-5)
    assert amax_of(relu) > 3.5
    assert sqnr(relu, amax_of(relu)) >= 38
    assert np.abs(laplace).max() == pytest.approx(11.9489, abs=1e-4)
    assert amax_of(laplace) > 7
    assert sqnr(laplace, amax_of(laplace)) >= 31


@pytest.mark.parametrize("outlier", [10.0, -20.0])
def test_an_outlier_is_clipped(outlier: float) -> None:
    """What the method is for: a single value must not take the levels from all others."""
    values = np.append(TENSORS["gauss"], np.float32(outlier))
    assert 3 < amax_of(values) < 5
    assert sqnr(TENSORS["gauss"], amax_of(values)) > sqnr(TENSORS["gauss"], abs(outlier)) + 4


# Other grids


def of(values: npt.ArrayLike, grid: Grid) -> Range:
    return entropy_range(TensorStatistics.of(values), grid)


def unsigned(bits: int = 8) -> Grid:
    return Grid(bits, signed=False, symmetric=False)


def scaled(name: str) -> npt.NDArray[np.float32]:
    """To a largest magnitude of 1, where the histogram's bins are those of the definition."""
    return (TENSORS[name] / np.abs(TENSORS[name]).max()).astype(np.float32)


@pytest.mark.parametrize("name", ["laplace", "ReLU", "SiLU", "softmax"])
@pytest.mark.parametrize("bits", [2, 4, 5, 7, 10])
def test_symmetric_grids_have_half_their_levels_for_magnitudes(name: str, bits: int) -> None:
    values = scaled(name)
    expected = threshold(values, 2 ** (bits - 1))
    assert of(values, Grid(bits)) == of(values, Grid(bits, narrow=True)) == Range(-expected, expected)
    assert of(values, Grid(bits, signed=False)) == Range(-expected, expected)


def test_tensorrts_weights_have_the_levels_of_its_activations() -> None:
    assert of(TENSORS["laplace"], TENSORRT_WEIGHTS) == of(TENSORS["laplace"], TENSORRT_INT8)


@pytest.mark.parametrize("bits", [4, 8, 10])
@pytest.mark.parametrize("signed", [True, False])
def test_asymmetric_grids_have_all_levels_for_values_of_one_sign(bits: int, signed: bool) -> None:
    values, grid = scaled("ReLU"), Grid(bits, signed=signed, symmetric=False)
    expected = min(threshold(values, 2**bits), 1.0)
    assert of(values, grid) == Range(0.0, expected)
    assert of(-values, grid) == Range(-expected, 0.0)


def test_asymmetric_grids_have_half_their_levels_for_either_sign_where_both_reach_as_far() -> None:
    values = scaled("laplace")
    values[0], values[1] = -1.0, 1.0
    expected = threshold(values, 128)
    assert of(values, unsigned()) == Range(-expected, expected)


def test_an_asymmetric_range_ends_where_the_values_end() -> None:
    """SiLU reaches from -0.28 to 4: its larger side has 30 of 32 parts of the levels."""
    values = scaled("SiLU")
    low = float(values.min())
    assert round(32 / (1 - low)) == 30
    expected = threshold(values, 240)
    assert of(values, unsigned()) == Range(max(low, -expected), min(expected, 1.0))
    assert of(-values, unsigned()) == Range(-min(expected, 1.0), min(-low, expected))


def test_an_outlier_on_one_side_takes_nothing_from_the_other() -> None:
    values = np.append(TENSORS["gauss"], np.float32(-40))
    found = of(values, unsigned())
    assert -6 < found.minimum < -3 and 3 < found.maximum <= TENSORS["gauss"].max()


@pytest.mark.parametrize("grid", [Grid(12), Grid(16), unsigned(11), unsigned(16)])
def test_where_there_are_as_many_levels_as_bins_nothing_is_clipped(grid: Grid) -> None:
    values = np.append(np.abs(TENSORS["gauss"]), np.float32(40))
    assert of(values, grid) == (Range(-40.0, 40.0) if grid.symmetric else Range(0.0, 40.0))


@pytest.mark.parametrize("grid", [Grid(4), unsigned(4), unsigned(), Grid(16), unsigned(16)])
@pytest.mark.parametrize("value", [2.0**-149, 2.0**-126, 0.1, 3e38])
def test_any_grid_keeps_a_constant_and_of_zeros_has_zero(value: float, grid: Grid) -> None:
    value = float(np.float32(value))
    assert of([value], grid).maximum == pytest.approx(value, rel=1 / 4000)
    assert of([-value], grid).minimum == pytest.approx(-value, rel=1 / 4000)
    assert of([0.0, -0.0], grid) == Range(0.0, 0.0)


@given(arrays(np.float32, 200, elements=st.floats(-100, 90, width=32)), st.integers(-20, 20))
@settings(max_examples=20)
def test_asymmetric_ranges_scale_by_powers_of_two_to_the_bit(values: npt.NDArray[np.float32], k: int) -> None:
    values = np.where(np.abs(values) < 1e-20, np.float32(0), values)
    expected, found = of(values, unsigned()), of(values * np.float32(2.0**k), unsigned())
    assert (found.minimum, found.maximum) == (expected.minimum * 2.0**k, expected.maximum * 2.0**k)
