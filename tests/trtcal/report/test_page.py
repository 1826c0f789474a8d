"""The page: all sections, nothing that asks for anything, and texts that stay texts."""

import re

import pytest

from calibrators.errors import DataError
from tests.trtcal.report.records import HOSTILE, record_of
from trtcal.report.differences import differences, write_differences
from trtcal.report.page import SECTIONS, page_of, write_page

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra [report])")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed (extra [report])")


def test_all_sections_are_there_and_empty_ones_name_the_command():
    page = page_of({"report": 1, "title": "empty"})
    for name, heading in SECTIONS:
        assert f'<section id="{name}"' in page and f'<a href="#{name}">{heading}</a>' in page
    for command in (
        "trtcal optimize",
        "trtcal accuracy --json",
        "trtcal inspect ENGINE --json",
        "trtcal benchmark --json",
    ):
        assert f"<code>{command}</code> would fill it" in page


def test_texts_are_texts():
    page = page_of(record_of(20, 5))
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert page.count("int8 holds &lt;/script&gt;&lt;img") == 1


def test_it_asks_for_nothing():
    page = page_of(record_of(20, 5))
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    head = page[: page.index("<script>")]
    assert not re.findall(r'(?:src|href)="(?!#|data:)', head)


def test_it_is_small_even_where_the_model_is_large(tmp_path):
    write_page(record_of(5000, 1000), tmp_path / "large.html")
    assert (tmp_path / "large.html").stat().st_size < 5e6


@pytest.mark.parametrize(
    "section", ["ranges", "layers", "verdict", "mixed_precision", "sensitivity", "engines", "images"]
)
@pytest.mark.parametrize("content", [{"x": 1}, [1], "text", 7])
def test_a_record_that_someone_edited_is_an_error_of_one_line(section, content):
    record = {**record_of(5, 2), section: content}
    try:
        page = page_of(record)
    except DataError as error:
        assert "not as trtcal writes it" in str(error) and "\n" not in str(error)
    else:
        assert page.startswith("<!doctype html>")
    try:
        differences(record, record_of(5, 2))
    except DataError as error:
        assert "not as trtcal writes it" in str(error)


def test_two_runs_side_by_side(tmp_path):
    one, other = record_of(20, 5), record_of(20, 5)
    other["verdict"]["candidates"][0]["accuracy"] = 45.0
    other["layers"]["nodes"][3]["precision"] = "fp16"
    other["ranges"]["tensors"][1]["thresholds"]["mse"] *= 1.5
    other["how"]["versions"]["onnxruntime"] = "2"
    found = differences(one, other)
    assert [(each.about, each.what) for each in found] == [
        ("Verdict", "int8: accuracy"),
        ("Ranges", "tensor/1"),
        ("Precision of layers", "layer/3"),
        ("How", "versions.onnxruntime"),
    ]
    assert found[0].size == pytest.approx(0.5) and (found[2].one, found[2].other) == ("int8", "fp16")
    assert differences(one, one) == []
    write_differences(found, tmp_path / "both.html", names=("A <b>", "B"))
    page = (tmp_path / "both.html").read_text()
    assert "A &lt;b&gt; and B" in page and "layer/3" in page


def test_the_largest_difference_comes_first():
    one, other = record_of(20, 5), record_of(20, 5)
    for place, factor in ((0, 1.1), (1, 3.0), (2, 1.5)):
        other["ranges"]["tensors"][place]["thresholds"]["mse"] *= factor
    assert [each.what for each in differences(one, other)] == ["tensor/1", "tensor/2", "tensor/0"]
