"""Encodings: the affine map between real numbers and a grid."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.range import Range

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Encoding:
    """How a tensor is quantized.

    ``q = clip(round_half_even(x / scale) + zero_point, grid.minimum, grid.maximum)`` and ``x ≈ (q - zero_point) *
    scale``, as ONNX's QuantizeLinear and DequantizeLinear define them; blocks as they have them from opset 21 on.

    Attributes:
        scale: float32, shape () for the whole tensor, or (channels,) along `axis`; by blocks, the tensor's own shape
            but for `axis`, where it has ceil(size / block_size): the last block may be shorter.
        zero_point: int32 of the same shape, within the grid; the grid's own zero point where it is symmetric.
        grid: The levels.
        axis: The channel axis, or the one that blocks divide; None for the whole tensor.
        block_size: Neighbours along `axis` that share a scale; None per channel or for the whole tensor.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    grid: Grid = TENSORRT_INT8
    axis: int | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, np.float32)
        zero_point = np.asarray(self.zero_point)
        if self.block_size is not None:
            self._require_blocks(scale)
        elif scale.ndim != (0 if self.axis is None else 1):
            raise RangeError(
                f"a scale of shape {scale.shape} does not go with axis {self.axis}: one per channel, or one"
            )
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise RangeError("scales must be positive and finite: leave the tensor in float, or give another range")
        if zero_point.shape not in ((), scale.shape):
            raise RangeError(f"zero points of shape {zero_point.shape} do not go with scales of shape {scale.shape}")
        if not ((zero_point >= self.grid.minimum) & (zero_point <= self.grid.maximum)).all():
            raise RangeError(f"zero points must lie within {self.grid.minimum}..{self.grid.maximum}")
        if (zero_point != np.rint(zero_point)).any():
            raise RangeError("zero points are levels, hence whole numbers: round them")
        if self.grid.symmetric and (zero_point != self.grid.zero_point).any():
            raise RangeError(f"a symmetric grid has zero point {self.grid.zero_point}: choose an asymmetric grid")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", np.broadcast_to(zero_point.astype(np.int32), scale.shape))

    @classmethod
    def symmetric(
        cls,
        amax: npt.ArrayLike,
        grid: Grid = TENSORRT_INT8,
        *,
        axis: int | None = None,
        block_size: int | None = None,
    ) -> "Encoding":
        """The encoding whose largest level is `amax`, a number, or one per channel or block."""
        scale = np.asarray(grid.symmetric_scale(np.asarray(amax, np.float64)))
        return cls(scale.astype(np.float32), np.full(scale.shape, grid.zero_point, np.int32), grid, axis, block_size)

    @classmethod
    def of_range(cls, represented: Range, grid: Grid = TENSORRT_INT8) -> "Encoding":
        """The encoding of a whole tensor that represents a range.

        On a symmetric grid its larger end lies on the largest level. On an asymmetric one ``scale = (maximum - minimum)
        / (levels - 1)`` and ``zero_point = round_half_even(grid.minimum - minimum / scale)``, so that 0 is a level and
        the ends move by half a step at most.

        Raises:
            RangeError: The range is only 0, or its scale is no normal number.
        """
        if grid.symmetric:
            return cls.symmetric(represented.amax, grid)
        scale = grid.allowed((represented.maximum - represented.minimum) / (grid.maximum - grid.minimum))
        if not scale > 0:
            raise RangeError("a range that holds only 0 has no scale: leave the tensor in float")
        zero_point = np.clip(np.rint(grid.minimum - represented.minimum / scale), grid.minimum, grid.maximum)
        return cls(np.asarray(scale, np.float32), np.asarray(zero_point, np.int32), grid)

    def with_powers_of_two(self) -> "Encoding":
        """The same with the next power of two for each scale, which represents all that this one does, and more."""
        grid = replace(self.grid, power_of_two=True)
        before = self.scale.astype(np.float64)
        scale, zero_point = grid.allowed(before), self.zero_point
        if not grid.symmetric:
            lowest = (grid.minimum - self.zero_point) * before
            zero_point = np.clip(np.rint(grid.minimum - lowest / scale), grid.minimum, grid.maximum).astype(np.int32)
        return replace(self, scale=scale.astype(np.float32), zero_point=zero_point, grid=grid)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Encoding) and (
            (self.grid, self.axis, self.block_size) == (other.grid, other.axis, other.block_size)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    __hash__ = None  # type: ignore[assignment]

    def quantize(self, x: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Levels of `x`, int32 in x's shape; the division is in float32, as ONNX Runtime and TensorRT do it.

        Raises:
            RangeError: A value is NaN, or x does not have one channel or block for each scale.
        """
        values = np.asarray(x, np.float32)
        scale, zero_point = self._along(values.shape)
        with np.errstate(over="ignore"):
            levels = np.rint(values / scale) + zero_point
        if np.isnan(levels).any():
            raise RangeError("NaN has no level: repair the data or the model first")
        return np.asarray(np.clip(levels, self.grid.minimum, self.grid.maximum), np.int32)

    def dequantize(self, q: npt.ArrayLike) -> Floats:
        """Real values of the levels `q`, float32 in q's shape.

        Raises:
            RangeError: q does not have one channel or block for each scale.
        """
        levels = np.asarray(q, np.int32)
        scale, zero_point = self._along(levels.shape)
        return (levels - zero_point).astype(np.float32) * scale

    def fake_quantize(self, x: npt.ArrayLike) -> Floats:
        """`x` after quantization and back, float32 in x's shape."""
        return self.dequantize(self.quantize(x))

    def _along(self, wanted: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        if self.axis is None:
            return self.scale, self.zero_point
        if self.block_size is not None:
            return self._along_blocks(wanted, self.axis, self.block_size)
        channels, rank = len(self.scale), len(wanted)
        if not -rank <= self.axis < rank or wanted[self.axis] != channels:
            raise RangeError(f"{channels} scales along axis {self.axis} do not go with a tensor of shape {wanted}")
        shape = [1] * rank
        shape[self.axis] = channels
        return self.scale.reshape(shape), self.zero_point.reshape(shape)

    def _along_blocks(
        self, wanted: tuple[int, ...], axis: int, block_size: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        blocks = list(wanted)
        if len(wanted) == self.scale.ndim:
            blocks[axis] = -(-wanted[axis] // block_size)
        if tuple(blocks) != self.scale.shape:
            raise RangeError(
                f"scales of shape {self.scale.shape} by blocks of {block_size} along axis {axis} do not go with a "
                f"tensor of shape {wanted}"
            )
        of = np.arange(wanted[axis]) // block_size
        return self.scale.take(of, axis), self.zero_point.take(of, axis)

    def _require_blocks(self, scale: npt.NDArray[np.float32]) -> None:
        if self.block_size is None or self.block_size < 1:
            raise RangeError(f"a block holds one value or more, not {self.block_size}: give its size, or None")
        if self.axis is None or not -scale.ndim <= self.axis < scale.ndim:
            raise RangeError(
                f"a scale of shape {scale.shape} does not go with blocks along axis {self.axis}: it has the tensor's "
                "rank, and the axis is one of its own"
            )
