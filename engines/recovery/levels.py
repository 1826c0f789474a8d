"""Levels for a weight by the least error of the layer's output, in closed form.

The error of a row of W is ``d H d^T``, d what its levels lack of it and H the covariance of what the layer reads. Rows
are independent of each other, so all are rounded at once, column by column:

1. `fed_back`: columns in their order, each rounded to the nearest level, its error made up for by the columns that are
   not rounded yet: B. Hassibi and D. Stork, "Second Order Derivatives for Network Pruning" (NIPS 1992); E. Frantar and
   D. Alistarh, "Optimal Brain Compression" (NeurIPS 2022), as E. Frantar et al., "GPTQ" (ICLR 2023), order it: with
   ``H^-1 = U^T U``, U upper, ``w[k+1:] -= (w[k] - q) / U[k, k] U[k, k+1:]``.
2. `descended`: from there, or for a row that has less error so from the nearest levels, columns again and again, each
   on its best level where all others stay as they are, until none moves: A. Zhang et al., "COMQ: A Backpropagation-Free
   Algorithm for Post-Training Quantization" (2024).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engines.recovery.gram import Doubles
from engines.recovery.patches import Singles

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it, as GPTQ has it: weights of what never varies stay where they are."""

SWEEPS = 2
"""Of `descended` at most: further ones move next to nothing."""

_COLUMNS = 48
"""That are worked on before the others are told: what is worked on stays in the cache."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels that each weight may take; q stands for ``(q - zero) * scale``.

    Attributes:
        scale: Of each weight, shape (groups, rows, inputs).
        zero: Its zero point, as a float.
        ends: The lowest and highest level.
    """

    scale: Singles
    zero: Singles
    ends: tuple[int, int]

    def nearest(self, weight: Singles) -> Singles:
        """The weights that the nearest levels stand for."""
        return _nearest(weight, self.scale, self.zero, self.ends)

    def columns(self, part: slice) -> tuple[Singles, Singles]:
        """Scales and zero points of some columns, shape (columns, groups, rows)."""
        return _columns_first(self.scale[:, :, part]), _columns_first(self.zero[:, :, part])

    def scaled(self, factors: Doubles) -> "Levels":
        """With scales times several factors of each row, one below the other.

        Args:
            factors: Shape (choices, groups, rows).
        """
        scale = [self.scale * each[:, :, None].astype(np.float32) for each in factors]
        zero = np.concatenate([self.zero] * len(factors), axis=1)
        return replace(self, scale=np.concatenate(scale, axis=1), zero=zero)


@dataclass(frozen=True, slots=True)
class Curvature:
    """H, damped.

    Attributes:
        h: Shape (groups, inputs, inputs).
        factor: U with ``H^-1 = U^T U``, upper, of the same shape.
    """

    h: Singles
    factor: Singles

    @classmethod
    def of(cls, covariance: Doubles, damping: float = DAMPING) -> "Curvature":
        """Of a covariance, shape (groups, inputs, inputs)."""
        inputs = covariance.shape[2]
        mean = np.trace(covariance, axis1=1, axis2=2) / inputs
        h = covariance + np.where(mean > 0, damping * mean, 1.0)[:, None, None] * np.eye(inputs)
        # H turned about has a lower factor L; L^-1 turned about is U.
        factor = np.linalg.inv(np.linalg.cholesky(h[:, ::-1, ::-1]))[:, ::-1, ::-1]
        return cls(np.ascontiguousarray(h, np.float32), np.ascontiguousarray(factor, np.float32))


def settled(curvature: Curvature, levels: Levels, weight: Singles) -> Singles:
    """Weights on their levels by both of the above; no row has more error than at its nearest levels.

    Args:
        curvature: H.
        levels: Of each weight.
        weight: Shape (groups, rows, inputs); it is not changed.
    """
    found, nearest = fed_back(curvature, levels, weight), levels.nearest(weight)
    worse = errors_of(weight - found, curvature.h) > errors_of(weight - nearest, curvature.h)
    return descended(curvature, levels, weight, np.where(worse[:, :, None], nearest, found))


