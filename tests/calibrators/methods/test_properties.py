"""What holds of every range method, on every kind of grid."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.ranges import METHODS, range_of
from calibrators.statistics.tensor import Accumulator, TensorStatistics

Values = npt.NDArray[np.float32]

LARGEST = float(np.finfo(np.float32).max)

GRIDS = {
    "int8": Grid(),
    "narrow int8": Grid(narrow=True),
    "uint8 about its middle": Grid(signed=False),
    "int4": Grid(bits=4),
    "int16": Grid(bits=16),
    "asymmetric int8": Grid(symmetric=False),
    "asymmetric narrow int8": Grid(narrow=True, symmetric=False),
    "asymmetric uint4": Grid(bits=4, signed=False, symmetric=False),
    "asymmetric uint16": Grid(bits=16, signed=False, symmetric=False),
    "power of two": Grid(power_of_two=True),
    "asymmetric power of two": Grid(symmetric=False, power_of_two=True),
}

every = pytest.mark.parametrize("method", [*METHODS, "percentile:90"])
any_grid = st.sampled_from(list(GRIDS))

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
ordinary = st.one_of(st.floats(-100, 100, width=32), st.floats(0, 1, width=32), st.integers(-4, 4).map(float))


def samples(elements: st.SearchStrategy[float]) -> st.SearchStrategy[list[Values]]:
    return st.lists(arrays(np.float32, st.integers(0, 40), elements=elements), min_size=1, max_size=6)


def bell(seed: int) -> Values:
    """Some thousand values that look like an activation's."""
    rng = np.random.default_rng(seed)
    gauss = rng.standard_normal(3000)
    kinds = [gauss, np.maximum(gauss, 0), rng.laplace(0, 1, 3000), rng.gamma(2, 1, 3000) - 0.5, -np.abs(gauss)]
    return (kinds[seed % len(kinds)] * rng.choice([1e-3, 1.0, 50.0])).astype(np.float32)


BELLS = [bell(seed) for seed in range(5)]


def merged(shards: Sequence[Sequence[Values]]) -> TensorStatistics:
    """The statistics of shards, each fed to an accumulator of its own."""
    total = TensorStatistics.empty()
    for shard in shards:
        accumulator = Accumulator()
        for sample in shard:
            accumulator.add(sample)
        total = accumulator.statistics() + total
    return total


# The same values, the same ranges


