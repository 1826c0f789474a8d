"""The search that the methods share which minimise a loss: many candidates at once, coarse to fine.

The whole range is always among the candidates, and of equal losses the larger range wins. Small ranges are tried as
well, down to one bin, because one far outlier may make the best of them; a loss may then have several minima, so
more than one is followed.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from calibrators.grid import Grid
from calibrators.methods.loss import Lattices
from calibrators.range import Range
from calibrators.statistics.density import Density, Floats
from calibrators.statistics.histogram import LOG_BINS
from calibrators.statistics.tensor import TensorStatistics

Losses = Callable[[Density, Lattices], Floats]
"""The loss of each lattice, shape (n,), finite and not negative."""

TIE: Final = 1e-9
"""Losses that differ by no more than this fraction are equal."""

SMALLEST: Final = 2.0**-LOG_BINS
"""Of the range: no smaller part is tried, it is less than a bin."""

FIRST, SECOND = 256, 512
"""Bins that are kept as they are for the first and the second look at one end."""

ROUGHER, ROUGH = 128, 512
"""The same at two ends."""

# Products rather than powers, whose last bits differ among processors.
COARSE: Final = np.concatenate([np.arange(50, 15, -1) / 50, 0.3 * np.cumprod(np.full(90, 0.92))])
"""Parts of the range, descending; the last is about `SMALLEST`."""

COARSE_OF_TWO: Final = np.concatenate(
    [np.arange(20, 9, -1) / 20, 0.5 * np.cumprod(np.full(6, 0.75)), 0.089 * np.cumprod(np.full(10, 0.5))]
)
"""The same for each end of a range with two, where all pairs are tried."""

FOLLOWED: Final = 3
"""Minima of the first look that are followed."""

FINER, FINEST = 17, 9
"""Candidates between both neighbours of a minimum, at the second look and at the last, which sees every bin."""

FOLLOWED_OF_TWO: Final = 2
FINER_OF_TWO: Final = 7
ROUGH_ROUNDS, EXACT_ROUNDS = 2, 1

OFFSETS: Final = 33
"""Numbers of levels below 0 that are tried at once for each scale that is a power of two."""


def least_loss(statistics: TensorStatistics, grid: Grid, losses: Losses) -> Range:
    """The range of least loss within the smallest and the largest value seen.

    On a symmetric grid, or where all values have one sign, there is one end to search for, otherwise two. Where scales
    are powers of two, all that are not beyond the whole range's are tried; the ends are then what such a scale
    represents, and may lie beyond the values seen.
    """
    if statistics.amax == 0.0:
        return Range(0.0, 0.0)
    density = Density.of(statistics)
    whole = whole_range(density, grid)
    if grid.power_of_two:
        ends = _powers_of_two(density, whole, grid, losses)
    elif grid.symmetric or 0.0 in whole:
        ends = _one_end(density, whole, grid, losses)
    else:
        ends = _two_ends(density, whole, grid, losses)
    return least(density, np.concatenate([whole[None], ends]), grid, losses)


def whole_range(density: Density, grid: Grid) -> Floats:
    """Both ends of the whole range, shape (2,), in units."""
    if grid.symmetric:
        return np.array([-density.amax, density.amax])
    return np.array([density.minimum, density.maximum])


def least(density: Density, ends: Floats, grid: Grid, losses: Losses) -> Range:
    """Of the ranges with these ends, in units, shape (n, 2), the one that `first_of_least` chooses."""
    best = ends[first_of_least(density, ends, grid, losses)] * density.unit + 0.0  # no -0.0
    return Range(float(best[0]), float(best[1]))


def first_of_least(density: Density, ends: Floats, grid: Grid, losses: Losses) -> int:
    """Which of the ranges with these ends has the least loss: of several the first of all, else the largest."""
    found = _of_ends(density, ends, grid, losses)
    nearly = np.flatnonzero(found <= found.min() + TIE * (found.min() + TIE * density.amax**2))
    return 0 if nearly[0] == 0 else int(nearly[np.argmax(ends[nearly, 1] - ends[nearly, 0])])


def _of_ends(density: Density, ends: Floats, grid: Grid, losses: Losses) -> Floats:
    return losses(density, Lattices.of_ranges(ends[:, 0], ends[:, 1], grid))


def _one_end(density: Density, whole: Floats, grid: Grid, losses: Losses) -> Floats:
    """The ends that are worth a close look where one number, the part of the whole range, says both; shape (n, 2)."""
    found = _of_ends(density.merged(FIRST), COARSE[:, None] * whole, grid, losses)
    padded = np.concatenate([[np.inf], found, [np.inf]])
    minima = np.flatnonzero((found <= padded[:-2]) & (found <= padded[2:]))
    minima = minima[np.argsort(found[minima], kind="stable")[:FOLLOWED]]
    parts = _between(COARSE, minima, FINER)
    best = np.argmin(_of_ends(density.merged(SECOND), parts.reshape(-1, 1) * whole, grid, losses))
    row, column = divmod(int(best), FINER)
    return np.asarray(_between(parts[row], np.array([column]), FINEST).reshape(-1, 1) * whole)


def _two_ends(density: Density, whole: Floats, grid: Grid, losses: Losses) -> Floats:
    """The same where the parts of both ends differ."""
    coarse = COARSE_OF_TWO
    found = _of_ends(density.merged(ROUGHER), _pairs(coarse, coarse) * whole, grid, losses).reshape(
        coarse.size, coarse.size
    )
    padded = np.pad(found, 1, constant_values=np.inf)
    size = coarse.size
    around = [padded[i : i + size, j : j + size] for i in range(3) for j in range(3)]
    minima = np.flatnonzero((found <= np.min(around, axis=0)).reshape(-1))
    minima = minima[np.argsort(found.reshape(-1)[minima], kind="stable")[:FOLLOWED_OF_TWO]]
    boxes = [(coarse, coarse, *divmod(int(minimum), size)) for minimum in minima]
    for view in [density.merged(ROUGH)] * ROUGH_ROUNDS + [density] * EXACT_ROUNDS:
        sides = [_around(box) for box in boxes]
        parts = np.concatenate([_pairs(*side) for side in sides])
        box, place = divmod(int(np.argmin(_of_ends(view, parts * whole, grid, losses))), FINER_OF_TWO**2)
        boxes = [(*sides[box], *divmod(place, FINER_OF_TWO))]
    return np.asarray(_pairs(*_around(boxes[0])) * whole)


def _around(box: tuple[Floats, Floats, int, int]) -> tuple[Floats, Floats]:
    """More parts of either end around a place in the parts before."""
    lower, upper, i, j = box
    return _between(lower, np.array([i]), FINER_OF_TWO)[0], _between(upper, np.array([j]), FINER_OF_TWO)[0]


def _between(parts: Floats, places: npt.NDArray[np.int64], count: int) -> Floats:
    """So many parts from the neighbour above each place to the one below, both included, shape (places, count)."""
    above, below = parts[np.maximum(places - 1, 0)], parts[np.minimum(places + 1, parts.size - 1)]
    return np.asarray(above[..., None] + (below - above)[..., None] * (np.arange(count) / (count - 1)))


def _pairs(lower: Floats, upper: Floats) -> Floats:
    """All pairs, shape (n * m, 2)."""
    return np.stack(np.meshgrid(lower, upper, indexing="ij"), axis=-1).reshape(-1, 2)


def _powers_of_two(density: Density, whole: Floats, grid: Grid, losses: Losses) -> Floats:
    """What allowed scales represent that are not beyond the whole range's, down to one bin; shape (n, 2)."""
    largest = Lattices.of_ranges(whole[:1], whole[1:], grid)
    steps = largest.steps * 0.5 ** np.arange(LOG_BINS + 1)
    if grid.symmetric:
        return np.asarray(steps[:, None] * largest.above * [-1.0, 1.0])
    levels = grid.maximum - grid.minimum
    if 0.0 in whole:
        return np.asarray(steps[:, None] * levels * np.sign(whole))
    # As many levels below 0 as are of use, and as leave no more above it than are of use.
    useful = np.minimum(np.ceil(np.abs(whole) / steps[:, None]), levels)
    most, least_of_them = useful[:, 0], levels - useful[:, 1]
    first, last = np.minimum(most, least_of_them), np.maximum(most, least_of_them)
    view = density.merged(ROUGHER)
    while True:
        below = np.rint(np.linspace(first, last, OFFSETS, axis=1))
        ends = np.stack([-below, levels - below], axis=2) * steps[:, None, None]
        found = _of_ends(view, ends.reshape(-1, 2), grid, losses).reshape(below.shape)
        rows = np.argsort(found.min(1), kind="stable")[:FOLLOWED_OF_TWO]
        best = found[rows].argmin(1)
        if (last - first).max() < OFFSETS:
            return ends[rows].reshape(-1, 2)
        first, last = below[rows, np.maximum(best - 1, 0)], below[rows, np.minimum(best + 1, OFFSETS - 1)]
        steps, view = steps[rows], density