def errors_of(difference: Singles, h: npt.NDArray[np.floating]) -> Doubles:
    """``d H d^T`` of each row, shape (groups, rows): an output's mean squared error, where H is the covariance."""
    d = difference.astype(np.float64)
    found: Doubles = np.maximum((np.matmul(d, h) * d).sum(axis=2), 0)
    return found


def fed_back(curvature: Curvature, levels: Levels, weight: Singles) -> Singles:
    """Columns rounded in their order, each error made up for by the columns behind.

    Args:
        curvature: H.
        levels: Of each weight.
        weight: Shape (groups, rows, inputs); it is not changed.

    Returns:
        Weights on their levels.
    """
    wanted, found, u = weight.copy(), np.empty_like(weight), curvature.factor
    inputs = weight.shape[2]
    for start in range(0, inputs, _COLUMNS):
        end = min(inputs, start + _COLUMNS)
        block, own = _columns_first(wanted[:, :, start:end]), _columns_first(u[:, start:end, start:end], rows=True)
        errors, (scale, zero) = np.empty_like(block), levels.columns(slice(start, end))
        for k in range(end - start):
            put = _nearest(block[k], scale[k], zero[k], levels.ends)
            errors[k] = (block[k] - put) / own[k, k]
            found[:, :, start + k] = put
            block[k + 1 :] -= own[k, k + 1 :] * errors[k]
        if end < inputs:
            wanted[:, :, end:] -= np.matmul(errors.transpose(1, 2, 0), u[:, start:end, end:])
    return found


def descended(curvature: Curvature, levels: Levels, weight: Singles, begin: Singles, sweeps: int = SWEEPS) -> Singles:
    """Each column moved to its best level in turn, until none moves or after `sweeps`.

    Args:
        curvature: H.
        levels: Of each weight.
        weight: W, shape (groups, rows, inputs).
        begin: The same on its levels; it is not changed.
        sweeps: At most.
    """
    found, inputs = begin.copy(), weight.shape[2]
    for _ in range(sweeps):
        lacks, moved = np.matmul(weight - found, curvature.h), False
        for start in range(0, inputs, _COLUMNS):
            part = slice(start, min(inputs, start + _COLUMNS))
            put = _moved(curvature, levels, found, lacks, part)
            change = put - found[:, :, part]
            if change.any():
                moved = True
                found[:, :, part] = put
                lacks -= np.matmul(change, curvature.h[:, part])
        if not moved:
            break
    return found


def _moved(curvature: Curvature, levels: Levels, weight: Singles, lacks: Singles, part: slice) -> Singles:
    """Some columns, each on its best level behind those before."""
    h = _columns_first(curvature.h[:, part, part], rows=True)
    rest, columns = _columns_first(lacks[:, :, part]), _columns_first(weight[:, :, part])
    scale, zero = levels.columns(part)
    for k in range(len(columns)):
        put = _nearest(columns[k] + rest[k] / h[k, k], scale[k], zero[k], levels.ends)
        change = put - columns[k]
        if change.any():
            rest[k + 1 :] -= h[k, k + 1 :] * change
            columns[k] = put
    return np.ascontiguousarray(columns.transpose(1, 2, 0))


def _columns_first(values: Singles, *, rows: bool = False) -> Singles:
    """Shape (columns, groups, rows); of a matrix of columns by columns, with `rows`, (columns, columns, groups, 1)."""
    if rows:
        return np.ascontiguousarray(values.transpose(1, 2, 0))[..., None]
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _nearest(weight: Singles, scale: Singles, zero: Singles, ends: tuple[int, int]) -> Singles:
    """In place, for it is done for every column: `np.clip` alone takes longer than all of it."""
    levels: Singles = np.divide(weight, scale)
    np.rint(levels, out=levels)
    levels += zero
    np.minimum(levels, ends[1], out=levels)
    np.maximum(levels, ends[0], out=levels)
    levels -= zero
    levels *= scale
    return levels
