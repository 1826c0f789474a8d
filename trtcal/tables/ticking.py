"""How far the work is, told in lines where no terminal shows a bar: in a log, in CI, behind a pipe."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

EVERY = 10.0
"""Seconds between lines."""


@dataclass
class Step:
    """A step of the work.

    Attributes:
        what: Is being done.
        began: On the clock, in seconds.
        total: Units of work; None where there are none.
        seconds: That it is known to take; None where that is not known.
        done: Units.
    """

    what: str
    began: float
    total: int | None = None
    seconds: float | None = None
    done: int = 0

    def advance(self, done: int) -> None:
        """Count units that have been done since the last call."""
        self.done += done

    @property
    def over(self) -> bool:
        """Whether all its units are done; what goes on then is something else."""
        return self.total is not None and self.done >= self.total

    def line(self, now: float) -> str:
        """How far it is at that time, and what is left: by the time that the units so far took."""
        taken, left = now - self.began, None
        said = [self.what]
        if self.total is not None:
            said[0] += f": {self.done} of {self.total}"
            left = taken / self.done * (self.total - self.done) if self.done else None
        elif self.seconds is not None:
            left = self.seconds - taken if self.seconds > taken else None
        said.append(f"{duration(taken)} so far")
        return ", ".join(said if left is None else [*said, f"about {duration(left)} left"])


def duration(seconds: float) -> str:
    """Such as "8 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _write(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody can hear it
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Ticking:
    """Tells, from a thread of its own, what the innermost step is and how far, every few seconds while it is on.

    The seconds count from when it is switched on, not from the step: many short steps in a row are told of, too.

    Args:
        every: Seconds between lines.
        clock: Seconds.
        tell: Writes a line.
    """

    def __init__(
        self,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = _write,
    ) -> None:
        self.every = every
        self._clock = clock
        self._write = tell
        self._steps: list[Step] = []
        self._off = threading.Event()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Tell of the work in this block; silent where standard error is a terminal, which shows bars."""
        if sys.stderr.isatty():
            yield
            return
        whole = Step("at work", self._clock())
        off = self._off = threading.Event()
        thread = threading.Thread(target=self._run, args=(whole, off), name="trtcal-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            off.set()
            thread.join(1)  # no longer: a pipe that nobody reads may hold it up

    @contextmanager
    def step(self, what: str, total: int | None = None, *, seconds: float | None = None) -> Iterator[Step]:
        """A step of the work; `Step` says what the arguments are."""
        step = Step(what, self._clock(), total, seconds)
        self._steps.append(step)
        try:
            yield step
        finally:
            self._steps.remove(step)

    def tell(self, whole: Step) -> None:
        """Write how far the innermost step is that is not over; the whole work where there is none."""
        step = next((step for step in reversed([*self._steps]) if not step.over), whole)
        self._write(step.line(self._clock()))

    def _run(self, whole: Step, off: threading.Event) -> None:
        while not off.wait(self.every):
            self.tell(whole)


TICKING = Ticking()
"""Of this process, which runs one command."""
