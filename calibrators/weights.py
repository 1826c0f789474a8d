"""Weight encodings: symmetric, per output channel, as TensorRT takes them."""

import numpy as np
import numpy.typing as npt

from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_WEIGHTS, Grid

SMALLEST_SCALE = 2.0**-40
"""The scale of an all-zero channel: any positive number serves, since its levels are all 0; this one is exact in
float32."""


def weight_encoding(weight: npt.ArrayLike, *, axis: int, grid: Grid = TENSORRT_WEIGHTS) -> Encoding:
    """The absmax encoding of a weight per channel: ``scale[c] = max|weight[c]| / 127``.

    Args:
        weight: Floats of any shape.
        axis: The output channel: 0 for Conv, 1 for ConvTranspose and for the ``[K, N]`` operand of MatMul.
        grid: The levels.

    Raises:
        RangeError: A weight is NaN or infinite, or has no such axis.
    """
    values = np.abs(np.asarray(weight, np.float64))
    if not -values.ndim <= axis < values.ndim:
        raise RangeError(f"a weight of shape {values.shape} has no axis {axis}: name its output channel")
    channel = axis % values.ndim
    amax = values.max(axis=tuple(i for i in range(values.ndim) if i != channel), initial=0.0)
    if not np.isfinite(amax).all():
        raise RangeError("a weight is NaN or infinite: repair the model first")
    scale = np.maximum(grid.symmetric_scale(amax), SMALLEST_SCALE)
    return Encoding(scale.astype(np.float32), np.full(scale.shape, grid.zero_point, np.int32), grid, channel)
