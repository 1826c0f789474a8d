"""Findings, for readers."""

import pytest

from engines.structure.findings import Finding
from trtcal.tables.inspection.findings import LONGEST_NAME, grouped, show_findings

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


def test_what_asks_for_nothing_is_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    note = Finding("note", "round-trip", (), "a kernel of its own")
    show_findings((*FINDINGS, note))
    told, known = capsys.readouterr().out.split("Worth knowing; nothing needs to be done\n")
    assert note.message in known
    assert note.message not in told
    assert all(each.message in told for each in FINDINGS)
    show_findings((note,))
    assert "Findings" not in capsys.readouterr().out


def test_nothing_is_said_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings(())
    assert capsys.readouterr().out == ""
