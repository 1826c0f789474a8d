"""Fresh processes, so that neither memory nor compiled code is left over from an earlier measurement."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import ParamSpec, TypeVar

from calibrators.errors import TrtcalError

P = ParamSpec("P")
T = TypeVar("T")


def in_fresh_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a module's function in a process that begins with nothing loaded; what it raises comes out here.

    Raises:
        TrtcalError: The process died.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_end_with_the_parent) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise TrtcalError(
                f"the process that measured {function.__name__}{args} died, most likely for want of memory: "
                "give fewer --images or --peers-images"
            ) from error


def peak_memory() -> float:
    """The most memory that this process has had resident so far, in MB (10^6 bytes).

    Linux's ``ru_maxrss`` is not asked: there a new process takes over the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _end_with_the_parent() -> None:
    """Let this process end when the one that started it is killed: it would wait for more work for ever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
