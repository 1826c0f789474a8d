import numpy as np
import pytest

from calibrators.statistics.density import Density
from calibrators.statistics.tensor import TensorStatistics

GAUSS = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)


def test_every_value_is_in_it() -> None:
    statistics = TensorStatistics.of(GAUSS, np.zeros(7, np.float32))
    density = Density.of(statistics)
    assert density.total == 50_007
    for side, histogram in ((density.positive, statistics.positive), (density.negative, statistics.negative)):
        counts = side.density * np.diff(side.edges)
        assert counts.sum() + side.at_maximum == histogram.total
        assert side.edges[0] == 0.0
        assert side.edges[-1] <= side.maximum < side.edges[-1] + histogram.width / density.unit
    assert density.maximum * density.unit == statistics.maximum
    assert density.minimum * density.unit == statistics.minimum
    assert density.amax * density.unit == statistics.amax


def test_the_unit_is_the_wider_sides_bin() -> None:
    """The narrower side keeps its own, finer bins."""
    statistics = TensorStatistics.of([1.0, 0.5, -0.01, -0.0099])
    density = Density.of(statistics)
    assert density.unit == statistics.positive.width == 2 / 8192
    assert np.diff(density.negative.edges)[0] * density.unit == statistics.negative.width == 2.0**-6 / 8192


def test_what_shares_the_largest_values_bin_stands_at_it() -> None:
    density = Density.of(TensorStatistics.of(np.full(9, -2.54)))
    assert (density.negative.at_maximum, density.positive.at_maximum) == (9, 0)
    assert not density.negative.density.any()
    assert density.positive.maximum == 0.0 and density.positive.density.size == 0


@pytest.mark.parametrize("fine", [128, 512])
def test_merged_bins_hold_the_same_values(fine: int) -> None:
    density = Density.of(TensorStatistics.of(GAUSS))
    for side, merged in zip(
        (density.positive, density.negative),
        (density.merged(fine).positive, density.merged(fine).negative),
        strict=True,
    ):
        assert merged.density.size < 0.4 * side.density.size
        assert set(merged.edges) <= set(side.edges)
        below = np.append(0.0, np.cumsum(side.density * np.diff(side.edges)))
        places = np.searchsorted(side.edges, merged.edges)
        np.testing.assert_allclose(np.diff(below[places]), merged.density * np.diff(merged.edges))
        np.testing.assert_array_equal(merged.edges[: fine + 1], side.edges[: fine + 1])
        widths = np.diff(merged.edges)[fine:-1]
        assert (widths <= merged.edges[fine:-2] * 2 / fine).all()
        assert (merged.maximum, merged.at_maximum) == (side.maximum, side.at_maximum)


def test_few_occupied_bins_stay_as_they_are() -> None:
    density = Density.of(TensorStatistics.of(np.linspace(0, 1, 256)))
    assert density.merged(128).positive is density.positive
