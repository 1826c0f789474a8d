"""The file beside YOLO labels that names their classes: `data.yaml`, `dataset.yaml` or `classes.txt`.

Of YAML a small part is read, what such files are written in: `names` and `kpt_shape` at the beginning of a line.

    names: [person, 'traffic light', "dog"]      # on one line or several
    names: {0: person, 1: traffic light}         # on one line or several
    names:                                       # a list
      - person
    names:                                       # a table
      0: person
    kpt_shape: [17, 3]
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from calibrators.errors import DataError
from calibrators.files import opened

MOST_BYTES = 2**24
"""Names of some hundred thousand classes."""

SPLITS = ("train", "val", "valid", "test")
"""Folders that stand between a dataset's own and its labels."""


class DatasetFile(NamedTuple):
    """What is said of a dataset.

    Attributes:
        path: Where.
        names: Of the classes, by number.
        points: How many points an object has, and 2 or 3 numbers for each; None where that is not said.
    """

    path: Path
    names: Mapping[int, str]
    points: tuple[int, int] | None = None


def beside(folder: Path) -> DatasetFile | None:
    """The file of a folder of labels: in it, or above the folder `labels` that it is or lies in.

    Raises:
        DataError: It cannot be read, or its names are written in another way.
    """
    for place in _places(folder.absolute()):
        for name in ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml", "classes.txt"):
            path = place / name
            if path.is_file():
                try:
                    found = _of_lines(path) if name.endswith(".txt") else _of_yaml(path)
                except DataError as error:
                    raise DataError(f"{path}: {error}") from error
                if found is not None:
                    return found
    return None


def _places(folder: Path) -> Iterator[Path]:
    yield folder
    for place in (folder, *folder.parents):
        if place.name == "labels":
            yield place.parent
            if place.parent.name in SPLITS:
                yield place.parent.parent
            return


def _of_lines(path: Path) -> DatasetFile | None:
    names = [line.strip() for line in _text(path).splitlines()]
    while names and not names[-1]:
        names.pop()
    return DatasetFile(path, dict(enumerate(names))) if names else None


def _of_yaml(path: Path) -> DatasetFile | None:
    text = _text(path)
    start = re.search(r"^names[ \t]*:", text, re.MULTILINE)
    if start is None:
        return None
    names = _names(text[start.end() :])
    if not names:
        raise DataError("names are a list of names, or a table of class numbers and names; write them so")
    points = re.search(r"^kpt_shape[ \t]*:[ \t]*\[[ \t]*(\d{1,4})[ \t]*,[ \t]*([23])[ \t]*\]", text, re.MULTILINE)
    return DatasetFile(path, names, (int(points[1]), int(points[2])) if points else None)


def _names(text: str) -> dict[int, str]:
    bare, outline = _scanned(text)
    first = bare.lstrip(" \t")[:1]
    if first == "[":
        return dict(enumerate(_scalar(item) for item in _items(bare, outline, "[", "]")))
    if first == "{":
        return dict(_entry(item) for item in _items(bare, outline, "{", "}"))
    lines = []
    for line in bare.splitlines()[1:]:
        if line.strip() and not re.match(r"[ \t]+\S|-[ \t]", line):
            break
        lines += [line.strip()] if line.strip() else []
    if lines and all(line.startswith("- ") for line in lines):
        return dict(enumerate(_scalar(line[2:]) for line in lines))
    return dict(_entry(line) for line in lines)


def _items(bare: str, outline: str, begin: str, end: str) -> list[str]:
    """What stands between the brackets, parted at commas."""
    last = outline.find(end)
    if last < 0:
        raise DataError("the brackets of names do not end")
    items = []
    start = outline.index(begin) + 1
    while start < last:
        comma = outline.find(",", start, last)
        stop = last if comma < 0 else comma
        items.append(bare[start:stop].strip())
        start = stop + 1
    return [item for item in items if item]


def _scanned(text: str) -> tuple[str, str]:
    """The text with blanks for its comments; and that once more, with a q for each character in quotes."""
    bare, outline = list[str](), list[str]()
    quote, comment, escaped, before = "", False, False, "\n"
    for char in text:
        comment = (comment or (char == "#" and not quote and before.isspace())) and char != "\n"
        quoted = bool(quote)
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and quote == '"' and not escaped
        elif char in "'\"" and not comment and (before.isspace() or before in "[{,:'"):
            quote, quoted = char, True
        bare.append(" " if comment else char)
        outline.append("q" if quoted else bare[-1])
        before = char
    return "".join(bare), "".join(outline)


def _entry(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"['\"]?(\d{1,9})['\"]?[ \t]*:[ \t]+(.+)", text)
    if match is None:
        raise DataError(f"{text[:40]!r} is no class number and name, such as `0: person`")
    return int(match[1]), _scalar(match[2])


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))  # its escapes are YAML's but for the rare ones
        except ValueError:
            return text[1:-1]
    return text


def _text(path: Path) -> str:
    try:
        with opened(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"it is larger than {MOST_BYTES >> 20} MiB, and no file of names")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"it is not text in UTF-8 ({error.reason})") from error
