import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrators.errors import RangeError
from calibrators.statistics.histogram import BINS, LOWEST_EXPONENT, Histogram, exponent_of
from calibrators.statistics.tensor import TensorStatistics

SMALLEST = 2.0**-149
LARGEST = float(np.finfo(np.float32).max)

magnitudes = st.floats(SMALLEST, LARGEST, width=32) | st.integers(-149, 127).map(lambda k: 2.0**k)
values = st.lists(magnitudes, max_size=20)
histograms = values.map(lambda magnitudes: TensorStatistics.of(magnitudes).positive)
few = settings(max_examples=30)


def of(values: npt.ArrayLike) -> Histogram:
    """The histogram of values above 0, as a pass over them gives it."""
    return TensorStatistics.of(np.asarray(values, np.float32)).positive


def bin_of(value: float, exponent: int) -> int:
    """The definition, in exact arithmetic: the bin of 8192 over [0, 2**exponent) that holds `value`."""
    return math.floor(Fraction(value) * 8192 / Fraction(2) ** exponent)


@given(values)
def test_a_bin_holds_the_values_from_its_edge_to_the_next(values: list[float]) -> None:
    histogram = of(values)
    expected = np.zeros(BINS, np.int64)
    for value in values:
        expected[bin_of(value, histogram.exponent)] += 1
    assert np.array_equal(histogram.counts, expected)
    assert histogram.maximum == max(values, default=0.0)
    assert histogram.total == len(values)
    assert histogram.width == 2.0**histogram.exponent / 8192


@pytest.mark.parametrize("exponent", [-135, -126, -125, -113, -3, 0, 1, 20, 128])
def test_each_edge_belongs_to_the_bin_above_it(exponent: int) -> None:
    edges = np.ldexp(np.arange(1, BINS), exponent - 13).astype(np.float32)
    for shifted in (edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(np.inf))):
        kept = shifted[shifted > 0]
        bins = np.floor(np.ldexp(kept.astype(np.float64), 13 - exponent)).astype(np.int64)
        assert np.array_equal(of(kept).widened(exponent), np.bincount(bins, minlength=BINS))


@given(magnitudes)
def test_the_range_is_the_smallest_power_of_two_above_the_maximum(value: float) -> None:
    exponent = exponent_of(value)
    assert value < Fraction(2) ** exponent
    assert exponent == LOWEST_EXPONENT or value >= Fraction(2) ** (exponent - 1)
    assert of([value]).exponent == exponent


@pytest.mark.parametrize(
    ("magnitude", "exponent"),
    [
        (0.0, -148),
        (SMALLEST, -148),
        (2 * SMALLEST, -147),
        (2.0**-126, -125),
        (0.75, 0),
        (1.0, 1),
        (1.5, 1),
        (LARGEST, 128),
    ],
)
def test_exponents(magnitude: float, exponent: int) -> None:
    assert exponent_of(magnitude) == exponent


@given(histograms, histograms)
@few
def test_addition_commutes(a: Histogram, b: Histogram) -> None:
    assert a + b == b + a


@given(histograms, histograms, histograms)
@few
def test_addition_is_associative(a: Histogram, b: Histogram, c: Histogram) -> None:
    assert (a + b) + c == a + (b + c)


@given(histograms)
@few
def test_the_empty_histogram_is_neutral(histogram: Histogram) -> None:
    assert histogram + Histogram.empty() == histogram == Histogram.empty() + histogram


@given(values, values)
@few
def test_a_sum_is_the_histogram_of_both_sets(a: list[float], b: list[float]) -> None:
    assert of(a) + of(b) == of(a + b)


@given(magnitudes, st.integers(0, 50))
@few
def test_one_magnitude_repeated(magnitude: float, times: int) -> None:
    assert Histogram.repeated(magnitude, times) == of([magnitude] * times)


@given(values, st.integers(0, 40))
def test_a_wider_range_counts_the_same_values(values: list[float], more: int) -> None:
    histogram = of(values)
    exponent = histogram.exponent + more
    expected = np.zeros(BINS, np.int64)
    for value in values:
        expected[bin_of(value, exponent)] += 1
    assert np.array_equal(histogram.widened(exponent), expected)


@given(values, values)
@few
def test_equality_is_of_all_parts(a: list[float], b: list[float]) -> None:
    one, other = of(a), of(b)
    same = one.maximum == other.maximum and bool((one.counts == other.counts).all())
    assert (one == other) == same
    assert one != object()


