"""``python -m benchmarks``: options in, tables and JSON out."""

import json as codec
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.figures import DEFAULTS, Settings
from calibrators.errors import TrtcalError
from trtcal.tables import console

NAMES = ("resnet50", "mobilenetv2")


def bench(
    *,
    models: Annotated[str, typer.Option(help="Models to make, separated by commas.", metavar="NAMES")] = ",".join(
        NAMES
    ),
    images: Annotated[int, typer.Option(help="Images to calibrate on.", metavar="N", min=1)] = DEFAULTS.images,
    rounds: Annotated[
        int, typer.Option(help="Rounds of each wall time; the median counts.", metavar="N", min=1)
    ] = DEFAULTS.rounds,
    peers: Annotated[bool, typer.Option(help="Measure ONNX Runtime's own calibrators too.")] = True,
    peers_images: Annotated[
        int, typer.Option(help="Their images, in whole batches: Entropy takes 0.1 GB for each.", metavar="N", min=1)
    ] = DEFAULTS.peers_images,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures here.", metavar="FILE", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables in Markdown.")] = False,
) -> None:
    """Measure calibration: wall time over plain inference, memory, threshold searches; ONNX Runtime's own beside them.

    Models and images are made from seeds. The figures mean something only where nothing else runs.
    """
    from benchmarks.measure import measure
    from benchmarks.peers import whole_batches
    from benchmarks.report import remarks, tables
    from calibrators.files import require_writable, write_whole

    chosen = tuple(dict.fromkeys(name.strip() for name in models.split(",")))
    if unknown := [name for name in chosen if name not in NAMES]:
        raise TrtcalError(f"there is no model {unknown[0]!r} to make: choose among {', '.join(NAMES)}")
    if json is not None:
        require_writable(json)
    settings = Settings(chosen, images, rounds, whole_batches(min(images, peers_images)) if peers else 0)
    try:
        figures = measure(settings, say=console.note)
    except KeyboardInterrupt:
        console.note("benchmarks: interrupted; nothing was written")
        raise typer.Exit(130) from None
    for each in tables(figures):
        if markdown:
            console.say(each.markdown() + "\n")
        else:
            console.table(each.title, each.columns, each.rows, numeric=each.numeric)
    for line in remarks(figures):
        console.note(f"note: {line}")
    if json is not None:
        write_whole(json, codec.dumps(figures.to_dict(), indent=2) + "\n")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)


def main() -> None:
    """Run the command; exit code 0 done, 2 bad usage, 130 interrupted."""
    try:
        app(prog_name="python -m benchmarks")
    except TrtcalError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        sys.exit(error.exit_code)
