"""Wall times in rounds: floor, task, floor, task, ... so that whatever slows the machine slows both."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec

from benchmarks.figures import Rounds

P = ParamSpec("P")

Task = Callable[[], Mapping[str, Sequence[float]]]
"""Does its work; gives the seconds of its parts, under one name or (where work is shared) several."""

SETTLE = 0.2
"""Seconds before each task, in which threads that wait for more work go to sleep."""


def in_rounds(floor: Callable[[], object], tasks: Sequence[Task], *, rounds: int) -> dict[str, Rounds]:
    """Do all tasks in turn, `rounds` times, the floor before each.

    Args:
        floor: What a task's time is divided by.
        tasks: Their parts are one, or two: collecting and searching.
        rounds: 1 or more.
    """
    found: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(rounds):
        for task in tasks:
            _settle()
            base = seconds(floor)
            _settle()
            for name, parts in task().items():
                found.setdefault(name, []).append((base, *parts))
    return {name: _rounds(rows) for name, rows in found.items()}


def seconds(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call(*args, **kwargs)
    return time.perf_counter() - start


def _rounds(rows: Sequence[tuple[float, ...]]) -> Rounds:
    floor, *parts = zip(*rows, strict=True)
    collect, search = parts if len(parts) == 2 else ((), ())
    return Rounds([sum(row[1:]) for row in rows], floor, collect, search)


def _settle() -> None:
    gc.collect()
    time.sleep(SETTLE)
