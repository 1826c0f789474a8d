"""Whether two sessions give the same values, in whatever order each has them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array

Fingerprint = tuple[int, str, int, int, int]
"""Size, type, and the sum, without carry, exclusive or and largest of the values' bits: none depends on their order."""


def fingerprint(array: npt.NDArray[Any]) -> Fingerprint:
    """What two arrays share that hold the same bits in whatever order."""
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    sums = (int(bits.sum(dtype=bits.dtype)), int(np.bitwise_xor.reduce(bits)), int(bits.max(initial=0)))
    return array.size, array.dtype.name, *sums


def fingerprints(arrays: Mapping[str, Array]) -> dict[str, Fingerprint]:
    """Of each array, by name."""
    return {name: fingerprint(array) for name, array in arrays.items()}
