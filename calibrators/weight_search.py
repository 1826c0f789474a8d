"""The scale with the least squared error: a search over fractions of the full range, compiled."""

import numpy as np
import numpy.typing as npt

from calibrators.compiled import kernel
from calibrators.grid import Grid

EVALUATIONS = 2**19
"""Weights times fractions that a row is worth: few weights make a rugged loss, and are tried at more fractions."""

FEWEST, MOST = 128, 2048
"""Fractions of the full range, evenly spaced up to 1."""

PER_LEVEL = 4
"""Fractions for each level at most: they may be more than `MOST` where the grid is fine."""

FINER = 16
"""Steps between two of these fractions, tried on both sides of the best one."""

POWERS = 16
"""Halvings tried where scales are powers of two."""

PLACES = 5
"""Places of a range that is smaller than an asymmetric row's own: at either end of it, and in between."""

NEIGHBOURS = 2
"""Zero points tried on both sides of the best one."""

ROUNDS = 8
"""Alternations at most between levels for a scale and the scale that fits the levels best."""

LANES = 16
"""Partial sums: a fixed order of addition that vector units of any width keep, so that all machines agree."""

STRETCH = 64 * LANES
"""Weights between two looks at whether a candidate is beaten already."""

_Rows = npt.NDArray[np.float32]


