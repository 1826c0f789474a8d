"""Results that are tables."""

from dataclasses import dataclass
from html.parser import HTMLParser

import pytest

from calibrators.tabular import Row, Tabular, html_of


class Texts(HTMLParser):
    """The texts of the cells, row by row; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += text


class Two(Tabular):
    def rows(self) -> list[Row]:
        return [
            {"layer": "<b>&amp;", "sqnr_db": 31.41592653, "kept": True, "empty": None, "why": ""},
            {"layer": "conv", "sqnr_db": float("inf"), "kept": False, "empty": None, "why": "too small"},
        ]


@dataclass(frozen=True, slots=True)
class Written(Tabular):
    table: list[Row]

    def rows(self) -> list[Row]:
        return self.table


def test_a_notebook_gets_the_rows_as_html():
    assert Texts(Two()._repr_html_()).rows == [
        ["layer", "sqnr db", "kept", "why"],
        ["<b>&amp;", "31.4159", "yes", ""],
        ["conv", "inf", "no", "too small"],
    ]


def test_no_rows_are_an_empty_table():
    assert Texts(html_of([])).rows == [[]]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "<Written: 0 rows>"),
        ([{"layer": "a"}], "<Written: 1 row of layer; rows() has them>"),
        ([{"layer": "a", "sqnr_db": 1.0, "why": ""}] * 2, "<Written: 2 rows of layer, sqnr_db, why; rows() has them>"),
        ([dict.fromkeys("abcd", 1)] * 3, "<Written: 3 rows of a, b, c, ...; rows() has them>"),
    ],
)
def test_printed_a_result_is_one_short_line_whatever_it_holds(rows, text):
    assert repr(Written(rows)) == str(Written(rows)) == text
