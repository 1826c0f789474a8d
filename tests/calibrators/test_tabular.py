"""Results that are tables."""

from html.parser import HTMLParser

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


def test_a_notebook_gets_the_rows_as_html():
    assert Texts(Two()._repr_html_()).rows == [
        ["layer", "sqnr db", "kept", "why"],
        ["<b>&amp;", "31.4159", "yes", ""],
        ["conv", "inf", "no", "too small"],
    ]


def test_no_rows_are_an_empty_table():
    assert Texts(html_of([])).rows == [[]]
