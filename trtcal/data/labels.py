"""Labels: class numbers from a CSV file for a folder, from an .npy file for arrays."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError
from calibrators.files import opened

Labels = npt.NDArray[np.int64]

MOST_BYTES = 2**28
"""Some million rows."""


def read_csv(path: Path, names: Sequence[str]) -> tuple[Labels, tuple[str, ...]]:
    """Labels of a folder's images from rows `file,label`; a first row that says just that is a heading.

    `file` is relative to the folder, with forward slashes. Labels are class numbers, or class names, which are numbered
    in sorted order over the whole file.

    Args:
        path: The CSV file, UTF-8.
        names: The images' relative paths.

    Returns:
        int64 of shape (len(names),), and the class names, none where the file has numbers.

    Raises:
        DataError: The file cannot be read, or a row or image without its counterpart; the message names line and file.
    """
    rows = _rows(path)
    stated: dict[str, str] = {}
    for line, file, label in rows:
        name = str(PurePosixPath(file))
        if stated.setdefault(name, label) != label:
            raise DataError(f"labels {path}, line {line}: {file} has another label on a line above; keep one")
    known = set(names)
    for line, file, _ in rows:
        if str(PurePosixPath(file)) not in known:
            raise DataError(f"labels {path}, line {line}: no image {file} in the folder; paths are relative to it")
    without = [name for name in names if name not in stated]
    if without:
        raise DataError(f"labels {path}: {len(without)} of {len(names)} images have none, the first is {without[0]}")
    numbered = {line: label for line, _, label in rows if label.isdecimal() and len(label) < 19}
    if numbered and len(numbered) < len(rows):
        line, label = next((line, label) for line, _, label in rows if line not in numbered)
        raise DataError(f"labels {path}, line {line}: {label!r} is a name where other lines have numbers; use one kind")
    classes = () if numbered else tuple(sorted(set(stated.values())))
    number = {label: index for index, label in enumerate(classes)} or {label: int(label) for label in stated.values()}
    return np.array([number[stated[name]] for name in names], np.int64), classes


def read_npy(path: Path, count: int) -> Labels:
    """Labels of arrays: an .npy file of `count` class numbers.

    Raises:
        DataError: The file cannot be read or holds something else.
    """
    try:
        if path.exists() and not path.is_file():  # Opening a pipe would wait for ever.
            raise ValueError("no file")
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy's reader on hostile bytes raises anything: MemoryError, OverflowError, ...
        explained = isinstance(error, OSError) and error.strerror
        reason = explained or "it is no .npy file of plain numbers"
        raise DataError(f"labels {path}: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"labels {path}: it holds several arrays; give an .npy with one")
    return checked(array, count, f"labels {path}")


def checked(array: npt.NDArray[np.generic], count: int, where: str) -> Labels:
    """Class numbers as int64 of shape (count,).

    Raises:
        DataError: Not one integer of at least 0 per sample; the message begins with `where`.
    """
    if array.dtype.kind not in "iu" or array.shape != (count,):
        shape = "x".join(map(str, array.shape)) or "no shape"
        raise DataError(f"{where}: {array.dtype} of {shape}, not one class number for each of {count} samples")
    labels = array.astype(np.int64)
    if count and labels.min() < 0:
        raise DataError(f"{where}: the class number {labels.min()} is below 0")
    return labels


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """(line, file, label) of each row that is not empty."""
    rows: list[tuple[int, str, str]] = []
    try:
        with opened(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"labels {path}: it is larger than {MOST_BYTES >> 20} MiB, and no file of `file,label`")
        with io.StringIO(data.decode("utf-8-sig"), newline="") as text:
            reader = csv.reader(text, strict=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not any(cells) or (not rows and [cell.lower() for cell in cells] == ["file", "label"]):
                    continue
                if len(cells) != 2 or not all(cells):
                    got = ",".join(row)
                    raise DataError(f"labels {path}, line {reader.line_num}: a row is `file,label`, not {got!r}")
                rows.append((reader.line_num, cells[0], cells[1]))
    except OSError as error:
        raise DataError(f"labels {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"labels {path}: it is no CSV file in UTF-8 ({error})") from error
    if not rows:
        raise DataError(f"labels {path}: it has no row; a row is `file,label`")
    return rows