def least_squares(
    rows: _Rows, scale: npt.NDArray[np.float64], zero_point: npt.NDArray[np.int32], grid: Grid, *, smallest: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Scale and zero point of each row with the least squared error, among fractions of the full range.

    1. Fractions 1, 1 - 1/n, ..., 1/n of the scale, n from 128 on; on an asymmetric grid, of each the range at
       several places within the full one. Where scales are powers of two, halvings, and nothing more.
    2. Finer ones around the best, with the neighbouring zero points.
    3. In turn, the levels for the scale and the least-squares scale for the levels, ``sum(x q) / sum(q**2)``, as long
       as the error falls.

    A candidate has to be better than those before it, which are larger. The errors are those of float32 quotients and
    products, as `Encoding` has them, in units of a power of two near the scale: a power-of-two factor on a row changes
    nothing but the scale.

    Args:
        rows: float32 of shape (rows, n).
        scale: Of the full range, shape (rows,).
        zero_point: The same.
        grid: The levels.
        smallest: No scale is below this one.
    """
    most = max(MOST, PER_LEVEL * (grid.maximum - grid.minimum))
    count = int(np.clip(EVALUATIONS // rows.shape[1], FEWEST, most))
    fractions = 0.5 ** np.arange(POWERS) if grid.power_of_two else np.arange(count, 0, -1) / count
    finer = np.zeros(0) if grid.power_of_two else np.arange(FINER - 1, -FINER, -1) / (FINER * count)
    with np.errstate(over="ignore"):
        full = scale.astype(np.float32)
    units = np.ldexp(np.float32(1.0), -np.where(np.isfinite(full), np.frexp(full)[1], 0)).astype(np.float32)
    scales, zeros = full * units, zero_point.copy()
    _search(
        np.ascontiguousarray(rows),
        units,
        scales,
        zeros,
        (smallest * units).astype(np.float32),
        (grid.minimum, grid.maximum, 1 if grid.symmetric else PLACES, 0 if grid.symmetric else NEIGHBOURS),
        fractions,
        finer,
    )
    return (scales / units).astype(np.float64), zeros


@kernel
def _search(rows, units, scales, zeros, least, levels, fractions, finer):  # type: ignore[no-untyped-def]
    """Replace the scales, in units, and zero points of the rows by the best ones: see `least_squares`."""
    sums = np.zeros(LANES, np.float64)
    for place in range(len(rows)):
        row, unit, full, zero = rows[place], units[place], scales[place], zeros[place]
        if not np.isfinite(full):  # beyond float32: the encoding refuses it
            continue
        error = _error(row, unit, full, zero, levels, np.inf, sums)
        scale, zero, fraction, error = _coarse(row, unit, full, zero, error, least[place], levels, fractions, sums)
        if finer.size:
            near = fraction + finer
            scale, zero, error = _fine(row, unit, full, scale, zero, error, least[place], levels, near, sums)
            scale = _alternated(row, unit, full, scale, zero, error, least[place], levels, sums)
        scales[place], zeros[place] = scale, zero


@kernel
def _coarse(row, unit, full, zero, error, least, levels, fractions, sums):  # type: ignore[no-untyped-def]
    """The best of the evenly spaced fractions: scale, zero point, fraction and error."""
    minimum, maximum, places, _ = levels
    bottom, top = min(row.min(), np.float32(0.0)) * unit, max(row.max(), np.float32(0.0)) * unit
    best, best_zero, best_fraction = full, zero, 1.0
    for fraction in fractions:
        scale = np.float32(fraction * full)
        if scale < least or _clipped(bottom, top, scale, zero, levels) > error:  # so is any smaller one
            break
        at_bottom, at_top = minimum - bottom / scale, maximum - top / scale
        for place in range(places):
            tried_zero = zero
            if places > 1:
                tried_zero = np.int32(np.rint(at_bottom + (at_top - at_bottom) * place / (places - 1)))
                tried_zero = min(max(tried_zero, minimum), maximum)
            tried = _error(row, unit, scale, tried_zero, levels, error, sums)
            if tried < error:
                best, best_zero, best_fraction, error = scale, tried_zero, fraction, tried
    return best, best_zero, best_fraction, error


@kernel
def _clipped(bottom, top, scale, zero, levels):  # type: ignore[no-untyped-def]
    """What a scale costs at least: the squared error of the outermost weights, as they are beyond the levels."""
    minimum, maximum, places, _ = levels
    if places > 1:  # half the excess at either end is the least
        excess = max(top - bottom - scale * (maximum - minimum), 0.0)
        return excess * excess / 2
    excess = max(top - scale * (maximum - zero), scale * (minimum - zero) - bottom, 0.0)
    return excess * excess


@kernel
def _fine(row, unit, full, scale, zero, error, least, levels, fractions, sums):  # type: ignore[no-untyped-def]
    """The best of some further fractions and of the zero points beside `zero`: scale, zero point and error."""
    minimum, maximum, _, reach = levels
    best, best_zero = scale, zero
    for fraction in fractions:
        tried_scale = np.float32(min(fraction, 1.0) * full)
        if tried_scale < least:
            break
        for tried_zero in range(max(zero - reach, minimum), min(zero + reach, maximum) + 1):
            tried = _error(row, unit, tried_scale, tried_zero, levels, error, sums)
            if tried < error or (tried == error and tried_scale > best):
                best, best_zero, error = tried_scale, tried_zero, tried
    return best, best_zero, error


@kernel
def _alternated(row, unit, full, scale, zero, error, least, levels, sums):  # type: ignore[no-untyped-def]
    """The scale after fitting it to the levels that it gives, again and again while the error falls."""
    low, high = np.float32(levels[0] - zero), np.float32(levels[1] - zero)
    for _ in range(ROUNDS):
        products, squares = 0.0, 0.0
        for at in range(row.size):
            value = row[at] * unit
            level = min(max(np.rint(value / scale), low), high)
            products += np.float64(value) * np.float64(level)
            squares += np.float64(level) * np.float64(level)
        fitted = min(np.float32(products / squares), full) if products > 0.0 else scale
        tried = _error(row, unit, fitted, zero, levels, error, sums) if fitted >= least else np.inf
        if not tried < error:
            break
        scale, error = fitted, tried
    return scale


@kernel
def _error(row, unit, scale, zero, levels, limit, sums):  # type: ignore[no-untyped-def]
    """The squared error of a row in units, or any number above `limit` where it is beyond that.

    Args:
        row: float32 of shape (n,), contiguous.
        unit: What its values are multiplied by: a power of two, float32.
        scale: In the same units, float32.
        zero: The zero point.
        levels: The lowest, the highest, and others of no concern here.
        limit: float64.
        sums: Scratch memory, float64 of shape (LANES,).
    """
    low, high = np.float32(levels[0] - zero), np.float32(levels[1] - zero)
    sums[:] = 0.0
    whole = row.size - row.size % LANES
    for start in range(0, whole, STRETCH):
        for at in range(start, min(start + STRETCH, whole), LANES):
            for lane in range(LANES):
                value = row[at + lane] * unit
                level = min(max(np.rint(value / scale), low), high)
                error = np.float64(value) - np.float64(level * scale)
                sums[lane] += error * error
        if sums.sum() > limit:
            return np.inf
    total = sums.sum()
    for at in range(whole, row.size):
        value = row[at] * unit
        level = min(max(np.rint(value / scale), low), high)
        error = np.float64(value) - np.float64(level * scale)
        total += error * error
    return total
