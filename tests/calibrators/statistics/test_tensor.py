import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from calibrators.errors import RangeError
from calibrators.statistics.file import Statistics
from calibrators.statistics.histogram import BINS, BLOCK, LOWEST_EXPONENT, RUN
from calibrators.statistics.tensor import Accumulator, TensorStatistics

Floats = npt.NDArray[np.float32]

SMALLEST = 2.0**-149
LARGEST = float(np.finfo(np.float32).max)
TINIEST_NORMAL = 2.0**-126

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
awkward = st.sampled_from(
    [0.0, -0.0, SMALLEST, -SMALLEST, TINIEST_NORMAL, -TINIEST_NORMAL, LARGEST, -LARGEST, 1.0, -1.0, 0.5, 6.0]
)
near = st.integers(-40, 40).map(lambda k: k / 8)
elements = st.one_of(finite, awkward, near)
samples = arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=elements)
sample_lists = st.lists(samples, max_size=6)
statistics = sample_lists.map(lambda samples: TensorStatistics.of(*samples))
few = settings(max_examples=30)


@dataclass
class Reference:
    """What statistics are by definition, counted value by value in exact arithmetic."""

    samples: Sequence[Floats]

    def side(self, sign: int) -> list[Fraction]:
        return [Fraction(float(x)) * sign for sample in self.samples for x in sample.reshape(-1) if x * sign > 0]

    def sum_of_largest(self, magnitude: Callable[[Floats], Floats]) -> int:
        """In units of the smallest float32; a sample with nothing above 0 adds 0."""
        total = Fraction(0)
        for sample in self.samples:
            total += max((Fraction(float(x)) for x in magnitude(sample).reshape(-1)), default=Fraction(0))
        units = total * 2**149
        assert units.denominator == 1
        return int(units)

    def check(self, got: TensorStatistics) -> None:
        for histogram, magnitudes in ((got.positive, self.side(1)), (got.negative, self.side(-1))):
            maximum = max(magnitudes, default=Fraction(0))
            exponent = LOWEST_EXPONENT
            while maximum >= Fraction(2) ** exponent:
                exponent += 1
            counts = np.zeros(BINS, np.int64)
            for magnitude in magnitudes:
                counts[math.floor(magnitude * BINS / Fraction(2) ** exponent)] += 1
            assert (histogram.exponent, histogram.maximum) == (exponent, float(maximum))
            assert np.array_equal(histogram.counts, counts)
        assert got.zeros == sum(int((sample == 0).sum()) for sample in self.samples)
        assert got.samples == len(self.samples)
        assert got.total == sum(sample.size for sample in self.samples)
        assert got.highest_sum == self.sum_of_largest(lambda x: np.maximum(x, 0))
        assert got.lowest_sum == self.sum_of_largest(lambda x: np.maximum(-x, 0))
        assert got.absmax_sum == self.sum_of_largest(np.abs)


def saved(statistics: TensorStatistics, folder: Path) -> bytes:
    path = folder / "x.stats.npz"
    Statistics({"x": statistics}).save(path)
    return path.read_bytes()


@given(sample_lists)
def test_they_are_what_a_count_in_exact_arithmetic_gives(samples: list[Floats]) -> None:
    Reference(samples).check(TensorStatistics.of(*samples))


LONG = np.random.default_rng(0).standard_normal(3 * BLOCK + 17).astype(np.float32)
SPECIAL = {
    "no value": np.zeros((0, 3), np.float32),
    "a scalar": np.float32(-2.5),
    "a single zero": np.zeros(1, np.float32),
    "zeros": np.zeros((2, 3), np.float32),
    "negative zeros": np.full((2, 3), -0.0, np.float32),
    "a constant": np.full(1000, 0.1, np.float32),
    "a negative constant": np.full(1000, -0.1, np.float32),
    "the smallest": np.full(3, SMALLEST, np.float32),
    "subnormals": np.ldexp(np.arange(-40, 41, dtype=np.float64), -149).astype(np.float32),
    "around the smallest normal": np.float32([TINIEST_NORMAL - SMALLEST, TINIEST_NORMAL, TINIEST_NORMAL + SMALLEST]),
    "the largest": np.float32([LARGEST, -LARGEST]),
    "the smallest beside the largest": np.float32([SMALLEST, LARGEST, -SMALLEST, -LARGEST]),
    "powers of two": np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32),
    "negative powers of two": -np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32),
    "one outlier at the end": np.append(LONG, np.float32(1e30)),
    "one outlier at the start": np.append(np.float32(-1e30), LONG),
    "small values after a large one": np.append(np.float32(1), np.full(5000, 1e-20, np.float32)),
    "rising over many binades": np.ldexp(np.float32(1.3), np.arange(-140, 120)).astype(np.float32),
    "a run": LONG[:RUN],
    "one less than a run": LONG[: RUN - 1],
    "one more than a run": LONG[: RUN + 1],
    "a block": LONG[:BLOCK],
    "one less than a block": LONG[: BLOCK - 1],
    "one more than a block": LONG[: BLOCK + 1],
    "several blocks": LONG,
    "a ReLU's output": np.maximum(LONG, 0),
    "zeros in the last block": np.append(LONG, np.zeros(BLOCK, np.float32)),
}


