"""Weight encodings: per output channel as TensorRT takes them, or per tensor or block; by absmax or least error."""

from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_WEIGHTS, Grid
from calibrators.methods.names import POWERS_OF_TWO, REMARKS, WEIGHTS, among, canonical, elsewhere

WeightMethod = Literal["absmax", "mse"]

SMALLEST_SCALE = 2.0**-40
"""The smallest scale, which an all-zero channel has: any positive number serves there, since its levels are all 0; this
one is exact in float32, and its product with an activation's scale is far from underflow."""

_CHUNK = 2**22
"""Weights worked on at a time, so that memory does not grow with the weight: 16 MB of float32."""

_Floats = npt.NDArray[np.float64]


def weight_method_named(name: str) -> WeightMethod:
    """The method that a name stands for: that of "abs_max" is "absmax", as other tools call it.

    Raises:
        RangeError: There is none; the message says which there are.
    """
    method = among(WEIGHTS, name) if isinstance(name, str) else name
    if method in get_args(WeightMethod):
        return cast(WeightMethod, method)
    known = ", ".join(get_args(WeightMethod))
    raise RangeError(f"there is no weight method {name!r}: choose among {known}{instead_of_weight_method(str(name))}")


def instead_of_weight_method(name: str) -> str:
    """What to take in the place of a name that means something else than a weight method, in brackets; or nothing."""
    if among(POWERS_OF_TWO, name) in POWERS_OF_TWO:
        return " (scales are powers of two by power_of_two = true in a configuration)"
    if canonical(name).partition(":")[0] in REMARKS or elsewhere(name):
        return " (that is for activations: of weights, mse searches the range of least error)"
    return ""


def weight_encoding(
    weight: npt.ArrayLike,
    *,
    axis: int | None,
    grid: Grid = TENSORRT_WEIGHTS,
    method: WeightMethod = "absmax",
    block_size: int | None = None,
) -> Encoding:
    """The encoding of a weight per channel, per tensor or per block.

    "absmax" represents the largest magnitude exactly, ``scale[c] = max|weight[c]| / 127``; on an asymmetric grid it
    represents the interval from the smallest weight to the largest, 0 included. "mse" takes a fraction of that range,
    at most 1, so that the squared error ``sum((weight - dequantized)**2)`` is least: the observers of PaddleSlim and
    AIMET do the same on coarser grids. It is never worse than "absmax" and of equal ranges takes the largest.

    Args:
        weight: Floats of any shape.
        axis: The output channel: 0 for Conv, 1 for ConvTranspose and for the ``[K, N]`` operand of MatMul; None for one
            scale for the whole tensor. With `block_size`, the axis that blocks divide: K, the one summed over.
        grid: The levels.
        method: "absmax" or "mse".
        block_size: Neighbours along `axis` that share a scale; the last block may be shorter.

    Raises:
        RangeError: A weight is NaN or infinite, or has no such axis; or the method or block size is none.
    """
    method = weight_method_named(method)
    values = np.asarray(weight)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype.itemsize <= np.dtype(np.float16).itemsize else np.float64)
    rows, axis = _rows(values, axis, block_size)
    kept = rows.shape[:1] if axis is None or block_size is None else rows.shape[:-1]
    scale, zero_point = np.empty(kept, np.float64), np.empty(kept, np.int32)
    step = max(1, _CHUNK // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        part = np.s_[start : start + step]
        groups = rows[part].reshape(scale[part].size, -1)
        found = _absmax(groups, grid)
        if method == "mse" and groups.size:
            from calibrators.weight_search import least_squares

            found = least_squares(_singles(groups), *found, grid, smallest=SMALLEST_SCALE)
        scale[part], zero_point[part] = (numbers.reshape(scale[part].shape) for numbers in found)
    shape = () if axis is None else kept
    return Encoding(scale.astype(np.float32).reshape(shape), zero_point.reshape(shape), grid, axis, block_size)


def _rows(
    values: npt.NDArray[np.floating], axis: int | None, block_size: int | None
) -> tuple[npt.NDArray[np.floating], int | None]:
    """The weight with what shares a scale behind what does not, and the axis counted from the front.

    Per tensor (1, size), per channel (channels, ...), per block the shape of the scales and then the block, which is
    filled up with zeros at the end: they add no error.
    """
    if axis is None:
        if block_size is not None:
            raise RangeError("blocks divide one axis: name it")
        return values.reshape(1, -1), None
    if not -values.ndim <= axis < values.ndim:
        raise RangeError(f"a weight of shape {values.shape} has no axis {axis}: name its output channel")
    axis %= values.ndim
    if block_size is None:
        return np.moveaxis(values, axis, 0), axis
    if block_size < 1:
        raise RangeError(f"a block holds one value or more, not {block_size}: give its size, or None")
    size = values.shape[axis]
    blocks = -(-size // block_size)
    if blocks * block_size != size:
        values = np.pad(values, [(0, (blocks * block_size - size) * (each == axis)) for each in range(values.ndim)])
    blocked = values.reshape(*values.shape[:axis], blocks, block_size, *values.shape[axis + 1 :])
    return np.moveaxis(blocked, axis + 1, -1), axis


def _singles(groups: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # the encoding says what is wrong with a weight that float32 does not hold
        return groups.astype(np.float32, copy=False)


def _absmax(groups: npt.NDArray[np.floating], grid: Grid) -> tuple[_Floats, npt.NDArray[np.int32]]:
    """Scale and zero point of each row that represent all of it."""
    high = groups.max(axis=1, initial=0.0).astype(np.float64)
    low = groups.min(axis=1, initial=0.0).astype(np.float64)
    if not (np.isfinite(high) & np.isfinite(low)).all():
        raise RangeError("a weight is NaN or infinite: repair the model first")
    if grid.symmetric:
        scale = np.maximum(grid.symmetric_scale(np.maximum(high, -low)), SMALLEST_SCALE)
        return scale, np.full(scale.shape, grid.zero_point, np.int32)
    scale = np.maximum(grid.allowed((high - low) / (grid.maximum - grid.minimum)), SMALLEST_SCALE)
    zero_point = np.clip(np.rint(grid.minimum - low / scale), grid.minimum, grid.maximum)
    return scale, zero_point.astype(np.int32)
