"""Measures of tensors against plain NumPy, and their sums over parts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrators.encoding import Encoding
from calibrators.grid import Grid
from trtcal.analysis.errors.fidelity import Channels, Fidelity, GridUse, quantized, spread

FLOATS = st.floats(-1e3, 1e3, width=32)
ARRAYS = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)), elements=FLOATS)
GRIDS = st.sampled_from(
    [Grid(), Grid(bits=4), Grid(symmetric=False), Grid(signed=False, symmetric=False), Grid(bits=6, narrow=True)]
)


@st.composite
def encodings(draw):
    grid = draw(GRIDS)
    zero_point = grid.zero_point if grid.symmetric else draw(st.integers(grid.minimum, grid.maximum))
    return Encoding(np.float32(draw(st.floats(2**-6, 16, width=32))), np.int32(zero_point), grid)


@given(ARRAYS, st.integers(0, 2**32 - 1))
def test_fidelity_in_closed_form(reference, seed):
    values = reference + np.random.default_rng(seed).standard_normal(reference.shape).astype(np.float32)
    found = Fidelity.of(reference, values)
    r, x = reference.astype(np.float64).ravel(), values.astype(np.float64).ravel()
    assert found.noise == pytest.approx(np.sum((r - x) ** 2))
    if np.any(r) and np.any(x != r):
        assert found.sqnr == pytest.approx(10 * np.log10(np.sum(r**2) / np.sum((r - x) ** 2)))
        assert found.cosine == pytest.approx(np.dot(r, x) / np.linalg.norm(r) / np.linalg.norm(x))
    assert -1 <= found.cosine <= 1


@given(ARRAYS, ARRAYS.map(np.ravel))
def test_parts_add_up(one, other):
    other = np.resize(other, one.shape)
    whole = Fidelity.of(np.stack([one, other]), np.stack([other, one]))
    parts = Fidelity.of(one, other) + Fidelity.of(other, one)
    for name in ("signal", "power", "product", "noise"):
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), abs=1e-6)


def test_the_ends_of_the_scale():
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    same = Fidelity.of(ones, ones)
    assert (same.sqnr, same.cosine, same.identical) == (math.inf, 1.0, True)
    assert (Fidelity.of(zeros, ones).sqnr, Fidelity.of(zeros, ones).cosine) == (-math.inf, 0.0)
    assert (Fidelity.of(ones, zeros).sqnr, Fidelity.of(ones, -ones).cosine) == (0.0, -1.0)
    assert Fidelity.of(zeros, zeros).cosine == 1.0


def test_what_is_no_number_is_counted_and_left_out():
    reference = np.array([1, 2, np.nan, np.inf, 3], np.float32)
    values = np.array([1, np.inf, 0, np.inf, 4], np.float32)
    found = Fidelity.of(reference, values)
    assert (found.nonfinite, found.signal, found.noise, found.identical) == (3, 10.0, 1.0, False)
    assert not Fidelity.of(reference[:4], np.append(values[:1], reference[1:4])).identical


@given(ARRAYS, encodings())
def test_quantization_is_the_encodings_own(values, encoding):
    back, use, _ = quantized(values, values, encoding, None)
    levels = encoding.quantize(values)
    assert np.array_equal(back, encoding.fake_quantize(values))
    grid = encoding.grid
    assert np.array_equal(use.counts, np.bincount(levels.ravel() - grid.minimum, minlength=len(use.counts)))
    free = np.rint(values / encoding.scale) + encoding.zero_point
    outside = (free < grid.minimum) | (free > grid.maximum)
    assert use.saturated == np.count_nonzero(outside)
    assert use.saturation == pytest.approx(np.mean(outside))
    assert use.clipped == pytest.approx(np.sum((values.astype(np.float64) - back)[outside] ** 2))
    ends = abs(grid.minimum - int(encoding.zero_point)), abs(grid.maximum - int(encoding.zero_point))
    assert use.reach == pytest.approx(np.abs(levels - encoding.zero_point).max() / max(ends))
    assert use.occupied == len(np.unique(levels)) / (grid.maximum - grid.minimum + 1)


@given(ARRAYS, encodings(), st.integers(0, 2))
def test_channels_in_closed_form(values, encoding, axis):
    reference = values[::-1] * np.float32(0.5)
    back, _, found = quantized(values, reference, encoding, axis)
    others = tuple(each for each in range(3) if each != axis)
    error = values.astype(np.float64) - back
    assert np.array_equal(found.amax, np.abs(reference).max(axis=others))
    assert np.array_equal(found.level, np.abs(encoding.quantize(values) - encoding.zero_point).max(axis=others))
    assert found.noise == pytest.approx(np.sum(error**2, axis=others))
    assert found.signal == pytest.approx(np.sum(values.astype(np.float64) ** 2, axis=others))
    assert set(found.dead) == set(np.flatnonzero(found.amax == 0))
    assert not set(found.dead) & set(found.lost)


@given(ARRAYS, encodings(), st.integers(1, 3))
def test_uses_and_channels_of_samples_add_up(values, encoding, cut):
    whole = quantized(values, values, encoding, 1)
    if cut >= len(values):
        return
    first, second = (quantized(part, part, encoding, 1) for part in (values[:cut], values[cut:]))
    use, channels = first[1] + second[1], first[2] + second[2]
    assert (use.saturated, use.total) == (whole[1].saturated, whole[1].total)
    assert np.array_equal(use.counts, whole[1].counts)
    for name in ("amax", "level"):
        assert np.array_equal(getattr(channels, name), getattr(whole[2], name))
    assert channels.noise == pytest.approx(whole[2].noise)


def test_levels_that_count_equally():
    encoding = Encoding(np.float32(1), np.int32(0))
    _, use, _ = quantized(np.repeat(np.arange(-4, 5), 5).astype(np.float32), np.zeros(45), encoding, None)
    assert use.effective == pytest.approx(8)  # -4 to 4 but for 0
    _, use, _ = quantized(np.zeros(9, np.float32), np.zeros(9), encoding, None)
    assert (use.effective, use.reach, use.occupied) == (0.0, 0.0, 1 / 256)
    assert (GridUse.nothing(encoding).saturation, GridUse.nothing(encoding).reach) == (0.0, 0.0)


def test_dead_lost_and_dominant_channels():
    values = np.array([[0, 0, 0], [0.1, 0.2, -0.1], [3, -2, 1], [100, 50, 0]], np.float32).T
    _, _, found = quantized(values, values, Encoding(np.float32(1), np.int32(0)), -1)
    assert (found.dead, found.lost) == ((0,), (1,))
    assert found.spread == pytest.approx(100 / 3)
    assert found.sqnr == math.inf  # of the three that are not dead, two are whole numbers
    assert spread(np.zeros(4)) == 1.0
    assert Channels(np.zeros(2), np.zeros(2, np.int64), np.zeros(2), np.zeros(2)).sqnr == math.inf


def test_infinity_is_clipped_and_nan_is_zero():
    values = np.array([np.nan, np.inf, -np.inf, 5], np.float32)
    back, use, channels = quantized(values, values, Encoding(np.float32(1), np.int32(0)), None)
    assert back.tolist() == [0, 127, -128, 5]
    assert (use.saturated, use.clipped) == (2, 0.0)
    assert (channels.amax.tolist(), channels.noise.tolist()) == ([5.0], [0.0])