@pytest.mark.parametrize("sample", SPECIAL.values(), ids=SPECIAL)
def test_special_samples(sample: Floats) -> None:
    Reference([np.asarray(sample)]).check(TensorStatistics.of(sample))


def test_large_arrays_count_as_numpy_does() -> None:
    values = np.random.default_rng(3).standard_t(2, 1_000_003).astype(np.float32)
    got = TensorStatistics.of(values)
    for histogram, magnitudes in ((got.positive, values[values > 0]), (got.negative, -values[values < 0])):
        exponent = math.frexp(float(magnitudes.max()))[1]
        places = np.floor(np.ldexp(magnitudes.astype(np.float64), 13 - exponent)).astype(np.int64)
        assert histogram.exponent == exponent
        assert np.array_equal(histogram.counts, np.bincount(places, minlength=BINS))
    assert (got.total, got.zeros) == (values.size, int((values == 0).sum()))


@given(sample_lists, st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=60)
def test_any_order_and_any_split_give_the_same(samples: list[Floats], random: Any, shards: int) -> None:
    once = TensorStatistics.of(*samples)
    shuffled = random.sample(samples, len(samples))
    parts: list[list[Floats]] = [[] for _ in range(shards)]
    for sample in shuffled:
        random.choice(parts).append(sample)
    merged = TensorStatistics.empty()
    for part in parts:
        merged = merged + TensorStatistics.of(*part)
    assert TensorStatistics.of(*shuffled) == once == merged


@given(samples, st.randoms(use_true_random=False))
@few
def test_the_order_of_the_values_within_a_sample_does_not_matter(sample: Floats, random: Any) -> None:
    values = sample.reshape(-1).tolist()
    random.shuffle(values)
    assert TensorStatistics.of(values) == TensorStatistics.of(sample)


