"""Rows of YOLO label files: numbers, and what the columns of a row are.

Formats: https://docs.ultralytics.com/datasets/detect/, .../segment/ and .../pose/.

    class  x y width height                          a box, by its centre
    class  x1 y1 x2 y2 x3 y3 ...                     a polygon
    class  x y width height  x1 y1 [v1] x2 y2 [v2] ...   a box and points, with COCO's visibility or without

All but classes and visibilities are parts of the image's width and height, 0 to 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from calibrators.errors import DataError
from calibrators.files import opened
from trtcal.tasks.truth.segmentations import shown

MOST_BYTES = 2**26
"""Half a million boxes in one image."""

ROUNDING = 0.01
"""By which a number may be outside of 0 to 1."""

BOX = 5
"""Columns of a box."""


class Row(NamedTuple):
    """One object.

    Attributes:
        where: File and line, for messages.
        number: Its class.
        values: The other columns.
    """

    where: str
    number: int
    values: list[float]


def read_rows(path: Path, where: str) -> tuple[list[Row], int]:
    """The rows of a file, and how many were left out as they stand on a line above too, as Ultralytics does.

    Raises:
        DataError: It cannot be read, or a row is not of numbers.
    """
    try:
        with opened(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"{where}: it is larger than {MOST_BYTES >> 20} MiB, and no file of labels")
        lines = data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{where}: it cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: it is not text: labels are rows of numbers") from error
    rows: dict[tuple[str, ...], Row] = {}
    repeated = 0
    for line, text in enumerate(lines, start=1):
        cells = tuple(text.split())
        repeated += cells in rows
        if cells and cells not in rows:
            rows[cells] = _row(cells, f"{where}, line {line}")
    return list(rows.values()), repeated


def _row(cells: Sequence[str], where: str) -> Row:
    try:
        number, *values = (float(cell) for cell in cells)
    except ValueError as error:
        raise DataError(f"{where}: {shown(' '.join(cells))} is no row of numbers: {_FORM}") from error
    if not 0 <= number < 2**31 or number != int(number):
        raise DataError(f"{where}: the class {cells[0]} is no number from 0 up")
    if len(values) < BOX - 1:
        raise DataError(f"{where}: it has {len(cells)} columns: {_FORM}")
    return Row(where, int(number), values)


_FORM = "a row is class, x, y, width, height, or class and a polygon, or class, box and points"


def point_shape(rows: Sequence[Row], stated: tuple[int, int] | None, *, sure: bool) -> tuple[int, int] | None:
    """How many points each object has, and 2 or 3 numbers for each; None where rows hold no points.

    Without a statement, rows hold points if they are all as long and every third number is a visibility.

    Args:
        rows: Of all files, at least one.
        stated: What the dataset's file says.
        sure: Rows must hold points, so two numbers for each will do, too.
    """
    if stated is not None:
        return stated
    lengths = {len(row.values) + 1 for row in rows}
    extra = lengths.pop() - BOX
    if lengths or not extra:
        return None
    if extra % 3 == 0 and all(value in (0, 1, 2) for row in rows for value in row.values[6::3]):
        return extra // 3, 3
    return (extra // 2, 2) if sure and extra % 2 == 0 else None


def check_parts(row: Row, values: Sequence[float]) -> None:
    """Refuse what is no part of the image's width or height.

    Raises:
        DataError: A value is not from 0 to 1.
    """
    for value in values:
        if value > 1 + ROUNDING:
            raise DataError(
                f"{row.where}: {value:g} is above 1: numbers are parts of the image's width and height, not pixels"
            )
        if not value >= -ROUNDING:
            raise DataError(f"{row.where}: {value:g} is no part of the image's width or height, which are 0 to 1")
