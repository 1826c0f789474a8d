"""The terminal: progress bars, tables, JSON. Nothing below `trtcal.commands` prints."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtcal.images import ImageLoader

Advance = Callable[[int], None]
"""Tells a progress bar how many units have been done since the last call."""


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Advance]:
    """A bar on standard error with time elapsed and left, silent where that is no terminal.

    Args:
        description: What is being done.
        total: Units of work; None shows a spinner with the time elapsed.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    if total is not None:
        columns[2:2] = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


@contextmanager
def images_progress(description: str) -> "Iterator[Callable[[ImageLoader], Advance]]":
    """A bar over a loader's images, which begins when the loader is known."""
    with ExitStack() as stack:
        yield lambda loader: stack.enter_context(progress(description, loader.count))


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: Sequence[str] = (),
    styles: Sequence[str | None] | None = None,
) -> None:
    """Print a table on standard output.

    Args:
        title: Above the table.
        columns: Headings.
        rows: Cells as text, in the order of `columns`.
        numeric: Headings of the columns to align right.
        styles: A rich style per row, such as "red", or None.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    grid = Table(title=escape(title), title_justify="left")
    for heading in columns:
        grid.add_column(escape(heading), justify="right" if heading in numeric else "left", overflow="fold")
    for row, style in zip(rows, styles or [None] * len(rows), strict=True):
        grid.add_row(*(escape(cell) for cell in row), style=style)
    console.print(grid)


def say(message: str) -> None:
    """Print one line on standard output."""
    sys.stdout.write(message + "\n")


def note(message: str) -> None:
    """Print one line on standard error: what a reader of the result should know, but a program should not parse."""
    sys.stderr.write(message + "\n")


def emit_json(value: Any) -> None:
    """Print `value` as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
