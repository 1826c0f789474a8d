"""Accumulators: which samples they take, what they refuse, and what they keep."""

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calibrators.errors import RangeError
from calibrators.statistics.histogram import BLOCK
from calibrators.statistics.tensor import Accumulator, TensorStatistics

Floats = npt.NDArray[np.float32]

LONG = np.random.default_rng(0).standard_normal(3 * BLOCK + 17).astype(np.float32)


def test_what_has_been_gathered_stays_while_more_comes() -> None:
    accumulator = Accumulator()
    accumulator.add(LONG)
    before = accumulator.statistics()
    accumulator.add(1000 * LONG)
    assert before == TensorStatistics.of(LONG)
    assert accumulator.statistics() == TensorStatistics.of(LONG, 1000 * LONG)


def test_a_sample_is_not_changed() -> None:
    sample = LONG.copy()
    Accumulator(0.5).add(sample)
    assert np.array_equal(sample, LONG)


@pytest.mark.parametrize(
    "sample",
    [
        LONG[:1200].reshape(3, 20, 20).transpose(2, 0, 1),
        LONG[::-1],
        LONG[::3],
        LONG[:1200].reshape(30, 40)[5:20, 7:],
        np.broadcast_to(LONG[:10, None], (10, 7)),
        np.asfortranarray(LONG[:1200].reshape(30, 40)),
        LONG.astype(">f4"),
    ],
    ids=["transposed", "reversed", "strided", "cut", "broadcast", "Fortran order", "big-endian"],
)
def test_memory_layout_does_not_matter(sample: Floats) -> None:
    expected = TensorStatistics.of(np.array(sample.tolist(), np.float32))
    accumulator = Accumulator()
    accumulator.add(sample)
    assert accumulator.statistics() == TensorStatistics.of(sample) == expected


def test_memory_that_may_not_be_written_will_do() -> None:
    sample = LONG.copy()
    sample.flags.writeable = False
    accumulator = Accumulator(1.0)
    accumulator.add(sample)
    assert accumulator.statistics() == TensorStatistics.of(LONG)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.int32])
def test_other_numbers_count_as_float32(dtype: type) -> None:
    values = np.arange(0, 100).astype(dtype)
    accumulator = Accumulator()
    accumulator.add(values)
    assert (
        accumulator.statistics() == TensorStatistics.of(values) == TensorStatistics.of(np.arange(100, dtype=np.float32))
    )


def test_float16_and_float64_are_rounded_to_float32_once() -> None:
    halves = np.float16([6e-8, 65504, -65504, 0.1])
    doubles = np.float64([0.1, 1 / 3, 1e-300, -1e-300, 1 + 2**-30])
    assert TensorStatistics.of(halves) == TensorStatistics.of(halves.astype(np.float32))
    assert TensorStatistics.of(doubles) == TensorStatistics.of(doubles.astype(np.float32))
    assert TensorStatistics.of(doubles).zeros == 2


BAD = {
    "NaN": (math.nan, "NaN"),
    "-NaN": (-math.nan, "NaN"),
    "a signalling NaN": (np.array(0x7F800001, np.uint32).view(np.float32), "NaN"),
    "a negative signalling NaN": (np.array(0xFF800001, np.uint32).view(np.float32), "NaN"),
    "Inf": (math.inf, "infinite"),
    "-Inf": (-math.inf, "infinite"),
}


@pytest.mark.parametrize(("bad", "word"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, LONG.size - 1])
@pytest.mark.parametrize("ceiling", [None, 6.0])
def test_nan_and_infinity_are_refused_by_name(bad: Any, word: str, place: int, ceiling: float | None) -> None:
    sample = LONG.copy()
    sample[place] = bad
    with pytest.raises(RangeError) as error:
        Accumulator(ceiling).add(sample)
    assert str(error.value) == word


@pytest.mark.parametrize(("bad", "word"), BAD.values(), ids=BAD)
def test_nan_and_infinity_are_refused_where_they_are_alone(bad: Any, word: str) -> None:
    with pytest.raises(RangeError, match=f"^{word}$"):
        TensorStatistics.of(np.float32([bad]))


@pytest.mark.parametrize("value", [1e39, -1e39])
def test_a_double_beyond_float32_is_infinite(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(RangeError, match=r"^infinite$"):
            TensorStatistics.of(np.float64([1.0, value]))


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    import tracemalloc

    accumulator = Accumulator(6.0)
    accumulator.add(LONG)
    tracemalloc.start()
    try:
        for _ in range(200):
            accumulator.add(LONG)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


@pytest.mark.parametrize("most", [1, 7, 1000, 3 * BLOCK])
def test_counters_that_could_be_full_are_emptied(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [LONG, LONG[:5] * 1e-3, LONG[:4000] * 1e3, np.zeros(9, np.float32)]
    whole, emptied = Accumulator(1.5), Accumulator(1.5)
    for sample in samples:
        whole.add(sample)
    monkeypatch.setattr("calibrators.statistics.tensor.MOST", most)
    for sample in samples:
        emptied.add(sample)
    assert emptied.statistics() == whole.statistics()
    assert emptied.clipped() == whole.clipped()
