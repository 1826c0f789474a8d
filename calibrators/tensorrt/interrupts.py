"""Ctrl-C that is not lost on the way through another language."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Reports what the handler of Ctrl-C raises, from now until `end`.

    When Ctrl-C comes while C++ is at work in the main thread, Python raises KeyboardInterrupt at the very start of the
    next function that C++ calls, before that function's first `try`: no function can catch it, and TensorRT's bindings
    swallow it. Where the main thread is another, or Ctrl-C is ignored, nothing is done.

    Args:
        report: Is given the exception, which is then raised as ever.
    """

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report
        handler = signal.getsignal(signal.SIGINT)
        self._before = handler if callable(handler) else None
        if self._before is not None and _in_main_thread():
            signal.signal(signal.SIGINT, self._handle)

    def end(self) -> None:
        """Put the handler back that was there, unless another has been set since."""
        if _in_main_thread() and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            if self._before is not None:
                self._before(number, frame)
        except BaseException as error:
            self._report(error)
            raise


@contextmanager
def postponed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of what must be done in one go; no more is done than by `Interrupts`."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or not _in_main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        handler(*came[0])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