@every
@given(any_grid, samples(finite), st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_no_order_and_no_split_changes_a_bit(method, grid, values, random, parts) -> None:
    whole = range_of(TensorStatistics.of(*values), method, GRIDS[grid])
    order = random.sample(values, len(values))
    shards = [order[part::parts] for part in range(parts)]
    assert range_of(merged(shards), method, GRIDS[grid]) == whole


@every
@pytest.mark.parametrize("number", range(len(BELLS)))
def test_where_the_histogram_started_does_not_matter(method: str, number: int) -> None:
    """Other observers take the first batch's range: a tiny or a huge sample is fed first, in between and last."""
    values = np.array_split(BELLS[number], 20)
    tiny, huge = BELLS[number][:100] * np.float32(2.0**-30), BELLS[number][:3] * np.float32(10)
    orders = [tiny, *values, huge], [huge, *values, tiny], [*values[:9], tiny, huge, *values[9:]]
    statistics = [merged([order]) for order in orders]
    for grid in GRIDS.values():
        assert len({range_of(each, method, grid) for each in statistics}) == 1


# Scale


@every
@given(
    any_grid,
    arrays(np.int32, st.integers(1, 60), elements=st.integers(-(2**20), 2**20)),
    st.sampled_from([-149, -148, -130, -126, -60, -1, 1, 64, 107]),
)
@settings(max_examples=40, deadline=None)
def test_a_power_of_two_scales_ranges_to_the_bit(method, grid, numbers, k) -> None:
    """From subnormals to the largest float32, as long as the scaled values are themselves float32 numbers.

    These are: whole numbers of 2**-149 up to 2**20 of them, and up to 2**127. A value that loses bits below 2**-149, or
    overflows, is another one, and so is the range.
    """
    values = numbers.astype(np.float32)
    scaled = np.ldexp(values, k).astype(np.float32)
    plain = range_of(TensorStatistics.of(values), method, GRIDS[grid])
    found = range_of(TensorStatistics.of(scaled), method, GRIDS[grid])
    assert (found.minimum, found.maximum) == (plain.minimum * 2.0**k, plain.maximum * 2.0**k)


@every
@pytest.mark.parametrize("k", [-100, 1, 100])
@pytest.mark.parametrize("number", range(len(BELLS)))
def test_a_power_of_two_scales_an_activations_range_to_the_bit(method: str, k: int, number: int) -> None:
    values = np.where(np.abs(BELLS[number]) < 1e-7, np.float32(0), BELLS[number])
    statistics, scaled = TensorStatistics.of(values), TensorStatistics.of(values * np.float32(2.0**k))
    for grid in GRIDS.values():
        plain, found = range_of(statistics, method, grid), range_of(scaled, method, grid)
        assert (found.minimum, found.maximum) == (plain.minimum * 2.0**k, plain.maximum * 2.0**k)


# Sign


@pytest.mark.parametrize("grid", ["narrow int8", "power of two"])
@every
@given(samples(ordinary))
@settings(max_examples=20, deadline=None)
def test_negation_mirrors_a_symmetric_range(method, grid, values) -> None:
    """On a grid that is symmetric itself, which int8 with -128 is not."""
    levels = Grid(narrow=True, power_of_two=GRIDS[grid].power_of_two)
    negated = [-sample for sample in values]
    assert range_of(TensorStatistics.of(*negated), method, levels) == range_of(
        TensorStatistics.of(*values), method, levels
    )


@pytest.mark.parametrize("method", ["minmax", "mean", "percentile", "percentile:90"])
@given(samples(ordinary))
@settings(max_examples=25, deadline=None)
def test_negation_mirrors_both_ends(method, values) -> None:
    grid = Grid(symmetric=False)
    plain = range_of(TensorStatistics.of(*values), method, grid)
    assume(plain.minimum < 0 < plain.maximum)
    found = range_of(TensorStatistics.of(*(-sample for sample in values)), method, grid)
    assert found == Range(-plain.maximum, -plain.minimum)


# Bounds


def held(found: Range, statistics: TensorStatistics, method: str, grid: Grid) -> bool:
    """Whether a range lies within what was seen, half of one of its 2048 bins more for entropy.

    Where scales are powers of two, a search returns the ends of what a scale represents: not above twice the whole
    range, and a step.
    """
    slack = 0.5 / 2048 if method in ("entropy", "best") else 0.0
    if grid.power_of_two:
        slack = 1.0 + 4 / 2**grid.bits
    lowest, highest = statistics.minimum, statistics.maximum
    if grid.symmetric:
        lowest, highest = -statistics.amax, statistics.amax
    more = slack * (highest - lowest)
    return lowest - more <= found.minimum <= 0 <= found.maximum <= highest + more


@every
@given(any_grid, samples(finite))
@settings(max_examples=40, deadline=None)
def test_a_range_lies_within_what_was_seen(method, grid, values) -> None:
    statistics = TensorStatistics.of(*values)
    found = range_of(statistics, method, GRIDS[grid])
    assert held(found, statistics, method, GRIDS[grid])
    assert (found.amax > 0) == (statistics.amax > 0)
    if GRIDS[grid].symmetric:
        assert found.minimum == -found.maximum


@every
@pytest.mark.parametrize("number", range(len(BELLS)))
def test_an_activations_range_holds_most_of_it(method: str, number: int) -> None:
    statistics = TensorStatistics.of(*np.array_split(BELLS[number], 10))
    for grid in GRIDS.values():
        found = range_of(statistics, method, grid)
        assert held(found, statistics, method, grid)
        inside = (found.minimum <= BELLS[number]) & (found.maximum >= BELLS[number])
        assert inside.mean() > 0.75


# Extreme tensors


@every
@pytest.mark.parametrize("values", [[[0.0]], [[-0.0, 0.0], [0.0]], [[]], [[], [0.0]]])
def test_a_tensor_of_zeros_has_the_range_0(method: str, values: list[list[float]]) -> None:
    for grid in GRIDS.values():
        assert range_of(TensorStatistics.of(*values), method, grid) == Range(0.0, 0.0)


@every
@pytest.mark.parametrize("value", [1.0, -0.1, 2.0**-149, -(2.0**-130), LARGEST, -LARGEST])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_constant_tensor_keeps_its_value(method: str, value: float, times: int) -> None:
    """To the width of a bin, or a power of two."""
    statistics = TensorStatistics.of(np.full(times, value, np.float32))
    for grid in GRIDS.values():
        found = range_of(statistics, method, grid)
        assert held(found, statistics, method, grid)
        end = found.maximum if value > 0 else -found.minimum
        assert end >= statistics.amax * (0.5 if grid.power_of_two else 1 - 1 / 4096)


@every
@pytest.mark.parametrize("outlier", [50.0, -1e4, 1e30, -LARGEST])
def test_one_outlier_leaves_a_range(method: str, outlier: float) -> None:
    statistics = TensorStatistics.of(np.append(BELLS[0], np.float32(outlier)), BELLS[0])
    for grid in GRIDS.values():
        found = range_of(statistics, method, grid)
        assert held(found, statistics, method, grid)
        assert found.amax > 0


@every
@pytest.mark.parametrize("scale", [2.0**-149, 2.0**-126, LARGEST / 8])
def test_subnormal_and_huge_tensors_have_ranges(method: str, scale: float) -> None:
    values = (np.rint(BELLS[2] / np.abs(BELLS[2]).max() * 8) * scale).astype(np.float32)
    statistics = TensorStatistics.of(values)
    assert 0 < statistics.amax == np.float32(8 * scale)
    for grid in GRIDS.values():
        found = range_of(statistics, method, grid)
        assert held(found, statistics, method, grid)
        assert found.amax > 0
