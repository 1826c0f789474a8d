"""What a layer's rounding rests on: sums over places of its output of what it reads there, and of their products.

With these the mean squared error that other weights make in the output is known for all weights, without what is read.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.recovery.patches import Singles

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gram:
    """Sums over places; two of the same layer add up to that of both.

    Products are made in float32, over the places of one call of `of`, and summed in float64: however the places are
    divided among calls, sums differ by float32's rounding alone.

    Attributes:
        places: How many.
        x: Sum of x, what is read, shape (groups, inputs).
        xx: Sum of x x^T, shape (groups, inputs, inputs).
    """

    places: int
    x: Doubles
    xx: Doubles

    @classmethod
    def of(cls, x: Singles) -> "Gram":
        """Of what a layer reads, shape (groups, inputs, places)."""
        products = np.matmul(x, x.swapaxes(1, 2)).astype(np.float64)
        return cls(x.shape[2], x.sum(axis=2, dtype=np.float64), products)

    def __add__(self, other: "Gram") -> "Gram":
        return Gram(self.places + other.places, self.x + other.x, self.xx + other.xx)

    @property
    def mean(self) -> Doubles:
        """E x."""
        return self.x / self.places

    @property
    def covariance(self) -> Doubles:
        """H, the covariance of x: what is left of the Gram matrix where the bias takes the mean error out."""
        mean = self.mean
        found: Doubles = self.xx / self.places - mean[:, :, None] * mean[:, None, :]
        return found
