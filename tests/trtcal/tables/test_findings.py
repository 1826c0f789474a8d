"""Findings, for readers."""

import pytest

from engines.structure.findings import Finding
from trtcal.tables.findings import LONGEST_NAME, grouped, show_findings

LONG = "/model/" + "block/" * 20 + "Conv"
FINDINGS = (
    Finding("warning", "unfused", (LONG,), f"{LONG} reads float"),
    Finding("warning", "unfused", ("second",), "second reads float"),
    Finding("error", "zero", (), "a scale of zero"),
)


def test_a_line_for_each_kind_with_long_names_cut() -> None:
    first, second = grouped(FINDINGS)
    assert first.startswith("warning: /model/block/")
    assert first.endswith("/Conv reads float (and 1 more)")
    assert max(map(len, first.split())) <= LONGEST_NAME
    assert second == "error: a scale of zero"


def test_the_table_has_them_all_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings(FINDINGS)
    out = capsys.readouterr().out
    assert out.startswith("Findings\n")
    assert all(each.message in out for each in FINDINGS)


def test_nothing_is_said_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings(())
    assert capsys.readouterr().out == ""
