"""A builder at work: how far it is, and how Ctrl-C stops it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import ModuleType
from typing import Any, TypeVar

Result = TypeVar("Result")

BUILDING = threading.Lock()
"""One build at a time: what the logger hands on belongs to one build."""


def interruptible(work: Callable[[], Result], stop: Callable[[], None], *, name: str) -> Result:
    """What `work` returns, or raises; where Ctrl-C comes, `stop` is called, and the work waited for.

    The builder calls back into Python, and swallows what is raised there, Ctrl-C included. So it works in a thread of
    its own, and this one, to which Ctrl-C comes, tells it to stop.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it comes out of this function
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        threading.Thread(target=run, name=name).start()
        return done.result()
    except KeyboardInterrupt:
        stop()
        wait([done])  # not the thread's own join, which an interrupt can make believe that it has ended
        raise


def monitor_of(
    trt: ModuleType,
    *,
    progress: Callable[[int], None] | None,
    phase: Callable[[str], None] | None,
    stop: threading.Event,
) -> Any:
    """What TensorRT's module `trt` reports its steps to, and asks at each whether to go on.

    None where the module has no progress monitor, as 8.6: there a build ends when it ends, Ctrl-C or not.
    """
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Tells the builder's steps and phases, and stops it at the next step."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Called as a phase begins."""
            if phase is not None:
                phase(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            """Not of interest."""

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Whether to go on."""
            if progress is not None:
                progress(1)
            return not stop.is_set()

    return Monitor()
