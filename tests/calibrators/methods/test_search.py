"""The search by itself: losses whose least place is known."""

import numpy as np
import pytest

from calibrators.grid import Grid
from calibrators.methods.loss import Lattices, squared_errors
from calibrators.methods.search import COARSE, SMALLEST, least_loss
from calibrators.range import Range
from calibrators.statistics.density import Density, Floats
from calibrators.statistics.tensor import TensorStatistics

RNG = np.random.default_rng(0)
TWO_SIDED = TensorStatistics.of(RNG.standard_normal(20_000))
ONE_SIDED = TensorStatistics.of(np.abs(RNG.standard_normal(20_000)))
SYMMETRIC, ASYMMETRIC = Grid(bits=16), Grid(bits=16, symmetric=False)


def ends(density: Density, lattices: Lattices) -> tuple[Floats, Floats]:
    """What lattices represent, as parts of what was seen."""
    return lattices.steps * lattices.below / -density.minimum, lattices.steps * lattices.above / density.maximum


@pytest.mark.parametrize("part", [1.0, 0.873, 0.5, 0.1, 0.013, 0.0007])
def test_a_minimum_is_found_wherever_it_is(part: float) -> None:
    def losses(density: Density, lattices: Lattices) -> Floats:
        return np.abs(np.log(lattices.steps * lattices.above / density.amax / part))

    assert least_loss(TWO_SIDED, SYMMETRIC, losses).maximum == pytest.approx(part * TWO_SIDED.amax, rel=2e-3)
    one_sided = least_loss(ONE_SIDED, ASYMMETRIC, losses)
    assert one_sided == Range(0.0, one_sided.maximum)
    assert one_sided.maximum == pytest.approx(part * ONE_SIDED.amax, rel=2e-3)


@pytest.mark.parametrize(("near", "far"), [(0.0, 0.1), (0.1, 0.0)])
def test_the_lower_of_two_minima_wins(near: float, far: float) -> None:
    """The bulk wants the near one, an outlier the far one."""

    def losses(density: Density, lattices: Lattices) -> Floats:
        part = lattices.steps * lattices.above / density.amax
        return np.minimum(np.abs(np.log(part / 0.004)) + near, np.abs(part - 0.95) + far)

    found = least_loss(TWO_SIDED, SYMMETRIC, losses).maximum
    assert found == pytest.approx((0.004 if near < far else 0.95) * TWO_SIDED.amax, rel=2e-3)


@pytest.mark.parametrize("lower", [1.0, 0.83, 0.3, 0.02])
@pytest.mark.parametrize("upper", [1.0, 0.77, 0.4, 0.01])
def test_both_ends_are_found(lower: float, upper: float) -> None:
    def losses(density: Density, lattices: Lattices) -> Floats:
        below, above = ends(density, lattices)
        return np.abs(np.log(below / lower)) + np.abs(np.log(above / upper))

    found = least_loss(TWO_SIDED, ASYMMETRIC, losses)
    assert found.minimum == pytest.approx(lower * TWO_SIDED.minimum, rel=0.02)
    assert found.maximum == pytest.approx(upper * TWO_SIDED.maximum, rel=0.02)


def test_where_all_is_equal_the_whole_range_is_taken() -> None:
    def losses(density: Density, lattices: Lattices) -> Floats:
        return np.ones(lattices.steps.size)

    for grid in (SYMMETRIC, Grid(bits=4), Grid(power_of_two=True)):
        assert least_loss(TWO_SIDED, grid, losses) == Range.symmetric(TWO_SIDED.amax)
    for grid in (ASYMMETRIC, Grid(symmetric=False, power_of_two=True)):
        assert least_loss(TWO_SIDED, grid, losses) == Range(TWO_SIDED.minimum, TWO_SIDED.maximum)


def test_of_equal_losses_the_largest_range_is_taken() -> None:
    def losses(density: Density, lattices: Lattices) -> Floats:
        return np.where(lattices.steps * lattices.above / density.amax > 0.5, 1.0, 0.0)

    assert least_loss(TWO_SIDED, SYMMETRIC, losses).amax == pytest.approx(0.5 * TWO_SIDED.amax, rel=2e-3)


def test_ranges_down_to_a_bin_are_tried() -> None:
    assert COARSE[0] == 1.0
    assert (np.diff(COARSE) < 0).all()
    assert SMALLEST < COARSE[-1] < 2 * SMALLEST


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("name", ["laplace", "skewed", "far outliers"])
def test_powers_of_two_are_searched_as_if_all_were_tried(name: str, bits: int) -> None:
    rng = np.random.default_rng(1)
    values = {
        "laplace": rng.laplace(0, 1, 20_000),
        "skewed": rng.gamma(2, 1, 20_000) - 0.7,
        "far outliers": np.append(rng.laplace(0, 1, 20_000), [90, -40]),
    }[name]
    grid = Grid(bits=bits, symmetric=False, power_of_two=True)
    statistics = TensorStatistics.of(values)
    density = Density.of(statistics)
    found = least_loss(statistics, grid, squared_errors)
    ends = np.array([[found.minimum, found.maximum]]) / density.unit
    largest = Lattices.of_ranges(np.array([density.minimum]), np.array([density.maximum]), grid).steps[0]
    levels = 2**bits - 1
    steps, below = np.meshgrid(largest * 0.5 ** np.arange(14), np.arange(levels + 1.0), indexing="ij")
    every = Lattices(steps.reshape(-1), below.reshape(-1), levels - below.reshape(-1))
    least = squared_errors(density, every).min()
    assert squared_errors(density, Lattices.of_ranges(ends[:, 0], ends[:, 1], grid))[0] <= least * (1 + 1e-8)
