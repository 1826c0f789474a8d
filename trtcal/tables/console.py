"""The terminal: progress bars, tables, JSON. Nothing below `trtcal.tables` prints."""

import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

from trtcal.tables.ticking import TICKING

if TYPE_CHECKING:
    from trtcal.data.images import ImageLoader

Advance = Callable[[int], None]
"""Tells a progress bar how many units have been done since the last call."""


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Advance]:
    """A bar on standard error with time elapsed and left; where that is no terminal, a line now and then (`ticking`).

    Args:
        description: What is being done.
        total: Units of work; None shows a spinner with the time elapsed.
    """
    if not sys.stderr.isatty():
        with TICKING.step(printable(description), total) as step:
            yield step.advance
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


@dataclass(frozen=True, slots=True)
class Stages:
    """A display of work whose stages have names.

    Attributes:
        stage: Shows the name of the stage that begins.
        count: Adds a bar of that name over so many units, and gives what advances it.
    """

    stage: Callable[[str], None]
    count: Callable[[str, int], Advance]


@contextmanager
def staged_progress(description: str) -> Iterator[Stages]:
    """A spinner on standard error with the time elapsed and the stage; where that is no terminal, lines."""
    if not sys.stderr.isatty():
        with _staged_lines(description) as stages:
            yield stages
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    spinner = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = spinner.add_task(description)

    def count(what: str, total: int) -> Advance:
        bar = bars.add_task(what, total=total)
        return lambda done: bars.advance(bar, done)

    with Live(Group(spinner, bars), console=Console(stderr=True), transient=True):
        yield Stages(
            lambda name: spinner.update(task, description=f"{description}: {escape(printable(name))}"),
            count,
        )


@contextmanager
def countdown(description: str, seconds: float) -> Iterator[None]:
    """Work that takes so many seconds, and that a bar would disturb: a line, and where no terminal is, more of them."""
    note(description)
    with TICKING.step(printable(description), seconds=seconds):
        yield


