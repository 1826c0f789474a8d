"""The league's tables: SQNR by network and contestant, gaps to the best, and versions."""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import fmean

from benchmarks.league.peers import PEERS
from benchmarks.league.season import DEFAULT, Season
from benchmarks.report import Table

PEER_NAMES = frozenset(peer.name for peer in PEERS)
TO_PEER, TO_METHOD = 0.3, 1.0
"""By how many dB at most the default may stay behind the best peer, and behind the best single method."""


def tables(seasons: Mapping[str, Season]) -> list[Table]:
    """Figures, gaps, whether the default keeps its bars, and versions."""
    return [_figures(seasons), _gaps(seasons), _bars(seasons), _versions(seasons)]


def _figures(seasons: Mapping[str, Season]) -> Table:
    rows = [
        [who, *(_told(season.sqnr.get(who)) + _floats(season, who) for season in seasons.values())]
        for who in _contestants(seasons)
    ]
    return Table("SQNR of the worst output in dB; in brackets, layers left in float", ["", *seasons], rows, 1)


def _gaps(seasons: Mapping[str, Season]) -> Table:
    rows = []
    for who in _contestants(seasons):
        gaps = {name: _best(each) - each.sqnr[who] for name, each in seasons.items() if who in each.sqnr}
        gaps = {name: gap for name, gap in gaps.items() if math.isfinite(gap)}
        if gaps:
            worst = max(gaps, key=lambda name: gaps[name])
            rows.append([who, worst, f"{fmean(gaps.values()):.2f}", f"{gaps[worst]:.1f}", str(len(gaps))])
    return Table("Gap to the best method in dB", ["", "worst on", "mean", "worst", "networks"], rows, 2)


def _bars(seasons: Mapping[str, Season]) -> Table:
    """The default against the best peer and the best method."""
    rows = []
    for name, each in seasons.items():
        peers = {who: sqnr for who, sqnr in each.sqnr.items() if who in PEER_NAMES}
        own = each.sqnr.get(DEFAULT, -math.inf)
        peer = max(peers, key=lambda who: peers[who], default="")
        ahead = own - peers[peer] if peer else math.inf
        kept = ahead >= -TO_PEER and own >= _best(each) - TO_METHOD
        rows.append(
            [name, peer or "-", "yes" if kept else "no", _told(own), _told(peers.get(peer)), _told(_best(each))]
        )
    title = f"The default beside the best peer - {TO_PEER:g} dB and the best method - {TO_METHOD:g} dB"
    return Table(title, ["", "best peer", "kept", "default's SQNR", "best peer's", "best method's"], rows, 3)


def _versions(seasons: Mapping[str, Season]) -> Table:
    found = {name: version(name) for name in ("trtcal", "onnxruntime", "onnx", "numpy")}
    rows = [["trtcal, and the judge", ", ".join(f"{name} {number}" for name, number in found.items())]]
    told = {peer: versions for each in seasons.values() for peer, versions in each.versions.items()}
    for name, versions in told.items():
        on = [f"{each} {number}" for each, number in versions.items() if each not in ("version", name.split()[0])]
        rows.append([name, ", ".join((versions["version"], *on))])
    return Table("Versions", ["", "of"], rows, 2)


def _contestants(seasons: Mapping[str, Season]) -> Sequence[str]:
    return tuple(dict.fromkeys(who for each in seasons.values() for who in each.sqnr))


def _best(season: Season) -> float:
    """Of trtcal's methods."""
    others = (sqnr for who, sqnr in season.sqnr.items() if who not in PEER_NAMES and who != DEFAULT)
    return max(others, default=math.nan)


def _told(sqnr: float | None) -> str:
    return "-" if sqnr is None else f"{sqnr:.1f}"


def _floats(season: Season, who: str) -> str:
    count = season.left_float.get(who, 0)
    return f" ({count})" if count else ""
