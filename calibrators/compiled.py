"""How kernels are compiled: loops over numbers, in machine code."""

import logging
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache

from calibrators.errors import one_line


def kernel(function: Callable[..., Any]) -> Any:
    """Compile without the interpreter's lock, so that threads run side by side; keep the machine code on disk."""
    return _compiled(function)


def summing_kernel(function: Callable[..., Any]) -> Any:
    """As `kernel`, but sums may be added up in any order, as vector instructions do."""
    return _compiled(function, fastmath={"reassoc", "nsz"})


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    compiled = numba.njit(function, nogil=True, error_model="numpy", **options)
    try:
        compiled._cache = _Cache(function)  # type: ignore[no-untyped-call]  # `cache=True` gives it numba's own
    except (RuntimeError, OSError) as error:  # no folder can be written
        _note(error)
    return compiled


class _Cache(FunctionCache):
    """Machine code on disk, which is done without where it cannot be read or written: the work goes on all the same."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for a signature; None where there is none."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - a damaged file raises anything
            _note(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it, if that can be done."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - numba reads its index first
            _note(error)


def _note(error: Exception) -> None:
    """Say once that nothing is kept, and why."""
    if not _noted:
        _noted.append(error)
        logging.getLogger(__name__).warning(
            "note: compiled code is not kept (%s): every run compiles it anew, which takes some seconds; "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            one_line(error, 200),
        )


_noted: list[Exception] = []