@contextmanager
def _staged_lines(description: str) -> Iterator[Stages]:
    with ExitStack() as stack:
        step = stack.enter_context(TICKING.step(printable(description)))

        def stage(name: str) -> None:
            step.what = f"{description}: {printable(name)}"

        def count(what: str, total: int) -> Advance:
            return stack.enter_context(TICKING.step(printable(what), total)).advance

        yield Stages(stage, count)


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
    whole: Sequence[str] = (),
    optional: Sequence[str] = (),
    legend: bool = False,
    styles: Sequence[str | None] | None = None,
) -> None:
    """Print a table on standard output, whole where that is no terminal.

    In a terminal with too little room the optional columns go; then the text columns share what the numbers leave, text
    wraps at words, and words that are longer than their column are cut in the middle. Numbers are never broken.

    Args:
        title: Above the table.
        columns: Headings.
        rows: Cells as text, in the order of `columns`.
        numeric: Headings of the columns to align right; they are never broken.
        whole: Headings of the other columns that are never broken.
        optional: Headings of columns to leave out where they do not fit.
        legend: Where the first column has no room either, number the rows and list what is in it below.
        styles: A rich style per row, such as "red", or None.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = [[printable(cell) for cell in row] for row in rows]
    room = _width(sys.stdout)
    widths = _natural(columns, rows)
    if room is not None and _total(widths) > room and optional:
        kept = [index for index, heading in enumerate(columns) if heading not in optional]
        columns, rows = [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]
        widths = _natural(columns, rows)
    flexible = [index for index, heading in enumerate(columns) if heading not in (*numeric, *whole)]
    below: list[str] = []
    if room is not None and _total(widths) > room:
        shared = _shared(widths, flexible, room)
        if legend and shared[0] < min(_LEAST, widths[0]):
            below = [f"{number}: {row[0]}" for number, row in enumerate(rows, 1)]
            rows = [(str(number), *row[1:]) for number, row in enumerate(rows, 1)]
            shared = _shared(_natural(columns, rows), flexible, room)
        widths = shared
        rows = [
            [cut(cell, min(widths[index], _LONGEST)) if index in flexible else cell for index, cell in enumerate(row)]
            for row in rows
        ]
    grid = Table()
    for index, heading in enumerate(columns):
        justify: Literal["left", "right"] = "right" if heading in numeric else "left"
        width = widths[index] if index in flexible else None
        grid.add_column(escape(heading), justify=justify, no_wrap=width is None, overflow="fold", width=width)
    for row, style in zip(rows, styles or [None] * len(rows), strict=True):
        grid.add_row(*(escape(cell) for cell in row), style=style)
    if title:
        say(title)
    # With a height, as rich takes the width of a "dumb" terminal for 80 otherwise.
    Console(width=max(room or 0, _total(widths)), height=len(rows)).print(grid)
    sys.stdout.writelines(f"{line}\n" for line in below)


def cut(text: str, longest: int) -> str:
    """Cut the words that are longer than `longest` characters in the middle."""
    return re.sub(rf"\S{{{longest + 1},}}", lambda word: _shortened(word[0], longest), text)


def printable(text: str) -> str:
    """The text with control characters, which a name may hold and a terminal would obey, spelled out."""
    return "".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text)


def say(message: str) -> None:
    """Print lines on standard output; in a terminal they wrap at words."""
    sys.stdout.write(_wrapped(printable(message), _width(sys.stdout)) + "\n")


def note(message: str) -> None:
    """Print a line on standard error: what a reader of the result should know, but a program should not parse.

    In a terminal it wraps at words; elsewhere it stays one line.
    """
    line = _wrapped(printable(message.replace("\n", "\\n")), _width(sys.stderr)) + "\n"
    with suppress(OSError):  # where nobody can hear it, as under cron, that is no failure of the work
        sys.stderr.write(line)


def emit_json(value: Any) -> None:
    """Print `value` as JSON on standard output, as `as_json` has it."""
    spelled = (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")  # else a letter it lacks becomes no JSON
    sys.stdout.write(as_json(value, spelled=spelled))


def as_json(value: Any, *, spelled: bool = False) -> str:
    """`value` as JSON; null for NaN and infinity, which JSON has not.

    Args:
        value: Of dictionaries, lists, text and numbers.
        spelled: Spell out what is not ASCII.
    """
    return json.dumps(_finite(value), indent=2, ensure_ascii=spelled, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_LEAST = 20
"""Characters of a name that tell it from others, cut in the middle."""

_LONGEST = 48
"""Characters of a word that are shown where not everything fits."""


def _width(stream: TextIO) -> int | None:
    """Columns of a terminal; None for a file or a pipe, which has no width."""
    if not stream.isatty():
        return None
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _wrapped(message: str, width: int | None) -> str:
    if width is None:
        return message
    return "\n".join(
        textwrap.fill(line, max(width, 20), break_on_hyphens=False, break_long_words=False)
        for line in message.split("\n")
    )


def _natural(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column where nothing wraps."""
    return [max(len(cell) for cell in cells) for cells in zip(columns, *rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    """The width of a table: each column with a space on both sides, and lines between and around them."""
    return sum(widths) + 3 * len(widths) + 1


def _shared(widths: Sequence[int], flexible: Sequence[int], room: int) -> list[int]:
    """Widths within `room`: the flexible columns share what the others leave, none wider than it needs."""
    level = max((widths[index] for index in flexible), default=0)
    spare = room - _total([0 if index in flexible else width for index, width in enumerate(widths)])
    while level > _NARROWEST and sum(min(widths[index], level) for index in flexible) > spare:
        level -= 1
    return [min(width, level) if index in flexible else width for index, width in enumerate(widths)]


_NARROWEST = 8
"""Characters that a text column keeps, whatever the terminal."""


def _shortened(word: str, longest: int) -> str:
    head = (longest - 1) * 3 // 5  # what names differ in stands rather in front
    return f"{word[:head]}…{word[len(word) - (longest - 1 - head) :]}"
