"""TOML files of settings: read, and held against the keys and words that there are."""

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from calibrators.errors import DataError, TrtcalError
from calibrators.files import opened

MOST_BYTES = 2**24
"""Settings of about a hundred thousand layers."""


def read_toml(path: Path, *, error: type[TrtcalError] = DataError) -> dict[str, Any]:
    """What a file holds; messages do not name it, and `error` is what is raised where it cannot be read."""
    try:
        with opened(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as failure:
        raise error(f"cannot be read: {failure.strerror or failure}") from failure
    if len(data) > MOST_BYTES:
        raise error(f"is over {MOST_BYTES >> 20} MiB, which no settings are")
    try:
        return parse_toml(data.decode("utf-8-sig"), error=error)  # editors on Windows begin a file with a mark
    except UnicodeDecodeError as failure:
        raise error("is not UTF-8 text") from failure


def parse_toml(text: str, *, error: type[TrtcalError] = DataError) -> dict[str, Any]:
    """What a text holds; `error` is what is raised where it is no TOML."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as failure:  # beside TOMLDecodeError: a number of thousands of digits
        raise error(f"is not TOML: {failure}") from failure
    return content


def check_keys(
    value: Mapping[str, Any],
    valid: Sequence[str],
    *,
    within: str = "",
    closeness: float = 0.7,
    error: type[TrtcalError] = DataError,
) -> None:
    """Refuse keys that there are not; the message names the nearest valid one, and all that are valid."""
    for key in value:
        if key not in valid:
            near = nearest(key, valid, closeness=closeness)
            raise error(f"unknown key {within + key!r}{near}; valid: {', '.join(valid)}")


def nearest(word: str, valid: Iterable[str], *, closeness: float = 0.7) -> str:
    """A question in brackets after the valid word that is most like `word`; empty where none is as close as that."""
    close = get_close_matches(word, list(valid), n=1, cutoff=closeness)
    return f" (did you mean {close[0]!r}?)" if close else ""
