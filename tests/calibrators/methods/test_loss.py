"""Expected errors against those of the very values: they lie in the bins as statistics count them."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calibrators.encoding import Encoding
from calibrators.grid import Grid
from calibrators.methods.loss import (
    Lattices,
    absolute_errors,
    expected_error,
    moments,
    moments_of_values,
    slopes,
    squared_errors,
)
from calibrators.range import Range
from calibrators.statistics.density import Density
from calibrators.statistics.tensor import TensorStatistics

Floats = npt.NDArray[np.float64]

RNG = np.random.default_rng(0)
GAUSS = RNG.standard_normal(50_000)
TENSORS = {
    "gauss": GAUSS,
    "relu": np.maximum(GAUSS, 0),
    "laplace": RNG.laplace(0, 1, 50_000),
    "uniform": RNG.uniform(-1, 3, 50_000),
    "silu": GAUSS / (1 + np.exp(-GAUSS)),
    "negative": -RNG.gamma(2, 1, 50_000),
    "sides of two sizes": np.concatenate([RNG.uniform(0, 1, 20_000), RNG.uniform(-1e-3, 0, 20_000)]),
}
TENSORS = {name: values.astype(np.float32) for name, values in TENSORS.items()}
GRIDS = {
    "int8": Grid(),
    "narrow int8": Grid(narrow=True),
    "uint8 about its middle": Grid(signed=False),
    "int4": Grid(bits=4),
    "int2": Grid(bits=2),
    "asymmetric int8": Grid(symmetric=False),
    "asymmetric uint4": Grid(bits=4, signed=False, symmetric=False),
    "power of two": Grid(power_of_two=True),
    "asymmetric power of two": Grid(symmetric=False, power_of_two=True),
    "int16": Grid(bits=16),
    "asymmetric int16": Grid(bits=16, symmetric=False),
}


def part(values: npt.NDArray[np.float32], grid: Grid, kept: float) -> Range:
    """That part of the whole range."""
    ends = kept * min(float(values.min()), 0.0), kept * max(float(values.max()), 0.0)
    return Range.symmetric(max(-ends[0], ends[1])) if grid.symmetric else Range(*ends)


def quantized(values: npt.NDArray[np.float32], represented: Range, grid: Grid) -> Floats:
    return Encoding.of_range(represented, grid).fake_quantize(values).astype(np.float64)


def lattice(density: Density, represented: Range, grid: Grid) -> Lattices:
    ends = np.array([[represented.minimum], [represented.maximum]]) / density.unit
    return Lattices.of_ranges(ends[0], ends[1], grid)


@pytest.mark.parametrize("kept", [1.0, 0.8, 0.3, 0.01])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", TENSORS)
def test_errors_are_those_of_the_values(name: str, grid: str, kept: float) -> None:
    """To 0.4 %; to 3 % at 16 bits, where steps are finer than bins and the 50,000 values are a sample of their bins."""
    values, levels = TENSORS[name], GRIDS[grid]
    represented = part(values, levels, kept)
    true = values.astype(np.float64) - quantized(values, represented, levels)
    statistics = TensorStatistics.of(values)
    density = Density.of(statistics)
    tolerance = 0.03 if levels.bits == 16 else 0.004
    squared = expected_error(statistics, represented, levels)
    assert squared == pytest.approx((true**2).mean(), rel=tolerance)
    absolute = absolute_errors(density, lattice(density, represented, levels))[0] * density.unit
    assert absolute == pytest.approx(np.abs(true).mean(), rel=tolerance)


@pytest.mark.parametrize("kept", [1.0, 0.3])
@pytest.mark.parametrize("grid", ["int8", "int4", "asymmetric int8", "int16"])
@pytest.mark.parametrize("name", TENSORS)
def test_moments_and_slopes_are_those_of_the_values(name: str, grid: str, kept: float) -> None:
    values, levels = TENSORS[name].astype(np.float64), GRIDS[grid]
    represented = part(TENSORS[name], levels, kept)
    x = quantized(TENSORS[name], represented, levels)
    density = Density.of(TensorStatistics.of(TENSORS[name]))
    lattices = lattice(density, represented, levels)
    step = float(lattices.steps[0]) * density.unit
    one_bin = density.unit
    error, quantized_square = moments(density, lattices)
    assert error[0] * density.unit == pytest.approx((values - x).mean(), abs=one_bin / 2)
    assert quantized_square[0] * density.unit**2 == pytest.approx((x**2).mean(), rel=1e-3)
    mean, square = np.array(moments_of_values(density)) * [density.unit, density.unit**2]
    assert (mean, square) == (
        pytest.approx(values.mean(), abs=one_bin / 10),
        pytest.approx((values**2).mean(), rel=1e-4),
    )
    level = x / step
    expected = (level * (values / step - level)).mean()
    # A value's place in its bin, of which a step has so many, moves its part of the mean by up to so much.
    known = np.abs(level).mean() * one_bin / step
    assert slopes(density, lattices)[0] == pytest.approx(expected, abs=max(known, 0.02), rel=0.01)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60),
    st.sampled_from([grid for grid in GRIDS.values() if grid.bits <= 8]),
    st.floats(0.05, 1),
)
@settings(max_examples=100)
def test_any_values_errors_are_known_to_a_bin(values: list[float], grid: Grid, kept: float) -> None:
    """Where x moves by a bin w, (x - x^)^2 moves by 2 |x - x^| w + w^2 at most: nothing jumps."""
    array = np.array(values, np.float32)
    represented = part(array, grid, kept)
    assume(not 0 < represented.amax < 2.0**-110)  # float32 rounds such a small scale by more than a bin
    statistics = TensorStatistics.of(array)
    try:
        true = np.abs(array - quantized(array, represented, grid))
    except ValueError:  # no scale in float32
        return
    one_bin = max(statistics.positive.width, statistics.negative.width)
    slack = (2 * true * one_bin + one_bin**2).mean() + 1e-6 * statistics.amax**2
    assert expected_error(statistics, represented, grid) == pytest.approx(float((true**2).mean()), abs=slack)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("value", [2.54, -2.54, 2.0**-149, -(2.0**-130), 3e38])
def test_a_constant_tensor_is_represented_exactly(grid: str, value: float) -> None:
    """All of it stands at the maximum, which a range that ends there holds, if its scale need not be a power of two."""
    levels = GRIDS[grid]
    statistics = TensorStatistics.of(np.full(1000, value, np.float32))
    whole = part(np.full(1, value, np.float32), levels, 1.0)
    error = expected_error(statistics, whole, levels)
    assert error >= 0
    if not levels.power_of_two:
        assert error <= 1e-20 * statistics.amax**2


def test_one_outlier_is_no_smear() -> None:
    values = np.append(np.zeros(999), 100.0).astype(np.float32)
    assert expected_error(TensorStatistics.of(values), Range.symmetric(50.0), Grid()) == pytest.approx(50.0**2 / 1000)
    assert expected_error(TensorStatistics.of(values), Range.symmetric(100.0), Grid()) == pytest.approx(0, abs=1e-20)


def test_two_values_are_known_to_a_bin() -> None:
    """0.3 lies between levels 38 and 39 of 127; the bin it is in is an 8192nd wide."""
    values = np.array([0.3] * 700 + [-1.0] * 300, np.float32)
    true = float(((values - quantized(values, Range.symmetric(1.0), Grid())) ** 2).mean())
    found = expected_error(TensorStatistics.of(values), Range.symmetric(1.0), Grid())
    assert found == pytest.approx(true, abs=2 * np.sqrt(true) / 4096)


def test_zeros_are_free_and_count() -> None:
    values = TENSORS["gauss"]
    alone = expected_error(TensorStatistics.of(values), Range.symmetric(2.0), Grid())
    diluted = TensorStatistics.of(values, np.zeros(3 * values.size, np.float32))
    assert expected_error(diluted, Range.symmetric(2.0), Grid()) == pytest.approx(alone / 4)
    assert expected_error(TensorStatistics.of(np.zeros(9)), Range.symmetric(2.0), Grid()) == 0.0


def test_a_range_of_nothing_loses_everything() -> None:
    statistics = TensorStatistics.of(TENSORS["gauss"])
    square = (TENSORS["gauss"].astype(np.float64) ** 2).mean()
    assert expected_error(statistics, Range(0.0, 0.0), Grid()) == pytest.approx(square, rel=1e-4)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("k", [-120, -60, 3, 120])
def test_a_power_of_two_scales_errors_to_the_bit(grid: str, k: int) -> None:
    levels = GRIDS[grid]
    values = np.where(np.abs(TENSORS["gauss"]) < 1e-3, np.float32(0), TENSORS["gauss"])
    represented = part(values, levels, 0.7)
    scaled = Range(represented.minimum * 2.0**k, represented.maximum * 2.0**k)
    error = expected_error(TensorStatistics.of(values), represented, levels)
    assert (
        expected_error(TensorStatistics.of(values * np.float32(2.0**k)), scaled, levels) == error * 2.0 ** (2 * k) > 0
    )


@pytest.mark.parametrize("fine", [128, 512])
@pytest.mark.parametrize("name", TENSORS)
def test_merged_bins_give_nearly_the_same_errors(name: str, fine: int) -> None:
    density = Density.of(TensorStatistics.of(TENSORS[name]))
    merged = density.merged(fine)
    assert merged.positive.density.size < 0.4 * density.positive.density.size or not density.positive.maximum
    parts = np.linspace(0.05, 1.0, 50)
    for grid in (Grid(), Grid(bits=4), Grid(symmetric=False)):
        lattices = Lattices.of_ranges(parts * min(density.minimum, -0.1), parts * density.amax, grid)
        np.testing.assert_allclose(squared_errors(merged, lattices), squared_errors(density, lattices), rtol=0.03)


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if "16" not in grid])
def test_lattices_are_those_of_encodings(grid: str) -> None:
    levels = GRIDS[grid]
    for minimum, maximum in [(-1.0, 3.0), (-3.0, 1.0), (0.0, 2.0), (-2.0, 0.0), (-1e-9, 1.0), (-0.9, 0.9)]:
        represented = Range.symmetric(max(-minimum, maximum)) if levels.symmetric else Range(minimum, maximum)
        encoding = Encoding.of_range(represented, levels)
        found = Lattices.of_ranges(np.array([represented.minimum]), np.array([represented.maximum]), levels)
        assert np.float32(found.steps[0]) == encoding.scale
        assert (found.below[0], found.above[0]) == (
            int(encoding.zero_point) - levels.minimum,
            levels.maximum - int(encoding.zero_point),
        )


def test_the_kernel_is_compiled_once() -> None:
    """An array that is read-only or has gaps would cost another second."""
    from calibrators.methods import loss
    from calibrators.ranges import METHODS, range_of

    for method in METHODS:
        for grid in (Grid(), Grid(symmetric=False), Grid(symmetric=False, power_of_two=True)):
            range_of(TensorStatistics.of(TENSORS["laplace"]), method, grid)
    assert len(loss._integrals.signatures) == 1
