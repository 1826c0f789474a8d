"""Integer grids: the numbers a quantized value can take."""

from dataclasses import dataclass
from numbers import Integral
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from calibrators.errors import RangeError

Real = TypeVar("Real", float, npt.NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Grid:
    """A uniform integer grid.

    A real value x is stored as q with x ≈ (q - zero_point) * scale and ``minimum <= q <= maximum``.

    Attributes:
        bits: Width of q, 2 to 16.
        signed: Two's complement if true, else from 0.
        symmetric: The zero point is 0 (signed) or the middle of the grid (unsigned).
        narrow: Leave out the lowest level, so that a signed grid is symmetric about 0 (-127..127 for INT8).
        power_of_two: Scales are powers of two, so that rescaling is a shift; a range is rounded up to the next one.
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    narrow: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.bits, Integral) or not 2 <= self.bits <= 16:
            raise RangeError(f"a grid has from 2 to 16 bits, not {self.bits!r}: choose among these")
        if self.narrow and not self.signed:
            raise RangeError("only a signed grid can be narrow: an unsigned one starts at 0")

    @property
    def minimum(self) -> int:
        """The smallest level: -128 for signed 8 bits, -127 where narrow, 0 for unsigned."""
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def maximum(self) -> int:
        """The largest level: 127 for signed 8 bits, 255 for unsigned."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def zero_point(self) -> int:
        """The level of 0 in a symmetric grid: 0 where signed, 128 for unsigned 8 bits."""
        return 0 if self.signed else 1 << (self.bits - 1)

    def symmetric_scale(self, amax: Real) -> Real:
        """The step that puts `amax` on the largest level.

        TensorRT divides by 127, not 127.5 or 128 (sampleINT8, "abs(max_dynamic_range) / 127"): its caches hold this
        quotient, so another divisor would change every range read back.
        """
        return self.allowed(amax / (self.maximum - self.zero_point))

    def allowed(self, scale: Real) -> Real:
        """The smallest scale not below this one that the grid may have: the same, or the next power of two."""
        if not self.power_of_two:
            return scale
        fraction, exponent = np.frexp(scale)
        rounded = np.where(fraction == 0.0, 0.0, np.ldexp(1.0, exponent - (fraction == 0.5)))
        return rounded if isinstance(scale, np.ndarray) else float(rounded)

    def symmetric_amax(self, scale: Real) -> Real:
        """The value on the largest level: the inverse of `symmetric_scale`."""
        return scale * (self.maximum - self.zero_point)


TENSORRT_INT8 = Grid(bits=8, signed=True, symmetric=True)
"""Activations in TensorRT: its QuantizeLinear saturates at -128 and 127, its scale is amax / 127."""

TENSORRT_WEIGHTS = Grid(bits=8, signed=True, symmetric=True, narrow=True)
"""Weights in TensorRT: symmetric, -127 to 127 (developer guide, "Explicit Quantization")."""
