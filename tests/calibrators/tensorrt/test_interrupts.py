import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from calibrators.tensorrt.interrupts import Interrupts, postponed
from tests.calibrators.builder import from_c


@pytest.fixture(autouse=True)
def handler() -> Iterator[Any]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield before
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 enters a first `try` before it looks at signals")
def test_no_function_that_c_calls_can_catch_ctrl_c() -> None:
    """Why this is needed."""

    def careful(argument: object) -> str:
        try:
            return "ran"
        except KeyboardInterrupt:
            return "caught"

    with pytest.raises(KeyboardInterrupt):
        from_c(careful, None)


def test_it_is_reported_and_raised_as_ever() -> None:
    reported: list[BaseException] = []
    interrupts = Interrupts(reported.append)
    with pytest.raises(KeyboardInterrupt) as raised:
        from_c(len, [])
        raise AssertionError("Ctrl-C did not come")
    interrupts.end()
    assert reported == [raised.value]


def test_after_the_end_it_is_not_reported() -> None:
    reported: list[BaseException] = []
    Interrupts(reported.append).end()
    with pytest.raises(KeyboardInterrupt):
        from_c(lambda argument: None, None)
    assert reported == []


def test_a_handler_that_raises_nothing_reports_nothing() -> None:
    heard: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    signal.signal(signal.SIGINT, handle)
    reported: list[BaseException] = []
    interrupts = Interrupts(reported.append)
    signal.raise_signal(signal.SIGINT)
    interrupts.end()
    assert (heard, reported) == ([signal.SIGINT], [])
    assert signal.getsignal(signal.SIGINT) is handle
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_handler_that_was_set_meanwhile_stays() -> None:
    interrupts = Interrupts(lambda error: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.end()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts = Interrupts(lambda error: None)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    interrupts.end()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_changes_nothing() -> None:
    thread = threading.Thread(target=lambda: Interrupts(lambda error: None).end())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_ctrl_c_waits_for_the_end() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), postponed():
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")
    assert done == ["all of it"]


def test_errors_go_before_ctrl_c() -> None:
    with pytest.raises(ValueError, match="first"), postponed():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("first")


def test_in_another_thread_nothing_waits() -> None:
    inside: list[object] = []

    def work() -> None:
        with postponed():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [signal.default_int_handler]
