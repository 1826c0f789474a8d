"""``python -m benchmarks.league``: the default, every method and peers, on the same networks."""

import json as codec
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.league.networks import BUNDLED, REAL, Counts, Made
from benchmarks.league.peers import PEERS, Peer, installed
from benchmarks.league.season import Files, Season, played
from benchmarks.league.standing import tables
from calibrators.errors import TrtcalError
from calibrators.ranges import METHODS
from trtcal.tables import console


def bench(
    *,
    models: Annotated[
        str, typer.Option(help=f"Networks, separated by commas: {', '.join((*BUNDLED, *REAL))}.", metavar="NAMES")
    ] = ",".join((*BUNDLED, *REAL)),
    methods: Annotated[str, typer.Option(help="Range methods, separated by commas.", metavar="NAMES")] = ",".join(
        METHODS
    ),
    peers: Annotated[bool, typer.Option(help="Have peers quantize, too.")] = True,
    peers_python: Annotated[
        list[Path] | None,
        typer.Option(
            help="Python of an environment with peers; may be repeated. Without it, this one's are taken.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    peers_seconds: Annotated[float, typer.Option(help="How long a peer may take for a network.", min=1)] = 900,
    images: Annotated[int, typer.Option(help="To calibrate on.", metavar="N", min=1)] = 300,
    test_images: Annotated[int, typer.Option(help="To judge by.", metavar="N", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of the images.", min=0)] = 0,
    data: Annotated[Path, typer.Option(help="The folder with models/ and images/ of real networks.")] = Path(
        "../shared/data"
    ),
    json: Annotated[
        Path | None,
        typer.Option(help="Write all figures here, after each network.", metavar="FILE", show_default=False),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables in Markdown.")] = False,
) -> None:
    """Quantize networks by trtcal's default, by each range method, and by peers; print what each loses.

    Everything is judged on the same images by SQNR against the float model, of the worst output or group of channels,
    in dB. The default is what `trtcal calibrate` and `trtcal quantize` do without an option.
    """
    from calibrators.files import require_writable, write_whole

    if json is not None:
        require_writable(json)
    made = chosen(_names(models), data)
    known, absent = _peers(peers_python or [Path(sys.executable)]) if peers else ([], [])
    for peer in absent:
        console.note(f"left out: {peer.name}, which no environment that was given has (--peers-python)")
    seasons: dict[str, Season] = {}
    for name, make in made.items():
        console.note(name)
        with tempfile.TemporaryDirectory(prefix="trtcal-league-") as folder:
            network = make(data, Counts(images, test_images, seed))
            files = Files.written(network, Path(folder))
            seasons[name] = played(files, Path(folder), methods=_names(methods), peers=known, seconds=peers_seconds)
        for who, why in seasons[name].failed.items():
            console.note(f"{name}: no figure for {who}: {why}")
        if json is not None:
            write_whole(json, codec.dumps({key: each.to_dict() for key, each in seasons.items()}, indent=2) + "\n")
    for table in tables(seasons):
        if markdown:
            console.say(table.markdown() + "\n")
        else:
            console.table(table.title, table.columns, table.rows, numeric=table.numeric)


def _names(given: str) -> Sequence[str]:
    return tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))


def chosen(names: Sequence[str], data: Path) -> Mapping[str, Made]:
    """The networks of these names; where there is no data, the real ones are left out with a note."""
    every = {**BUNDLED, **REAL}
    if unknown := [name for name in names if name not in every]:
        raise TrtcalError(f"there is no network {unknown[0]!r}: choose among {', '.join(every)}")
    lacking = [] if (data / "models").is_dir() else [name for name in names if name in REAL]
    if lacking:
        console.note(f"left out: {', '.join(lacking)}, as {data} holds no models/ (--data)")
    return {name: every[name] for name in names if name not in lacking}


def _peers(pythons: Sequence[Path]) -> tuple[list[tuple[Path, Peer]], list[Peer]]:
    """Peers with the first environment that has each; and those that none has."""
    found, absent = [], []
    for peer in PEERS:
        python = next((each for each in pythons if installed(each, peer)), None)
        if python is None:
            absent.append(peer)
        else:
            found.append((python, peer))
    return found, absent


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)

if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks.league")
    except TrtcalError as error:
        sys.stderr.write(f"benchmarks.league: {error}\n")
        sys.exit(error.exit_code)
