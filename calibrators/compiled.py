"""How kernels are compiled: loops over numbers, in machine code."""

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Any:
    """Compile without the interpreter's lock, so that threads run side by side; keep the machine code on disk."""
    return numba.njit(function, nogil=True, cache=True, error_model="numpy")


def summing_kernel(function: Callable[..., Any]) -> Any:
    """As `kernel`, but sums may be added up in any order, as vector instructions do."""
    return numba.njit(function, nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
