"""A progress bar for calibrations that are started from Python."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown(progress: Callable[[int], None] | None, total: int | None) -> Iterator[Callable[[int], None]]:
    """What is to be told of progress: `progress`, else a bar on standard error, silent where that is no terminal.

    Args:
        progress: Is told the number of samples done since the last call.
        total: Samples in all; None where that is not known.
    """
    if progress is not None:
        yield progress
        return
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Calibrating", total=total)
        yield lambda done: bar.advance(task, done)
