"""``python -m benchmarks.analysis --against COMMIT``: how long analysis takes beside an older commit."""

import json as codec
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

import typer

import benchmarks.analysis as here
from benchmarks.analysis.job import Job
from benchmarks.analysis.older import HERE, Tree, older
from benchmarks.analysis.rounds import Measured, measured
from calibrators.errors import TrtcalError
from trtcal.tables import console


def bench(
    *,
    against: Annotated[str, typer.Option(help="The commit to measure beside this checkout.", metavar="COMMIT")],
    only: Annotated[
        str, typer.Option(help="Jobs whose name holds this, such as sensitivity.", metavar="TEXT", show_default=False)
    ] = "",
    rounds: Annotated[
        int, typer.Option(help="Rounds, old and new in turn; the median counts.", metavar="N", min=1)
    ] = 1,
    python: Annotated[
        Path | None,
        typer.Option(help="Of an environment for COMMIT, instead of a new one.", metavar="FILE", show_default=False),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures here.", metavar="FILE", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
) -> None:
    """Do the same analysis with COMMIT and with this checkout in turn, and print how many times as fast this one is.

    The figures mean something only where nothing else runs.
    """
    from benchmarks.report import Table
    from calibrators.files import require_writable, write_whole

    if json is not None:
        require_writable(json)
    jobs = [job for job in all_jobs() if only in job.name]
    if not jobs:
        raise TrtcalError(f"no job's name holds {only!r}: there are {', '.join(job.name for job in all_jobs())}")
    done = []
    with tempfile.TemporaryDirectory() as name, older(against, Path(name), python) as old:
        for number, job in enumerate(jobs):
            console.note(job.name)
            done.append(
                measured(job, Path(name) / f"job{number}", old, Tree(HERE, Path(sys.executable)), rounds=rounds)
            )
    columns = ("job", "told", "times as fast", "bar", "times less processor time", "times the memory")
    table = Table(f"beside {against}", columns, [_row(each) for each in done], 2)
    if markdown:
        console.say(table.markdown())
    else:
        console.table(table.title, table.columns, table.rows, numeric=table.numeric)
    if json is not None:
        write_whole(json, codec.dumps([each.to_dict() for each in done], indent=2) + "\n")


def all_jobs() -> list[Job]:
    """Those of every file beside this one that has some."""
    names = sorted(each.name for each in iter_modules(here.__path__) if each.name != "__main__")
    modules = (import_module(f"benchmarks.analysis.{name}") for name in names)
    return [job for module in modules for job in getattr(module, "JOBS", ())]


def _row(each: Measured) -> Sequence[str]:
    told = ", ".join(f"{name} {value}" for name, value in each.figures.items())
    less, memory = each.ratio("processor"), 1 / each.ratio("memory")
    return each.job.name, told, f"{each.ratio('seconds'):.1f}", f"{each.job.bar:g}", f"{less:.1f}", f"{memory:.2f}"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)

if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks.analysis")
    except TrtcalError as error:
        sys.stderr.write(f"benchmarks.analysis: {error}\n")
        sys.exit(error.exit_code)