def changed(histogram: Histogram, **parts: Any) -> Histogram:
    return Histogram(
        **{"counts": histogram.counts, "exponent": histogram.exponent, "maximum": histogram.maximum, **parts}
    )


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"counts": np.zeros(BINS - 1, np.int64)}, "8192 counts"),
        ({"counts": np.zeros((BINS, 1), np.int64)}, "8192 counts"),
        ({"counts": np.ones(BINS, np.float64)}, "8192 counts"),
        ({"counts": -np.ones(BINS, np.int64)}, "not negative"),
        ({"counts": np.zeros(BINS, np.int64)}, "do not belong together"),
        ({"exponent": 5}, "do not belong together"),
        ({"maximum": 5.0}, "do not belong together"),
        ({"maximum": 0.0, "exponent": LOWEST_EXPONENT}, "do not belong together"),
        ({"maximum": -1.0}, "finite and not negative, unlike -1.0"),
        ({"maximum": math.nan}, "finite and not negative, unlike nan"),
        ({"maximum": math.inf}, "finite and not negative, unlike inf"),
    ],
)
def test_nonsense_is_refused_at_birth(parts: dict[str, Any], reason: str) -> None:
    good = of([0.5, 1.5])
    assert changed(good) == good
    with pytest.raises(RangeError, match=reason):
        changed(good, **parts)


@given(values, st.integers(1, 9000), st.floats(1.0, 3.0))
@few
def test_a_view_over_the_whole_range_loses_nothing(values: list[float], bins: int, stretch: float) -> None:
    histogram = of(values)
    counts = histogram.over(histogram.maximum * stretch, bins)
    assert counts.shape == (bins,)
    assert (counts >= 0).all()
    assert counts.sum() == pytest.approx(len(values), abs=1e-9)


@given(values.filter(bool), st.integers(1, 9000), st.floats(0.0, 1.0, exclude_max=True))
@few
def test_a_view_over_less_leaves_out_what_is_above(values: list[float], bins: int, share: float) -> None:
    histogram = of(values)
    amax = histogram.maximum * share
    kept = histogram.over(amax, bins).sum()
    assert sum(value < amax - histogram.width for value in values) - 1e-9 <= kept
    assert kept <= sum(value <= amax + histogram.width for value in values) + 1e-9


@given(values.filter(bool), st.integers(0, 12), st.integers(-11, 3))
def test_a_view_whose_bins_join_the_histograms_own_is_exact(values: list[float], log_bins: int, shift: int) -> None:
    histogram = of(values)
    bins, exponent = 2**log_bins, histogram.exponent + shift
    if exponent - log_bins < histogram.exponent - 13:
        return
    amax = 2.0**exponent
    counts = histogram.over(amax, bins)
    expected = np.zeros(bins)
    for value in values:
        place = math.floor(Fraction(value) * bins / Fraction(amax))
        if place < bins:
            expected[place] += 1
        elif value == amax == histogram.maximum:
            expected[-1] += 1
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize("exponent", [-140, -20, -1, 0, 3, 127])
def test_a_view_is_exact_where_the_largest_value_is_a_power_of_two(exponent: int) -> None:
    amax = 2.0**exponent
    draws = np.random.default_rng(1).random(50_000)
    values = np.append(draws * amax, amax).astype(np.float32)
    values = values[values > 0]
    expected, _ = np.histogram(values.astype(np.float64), 2048, (0.0, amax))
    assert np.array_equal(of(values).over(amax, 2048), expected)


@pytest.mark.parametrize("amax", [0.7, 1.0, 1.3, 1.999, 100.0])
@pytest.mark.parametrize("shape", ["uniform", "gauss", "laplace"])
def test_a_view_of_smooth_data_follows_a_count(shape: str, amax: float) -> None:
    """Where edges do not coincide, only values in bins that an edge cuts are misplaced: a few roots of their number."""
    rng = np.random.default_rng(2)
    draws = {
        "uniform": rng.random(400_000),
        "gauss": np.abs(rng.standard_normal(400_000)),
        "laplace": rng.exponential(size=400_000),
    }[shape]
    values = (draws / draws.max() * amax).astype(np.float32)
    values = values[values > 0]
    largest = float(values.max())
    expected, _ = np.histogram(values.astype(np.float64), 2048, (0.0, largest))
    got = of(values).over(largest, 2048)
    assert np.abs(got - expected).max() <= 4 * math.sqrt(expected.max())
    assert np.abs(np.cumsum(got) - np.cumsum(expected)).max() <= 4 * math.sqrt(expected.max())


def test_a_view_of_nothing_is_empty() -> None:
    assert not Histogram.empty().over(1.0, 16).any()
    assert not Histogram.empty().over(0.0, 16).any()
    assert not of([1.0]).over(0.0, 16).any()