def many_samples() -> list[Floats]:
    rng = np.random.default_rng(4)
    scales = np.exp2(rng.integers(-30, 30, 48))
    return [(scale * rng.standard_normal((3, 5000))).astype(np.float32) for scale in scales]


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("ceiling", [None, 6.0])
def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path, threads: int, ceiling: float | None) -> None:
    samples = many_samples()
    expected = TensorStatistics.of(*samples)
    accumulator = Accumulator(ceiling)
    order = np.random.default_rng(threads).permutation(len(samples))
    workers = [
        threading.Thread(target=lambda mine: [accumulator.add(samples[i]) for i in mine], args=(order[k::threads],))
        for k in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert accumulator.statistics() == expected
    assert saved(accumulator.statistics(), tmp_path) == saved(expected, tmp_path)


def test_any_shards_give_the_same_bytes(tmp_path: Path) -> None:
    samples = many_samples()
    whole = saved(TensorStatistics.of(*samples), tmp_path)
    for cut in (1, 7, 24, 47):
        one, other = TensorStatistics.of(*samples[:cut]), TensorStatistics.of(*samples[cut:])
        assert saved(one + other, tmp_path) == whole == saved(other + one, tmp_path)


@given(statistics, statistics)
@few
def test_addition_commutes(a: TensorStatistics, b: TensorStatistics) -> None:
    assert a + b == b + a


@given(statistics, statistics, statistics)
@few
def test_addition_is_associative(a: TensorStatistics, b: TensorStatistics, c: TensorStatistics) -> None:
    assert (a + b) + c == a + (b + c)


@given(statistics)
@few
def test_no_sample_is_neutral(some: TensorStatistics) -> None:
    assert some + TensorStatistics.empty() == some == TensorStatistics.empty() + some
    assert TensorStatistics.of() == TensorStatistics.empty() == Accumulator().statistics()


@given(sample_lists)
@few
def test_after_a_relu_they_are_those_of_its_output(samples: list[Floats]) -> None:
    outputs = [np.maximum(sample, np.float32(0)) for sample in samples]
    assert TensorStatistics.of(*samples).after_relu() == TensorStatistics.of(*outputs)


@given(sample_lists, st.floats(SMALLEST, LARGEST, width=32) | st.sampled_from([6.0, 1.0, SMALLEST, LARGEST]))
def test_clipped_they_are_those_of_the_clipped_values(samples: list[Floats], ceiling: float) -> None:
    accumulator = Accumulator(ceiling)
    for sample in samples:
        accumulator.add(sample)
    outputs = [np.clip(sample, np.float32(0), np.float32(ceiling)) for sample in samples]
    assert accumulator.clipped() == TensorStatistics.of(*outputs)
    assert accumulator.statistics() == TensorStatistics.of(*samples)


@pytest.mark.parametrize("sample", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("ceiling", [6.0, 0.1, 1.0, 100.0])
def test_special_samples_clipped(sample: Floats, ceiling: float) -> None:
    accumulator = Accumulator(ceiling)
    for part in (sample, sample):
        accumulator.add(np.asarray(part))
    output = np.clip(sample, np.float32(0), np.float32(ceiling))
    assert accumulator.clipped() == TensorStatistics.of(output, output)
    assert accumulator.statistics() == TensorStatistics.of(sample, sample)


def test_clipping_without_a_ceiling_is_a_relu() -> None:
    accumulator = Accumulator()
    accumulator.add(LONG)
    assert accumulator.clipped() == TensorStatistics.of(LONG).after_relu()


@pytest.mark.parametrize("ceiling", [0.0, -0.0, -6.0, math.nan, -math.inf, 1e-60])
def test_a_ceiling_that_leaves_nothing_is_refused(ceiling: float) -> None:
    with pytest.raises(RangeError, match="a ceiling is above 0"):
        Accumulator(ceiling)


def test_extremes_and_means() -> None:
    got = TensorStatistics.of([1.0, -3.0], [0.5, 0.0], [-0.25], [0.0], [])
    assert (got.minimum, got.maximum, got.amax) == (-3.0, 1.0, 3.0)
    assert (got.total, got.zeros, got.samples) == (6, 2, 5)
    assert got.mean_absmax == (3.0 + 0.5 + 0.25) / 5
    assert got.magnitudes() == TensorStatistics.of([1.0, 3.0, 0.5, 0.25]).positive


def test_of_nothing_all_is_zero() -> None:
    nothing = TensorStatistics.empty()
    assert (nothing.minimum, nothing.maximum, nothing.amax, nothing.mean_absmax, nothing.total) == (0, 0, 0, 0, 0)


def test_means_do_not_drift() -> None:
    """10,000 samples whose float32 sum would stop growing at 2**24 times the smallest of them."""
    accumulator = Accumulator()
    accumulator.add(np.float32([2.0**60]))
    for _ in range(10_000):
        accumulator.add(np.float32([-(2.0**-60)]))
    got = accumulator.statistics()
    assert Fraction(got.absmax_sum, 2**149) == Fraction(2) ** 60 + 10_000 * Fraction(2) ** -60
    assert Fraction(got.lowest_sum, 2**149) == 10_000 * Fraction(2) ** -60


@given(statistics)
@few
def test_they_are_values(some: TensorStatistics) -> None:
    assert some == replace(some)
    assert some != replace(some, samples=some.samples + 1)
    assert some != replace(some, zeros=some.zeros + 1)
    assert some != replace(some, absmax_sum=some.absmax_sum + 1)
    assert some != object()
    with pytest.raises(FrozenInstanceError):
        some.zeros = 0  # type: ignore[misc]


@pytest.mark.parametrize("part", ["zeros", "samples", "highest_sum", "lowest_sum", "absmax_sum"])
def test_negative_counts_are_refused_at_birth(part: str) -> None:
    with pytest.raises(RangeError, match="not negative"):
        replace(TensorStatistics.of([1.0]), **{part: -1})
