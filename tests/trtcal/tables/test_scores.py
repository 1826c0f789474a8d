"""The cells of a score."""

import math

import pytest

from trtcal.measure.measures import Score, Share
from trtcal.tables.scores import cells, decibels


@pytest.mark.parametrize(
    ("value", "cell"), [(math.inf, "identical"), (31.449, "31.4 dB"), (-0.04, "0.0 dB"), (-3.06, "-3.1 dB")]
)
def test_decibels(value: float, cell: str) -> None:
    assert decibels(value) == cell


def test_what_was_not_measured_has_an_empty_cell() -> None:
    assert {name: cell for name, cell in cells("m", Score(samples=4), None).items() if cell} == {"model": "m"}


def test_only_other_models_than_the_reference_have_a_drop() -> None:
    score = Score(samples=4, top1=Share(3, 4), agreement=Share(4, 4), lost=1, gained=1)
    both = {name: cells(name, score, "FP32") for name in ("FP32", "INT8")}
    assert [both[name]["top-1"] for name in both] == ["75.00 %", "75.00 %"]
    assert [both[name][heading] for name in both for heading in ("drop", "lost", "gained")] == [
        "",
        "",
        "",
        "0.00",
        "1",
        "1",
    ]
    assert both["INT8"]["95 % CI"] == "30.06-95.44"
