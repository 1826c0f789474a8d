"""What `sensitivity` prints of tensors that look wrong, and how wide it is."""

import sys
from dataclasses import replace

import pytest

from trtcal.analysis.errors.advice import HARMFUL
from trtcal.analysis.errors.error_report import ErrorReport
from trtcal.analysis.errors.suspicion import Suspicion
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share
from trtcal.tables import sensitivity
from trtcal.tables.sensitivity import MOST


def report(*suspicions: Suspicion) -> ErrorReport:
    return ErrorReport((), suspicions, Score(), Score())


def lines(report: ErrorReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    sensitivity._print_errors(report)
    return capsys.readouterr().out.splitlines()


def test_ten_of_a_kind_with_advice_and_how_to_see_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    known = [Suspicion(f"t{place}", "dead channels", "why", ("a",), harms=False) for place in range(MOST + 3)]
    out = lines(report(Suspicion("bad", "few levels", "why", ("b",)), *known), capsys)
    named = [line for line in out if line.startswith("worth knowing: t")]
    assert [line.split()[2] for line in named] == [f"t{place}" for place in range(MOST)]
    assert "suspicious: bad (b): few levels: why" in out
    assert out[out.index("suspicious: bad (b): few levels: why") + 1].strip() == f"to try: {HARMFUL['few levels']}"
    assert "worth knowing: 3 more, less bad: --json and -o FILE.json have them all" in out
    assert sum(line.strip().startswith("to try: ") for line in out) == MOST + 1


def test_nothing_is_left_out_of_ten(capsys: pytest.CaptureFixture[str]) -> None:
    known = [Suspicion(f"t{place}", "dead channels", "why", ("a",), harms=False) for place in range(MOST)]
    assert not any("more, less bad" in line for line in lines(report(*known), capsys))


def test_every_column_has_a_legend(capsys: pytest.CaptureFixture[str]) -> None:
    out = lines(report(), capsys)
    heading = next(line for line in out if line.startswith("┃"))
    legend = "\n".join(out[out.index(next(line for line in out if line.startswith("└"))) :])
    for column in heading.strip("┃").split("┃"):
        if column.strip() not in ("layer", "operator", "cosine"):
            assert column.strip() in legend


def test_the_scores_fit_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a top-5 column and all others."""
    whole = Score(600, 10, Share(600, 600), Share(600, 600), Share(600, 600), 0, 0, {"y": Distortion(1.0, 0.001)})
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    sensitivity._print_scores({"FP32": replace(whole, distortions={}), "INT8": whole})
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "drop" in out
