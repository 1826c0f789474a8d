"""The divergences of TensorRT's entropy calibration by their definition, one candidate after the other."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def divergence(bins: Floats, kept: int, levels: int = 128) -> float:
    """KL(P || Q) of one candidate, by the definition alone."""
    p = bins[:kept].copy()
    p[-1] += bins[kept:].sum()
    occupied = p > 0
    level = np.arange(kept) * levels // kept
    mass = np.bincount(level, bins[:kept], levels)
    number = np.bincount(level, occupied, levels)
    q = np.where(occupied, mass[level] / np.maximum(number[level], 1), 0.0)
    if q.sum() == 0:
        return math.inf
    if occupied[-1] and q[-1] == 0:  # the last level holds nothing but the tail
        q[-1] = 1.0
    p, q = p[occupied] / p.sum(), q[occupied] / q.sum()
    return float((p * np.log(p / q)).sum())


def divergences(bins: Floats, levels: int = 128) -> Floats:
    """Those of all candidates, shape (2049 - levels,)."""
    return np.array([divergence(bins, kept, levels) for kept in range(levels, 2049)])


def last_minimum(divergences: Floats) -> int:
    """The winner's place; what differs only by rounding is equal."""
    return int(np.flatnonzero(divergences <= divergences.min() + 1e-12)[-1])
