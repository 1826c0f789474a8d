"""What TensorRT does to a calibrator in the course of a build, as its log and its bindings tell."""

import ctypes
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

Taken = Callable[[list[str], list[int]], None]


@dataclass
class Builder:
    """TensorRT as a calibrator sees it: it shows no exception to anyone, and goes on with what it has.

    Attributes:
        calls: How callbacks are called: here from Python; `tests.contract.calls` goes through the C++ classes.
        names: The network's inputs, in its order.
        takes_cache: What it says to the cache it is given.
        most: Batches that it takes at most.
        writes: The cache that it writes; None writes none.
        taken: Is called with names and addresses while a batch is at hand.
        asked: The callbacks that were called, in order.
    """

    names: Sequence[str] = ("x",)
    takes_cache: Callable[[bytes], bool] = lambda cache: True
    most: int | None = None
    writes: bytes | None = b"TRT-101401-EntropyCalibration2\nx: 3c010a14\ny: 3d000000\n"
    taken: Taken = lambda names, addresses: None
    calls: Any = None
    asked: list[str] = field(default_factory=list)

    def calibrate(self, calibrator: Any) -> bool:
        """Whether it has scales: from the cache, or from batches."""
        calls = self.calls or FROM_PYTHON
        self.asked.append("get_batch_size")
        calls.get_batch_size(calibrator)
        self.asked.append("read_calibration_cache")
        cache = calls.read_calibration_cache(calibrator)
        if cache and self.takes_cache(cache):
            return True
        count = 0
        while self.most is None or count < self.most:
            self.asked.append("get_batch")
            addresses = calls.get_batch(calibrator, list(self.names))
            if addresses is None:
                break
            self.taken(list(self.names), addresses)
            count += 1
        if not count:
            return False
        if self.writes is not None:
            self.asked.append("write_calibration_cache")
            calls.write_calibration_cache(calibrator, self.writes)
        return True


_interrupt = ctypes.pythonapi.PyErr_SetInterrupt
_interrupt.argtypes = [ctypes.py_object]
_interrupt.restype = None


def from_c(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """Call a function with these arguments, Ctrl-C having come just before: no Python code has seen it yet."""
    return next(map(function, itertools.filterfalse(_interrupt, [first]), *([other] for other in others)))


def _swallowed(method: str) -> Callable[..., Any]:
    def call(calibrator: Any, *arguments: Any) -> Any:
        try:
            return getattr(calibrator, method)(*arguments)
        except BaseException:  # noqa: BLE001 - as the bindings do
            return None

    return call


def _write(calibrator: Any, cache: bytes) -> None:
    memory = bytearray(cache)
    _swallowed("write_calibration_cache")(calibrator, memoryview(memory).toreadonly())
    memory[:] = b"\xdd" * len(memory)


FROM_PYTHON = SimpleNamespace(
    get_batch_size=_swallowed("get_batch_size"),
    get_batch=_swallowed("get_batch"),
    read_calibration_cache=_swallowed("read_calibration_cache"),
    write_calibration_cache=_write,
)
