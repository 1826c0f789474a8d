"""The least-squares scale: alternately the best levels for a scale and the best scale for these levels.

``q = clip(round(x / s))`` are the best levels for s, ``s = sum(q x) / sum(q^2)`` is the best scale for q, and neither
step ever raises the sum of (x - s q)^2. MNN's "ADMM" quantization walks so from one start. The walk creeps: at 8 bits
it takes some hundred rounds, and gets stuck where no value changes its level. So its ends are found directly: from s it
leads up where sum(q (x - s q)) is above 0, else down, and it ends where the sign changes from above 0 to below.
"""

from typing import Final

import numpy as np

from calibrators.grid import Grid
from calibrators.methods.loss import Lattices, slopes, squared_errors
from calibrators.methods.search import ROUGH, ROUGHER, least, least_loss, whole_range
from calibrators.range import Range
from calibrators.statistics.density import Density, Floats
from calibrators.statistics.tensor import TensorStatistics

STARTS: Final = np.concatenate([np.arange(100, 30, -1) / 100, 0.3 * np.cumprod(np.full(120, 0.94))])
"""Parts of the whole range's scale from which walks begin, descending to about a bin's."""

ENDS: Final = 4
"""Ends of walks that are looked at closely."""

SECTIONS: Final = 16
"""Into so many the interval is cut in which the sign changes, twice; then the sign's sum is nearly a line."""

OFFSETS: Final = (0.0, 1 / 16, 0.5, 15 / 16)
"""Parts of the levels that lie below 0 at first."""

NEAR: Final = (1.0, 0.93, 1.08, 1.16)
"""The same as parts of what the whole range has, or nearly as if one end of it were clipped so far."""

ROUNDS: Final = ((0.15, 0.25), (0.05, 0.08), (0.02, 0.02), (0.005, 0.005))
"""How far from the last one a scale is looked for, as a part of it, and an offset, as a part of the levels."""

TRIED: Final = 17


def lsq_scale_range(statistics: TensorStatistics, grid: Grid) -> Range:
    """The range of the scale at which the alternation of levels and scale ends, the best of many starts.

    On an asymmetric grid with values of both signs the offset, a whole number of levels, takes its turn as well. The
    whole range is kept where no other has a lesser error. Scales that must be powers of two are so few that all are
    tried.
    """
    if statistics.amax == 0.0 or grid.power_of_two:
        return least_loss(statistics, grid, squared_errors)
    density = Density.of(statistics)
    whole = whole_range(density, grid)
    if grid.symmetric or 0.0 in whole:
        first = Lattices.of_ranges(whole[:1], whole[1:], grid)
        ends = _ends_of_walks(density, first)[:, None] / first.steps * whole
    else:
        ends = _ends_with_offsets(density, float(grid.maximum - grid.minimum))
    return least(density, np.concatenate([whole[None], ends]), grid, squared_errors)


def _ends_of_walks(density: Density, largest: Lattices) -> Floats:
    """The scales at which walks from all over the range end, the least errors first; at most `ENDS`."""
    steps = largest.steps * STARTS
    rough = density.merged(ROUGH)
    up = slopes(rough, _of_steps(steps[None], largest)) > 0
    upper = np.flatnonzero(~up[:-1] & up[1:])
    errors = squared_errors(rough, _of_steps(np.sqrt(steps[None, upper] * steps[None, upper + 1]), largest))
    upper = upper[np.argsort(errors, kind="stable")[:ENDS]]
    return _roots(density, largest, steps[upper + 1], steps[upper])


def _ends_with_offsets(density: Density, levels: float) -> Floats:
    """The ranges at which the alternation of scale and offset ends, in units, shape (n, 2)."""
    own = density.minimum / (density.minimum - density.maximum)
    below = np.rint(levels * np.append(np.minimum(own * np.array(NEAR), 1.0), OFFSETS))
    steps = _largest_steps(density, below, levels)
    view = density.merged(ROUGHER)
    steps, below, _ = _best(view, steps[:, None] * STARTS[::5], below[:, None], levels)
    for of_step, of_levels in ROUNDS:
        around = np.linspace(-1.0, 1.0, TRIED)
        steps, below, _ = _best(view, steps[:, None] * (1.0 + of_step * around), below[:, None], levels)
        nearby = np.clip(below[:, None] + np.rint(max(of_levels * levels, TRIED // 2) * around), 0.0, levels)
        steps, below, errors = _best(view, steps[:, None], nearby, levels)
    chosen = np.argsort(errors, kind="stable")[:ENDS]
    steps, below = steps[chosen], below[chosen]
    found = _roots(density, Lattices(steps, below, levels - below), steps * 0.995, steps * 1.005)
    steps = np.minimum(found, _largest_steps(density, below, levels))
    minimum = np.maximum(-below * steps, density.minimum)
    maximum = np.minimum(minimum + levels * steps, density.maximum)
    minimum = np.maximum(maximum - levels * steps, density.minimum)
    return np.stack([minimum, maximum], axis=1)


def _best(density: Density, steps: Floats, below: Floats, levels: float) -> tuple[Floats, Floats, Floats]:
    """Of each row of scales and offsets the pair of least error, and this error; shapes (n,).

    Args:
        density: The values.
        steps: Shape (n, m) or (n, 1); lowered where the range would go beyond the values.
        below: Shape (n, m) or (n, 1).
        levels: The number of levels but 0.
    """
    steps, below = np.broadcast_arrays(np.minimum(steps, _largest_steps(density, below, levels)), below)
    lattices = Lattices(steps.reshape(-1), below.reshape(-1), levels - below.reshape(-1))
    errors = squared_errors(density, lattices).reshape(steps.shape)
    best = np.arange(len(steps)), errors.argmin(1)
    return steps[best], below[best], errors[best]


def _largest_steps(density: Density, below: Floats, levels: float) -> Floats:
    """The scale for each offset at which no end of the range goes further beyond the values than by half a step."""
    half = 0.5 - 1e-6
    ends = ((density.minimum, below), (density.maximum, levels - below))
    first, second = (abs(end) / np.maximum(count - half, 1e-6) for end, count in ends)
    return np.asarray(np.minimum(np.minimum(first, second), (density.maximum - density.minimum) / levels))


def _roots(density: Density, levels: Lattices, low: Floats, high: Floats) -> Floats:
    """Between each low and high scale, shape (n,), the one where `slopes` falls through 0."""
    rows = np.arange(low.size)
    for view in (density.merged(ROUGH), density):
        steps = np.linspace(low, high, SECTIONS + 1, axis=1)
        found = slopes(view, _of_steps(steps, levels)).reshape(steps.shape)
        place = np.argmax((found[:, :-1] > 0) & (found[:, 1:] <= 0), axis=1)
        low, high = steps[rows, place], steps[rows, place + 1]
    before, after = found[rows, place], found[rows, place + 1]
    part = np.divide(before, before - after, out=np.zeros(low.size), where=before > after)
    return np.asarray(low + np.clip(part, 0.0, 1.0) * (high - low))


def _of_steps(steps: Floats, levels: Lattices) -> Lattices:
    """The lattices of scales of shape (n, m) with n or one number of levels."""
    below, above = (np.broadcast_to(each[:, None], steps.shape).reshape(-1) for each in (levels.below, levels.above))
    return Lattices(steps.reshape(-1), below, above)
