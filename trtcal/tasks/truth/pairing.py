"""Pairing: which entry or file of annotations belongs to which image, by their paths."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Parts = tuple[str, ...]


class Pairs(NamedTuple):
    """What belongs together.

    Attributes:
        found: A file by the image's name.
        unclear: Names of images that more than one file may belong to, or that share one.
        exact: Whether the paths are equal.
    """

    found: dict[str, str]
    unclear: tuple[str, ...] = ()
    exact: bool = False


def paired(names: Sequence[str], files: Sequence[str]) -> Pairs:
    """Find the file of each image.

    Their paths are equal. If those of no image are, theirs ends in ours, or ours in theirs, or the last parts are equal
    and no two of either side are: whichever of these finds most files goes for all images. Unicode is compared in its
    composed form, as macOS takes letters with accents apart.

    Args:
        names: Paths of images relative to their folder, without their endings where `files` have none.
        files: Paths that annotations know.
    """
    ours = {name: _parts(name) for name in dict.fromkeys(names)}
    theirs = {file: _parts(file) for file in dict.fromkeys(files)}
    whole = _only((parts, file) for file, parts in theirs.items())
    found = {name: whole[parts] for name, parts in ours.items() if parts in whole}
    if found:
        return Pairs(found, exact=True)
    found = max(_by_our_path(ours, theirs), _by_their_path(ours, whole), _by_last_part(ours, theirs), key=len)
    ends = {parts[-1] for parts in theirs.values()}
    return Pairs(found, tuple(name for name, parts in ours.items() if name not in found and parts[-1] in ends))


def _by_our_path(ours: dict[str, Parts], theirs: dict[str, Parts]) -> dict[str, str]:
    ends = _only((parts[first:], file) for file, parts in theirs.items() for first in range(len(parts)))
    return _apart({name: ends[parts] for name, parts in ours.items() if parts in ends})


def _by_their_path(ours: dict[str, Parts], whole: dict[Parts, str]) -> dict[str, str]:
    found = {}
    for name, parts in ours.items():
        ends = [parts[first:] for first in range(len(parts)) if parts[first:] in whole]
        if ends:
            found[name] = whole[ends[0]]
    return _apart(found)


def _by_last_part(ours: dict[str, Parts], theirs: dict[str, Parts]) -> dict[str, str]:
    last = _only((parts[-1:], file) for file, parts in theirs.items())
    return _apart({name: last[parts[-1:]] for name, parts in ours.items() if parts[-1:] in last})


def _only(pairs: Iterable[tuple[Parts, str]]) -> dict[Parts, str]:
    """Those whose key no other has."""
    values: dict[Parts, str] = {}
    twice = set()
    for key, value in pairs:
        if values.setdefault(key, value) != value:
            twice.add(key)
    return {key: value for key, value in values.items() if key not in twice}


def _apart(found: dict[str, str]) -> dict[str, str]:
    """Those whose file belongs to no other image."""
    names: dict[str, list[str]] = {}
    for name, file in found.items():
        names.setdefault(file, []).append(name)
    return {shared[0]: file for file, shared in names.items() if len(shared) == 1}


def _parts(path: str) -> Parts:
    composed = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in composed.split("/") if part not in ("", ".")) or ("",)
