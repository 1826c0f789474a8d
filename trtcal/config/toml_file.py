"""TOML files of settings: read, and held against the keys and words that there are."""

import importlib
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from calibrators.errors import DataError, TrtcalError
from calibrators.files import opened

MOST_BYTES = 2**24
"""Settings of about a hundred thousand layers."""

MOST_PARTS = 50
"""Parts of a key, with dots between; the parser's time grows with their square."""


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
    """What a text holds; `error` is what is raised where it is no TOML, or has numbers that TOML has not."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    if any(line.count(".") > MOST_PARTS and _has_long_key(line) for line in text.splitlines()):
        raise error(f"has a key of more than {MOST_PARTS} parts, which no settings have")
    try:
        content: dict[str, Any] = tomllib.loads(text, parse_float=_float)
    except (ValueError, RecursionError) as failure:  # beside TOMLDecodeError: a number of thousands of digits
        raise error(f"is not TOML: {failure}") from failure
    if not _fits(content):
        raise error("is not TOML: it holds an integer of more than 64 bits")
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


def _has_long_key(line: str) -> bool:
    """Whether a table's name, or what stands before an equals sign, has too many parts."""
    *keys, last = line.split("=")
    keys += [last] if line.lstrip().startswith("[") else []
    return any(re.split("[{,]", key)[-1].count(".") >= MOST_PARTS for key in keys)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError(f"{text[:40]} is more than a float holds")
    return value


def _fits(content: dict[str, Any]) -> bool:
    """Whether all integers have at most 64 bits; hexadecimal ones, the parser reads at any length."""
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return False
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return True
