"""Results that are tables: plain rows for programs, and the same as HTML for notebooks."""

from collections.abc import Sequence
from html import escape

Cell = str | int | float | bool | None
"""None where nothing was measured or there is nothing to say."""

Row = dict[str, Cell]
"""The cells of a row by column; all rows of a table have the same columns."""


class Tabular:
    """A result that is a table: ``pandas.DataFrame(result.rows())`` takes it as it is, and a notebook shows it.

    Printed it is one short line.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        if "__repr__" not in vars(cls):  # a dataclass would write a text of all its fields, which may be very long
            type.__setattr__(cls, "__repr__", Tabular.__repr__)

    def rows(self) -> list[Row]:
        """The table, a dictionary a row; percentages and decibels are numbers."""
        raise NotImplementedError

    def __repr__(self) -> str:
        rows = self.rows()
        if not rows:
            return f"<{type(self).__name__}: 0 rows>"
        named = ", ".join([*list(rows[0])[:3], *(["..."] if len(rows[0]) > 3 else [])])
        return f"<{type(self).__name__}: {len(rows)} row{'s' * (len(rows) > 1)} of {named}; rows() has them>"

    def _repr_html_(self) -> str:
        return html_of(self.rows())


def html_of(rows: Sequence[Row]) -> str:
    """Rows as an HTML table, without the columns that are empty in all of them."""
    columns = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)] if rows else []
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns)
    lines = ("".join(_cell(row[name]) for name in columns) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(value: Cell) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        text = str(value) if isinstance(value, int) else f"{value:.6g}"
        return f'<td style="text-align: right">{text}</td>'
    return f"<td>{escape(value)}</td>"
