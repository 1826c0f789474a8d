"""`trtcal report`: one page of what was measured."""

from pathlib import Path
from typing import Annotated, Any

import typer

from calibrators.errors import TrtcalError
from trtcal.commands import options
from trtcal.tables import console


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A folder of trtcal optimize, or with what commands said with --json in files *.json; one such "
            "file; or a statistics file.",
            show_default=False,
        ),
    ],
    other: Annotated[
        Path | None,
        typer.Argument(metavar="[OTHER]", help="Another one, to show beside it.", show_default=False),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The page to write. [default: FOLDER/report.html]",
            metavar="FILE.html",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write one HTML page of what was measured: it opens offline, and asks for nothing.

    It shows the verdict, the images as the model gets them, the ranges, the layers, sensitivity, accuracy, the engines,
    and how all was made. What commands say with --json is recognised by its content; which file was taken for what is
    said, and a file that is of no use is named.

    With OTHER, it shows two runs side by side and what differs: accuracy, ranges, precisions of layers, kernels and
    times.
    """
    from trtcal.report.differences import differences, write_differences
    from trtcal.report.page import write_page
    from trtcal.report.record import load_record

    found = load_record(folder)
    place = output or (folder / "report.html" if folder.is_dir() else folder.with_suffix(".html"))
    said: dict[str, Any] = {"page": str(place)}
    if other is None:
        write_page(found.record, place, parts=found.parts)
        said["parts"] = dict(found.parts)
    else:
        if output is None:
            raise TrtcalError("a page of two runs belongs to neither folder: say where to write it, with -o FILE.html")
        theirs = load_record(other)
        told = differences(found.record, theirs.record)
        write_differences(told, place, names=(str(folder), str(other)))
        said["differences"] = [each.to_dict() for each in told]
    if json:
        console.emit_json(said)
        return
    for name, why in found.parts.items():
        console.note(f"{name}: {why}")
    console.say(f"{place}: {place.stat().st_size / 1e6:.2f} MB")
