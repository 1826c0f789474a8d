"""Charts: each compiles in Vega-Lite, and shows the figures that it was given."""

import json
import math

import pytest

from calibrators.errors import MissingDependencyError
from trtcal.charts import chart, specs
from trtcal.charts.chart import Chart, embedded, script

vl_convert = pytest.importorskip("vl_convert", reason="vl-convert-python is not installed (extra [report])")

IMAGES = {
    "histogram": {"low": 0.0, "high": 1.0, "channels": [[3, 4, 5, 6], [1, 1, 1, 1], [0, 0, 2, 9]]},
    "channels": [{"name": name} for name in "RGB"],
}
TENSOR = {
    "name": "conv <1> & more",
    "low": -2.0,
    "high": 2.0,
    "counts": [1, 0, 5, 7],
    "thresholds": {"mse": 1.5, "minmax": 2.0},
    "clipped": {"mse": 0.01, "minmax": 0.0},
    "levels": {"mse": 200, "minmax": 128},
}
NODE = {"operator": "Conv", "scale": 0.1, "macs": 10, "shapes": "1x2", "reason": ""}
LAYERS = {
    "nodes": [
        {**NODE, "name": "a", "precision": "int8", "error_db": 30.0, "level": 0, "lane": 0},
        {**NODE, "name": "b", "precision": "none", "error_db": None, "level": 1, "lane": 0},
    ],
    "edges": [[0, 1]],
}
SENSITIVITY = {
    "layers": [
        {"layer": "a", "type": "Conv", "alone": {"sqnr_db": 20.5}},
        {"layer": "b", "type": "Gemm", "alone": {"sqnr_db": None}},
    ]
}
POINTS = [{"cost": 10.0, "sqnr": 30.0, "front": True, "reaches": True, "layers": "3 int8"}]
SPECS = {
    "values": specs.values(IMAGES),
    "tensor": specs.tensor(TENSOR, "mse"),
    "graph": specs.graph(LAYERS),
    "sensitivity": specs.sensitivity(SENSITIVITY),
    "pareto": specs.pareto(POINTS, "ms"),
    "methods": specs.methods([{"method": "mse", "sqnr": 30.0}]),
    "by_class": specs.by_class([{"class": "cat", "lost": 1.5}]),
    "confusion": specs.confusion({"classes": ["cat", "dog"], "changed": [[0, 1, 4]]}),
    "thresholds": specs.thresholds([{"tensor": "x", "amax": 3.0}]),
}


@pytest.mark.parametrize("name", SPECS)
def test_it_compiles_and_draws(name):
    svg = vl_convert.vegalite_to_svg(json.loads(embedded(SPECS[name])))
    assert svg.startswith("<svg") and svg.count("<path") > 1


def test_bars_and_thresholds_are_where_they_belong():
    bars, lines = (layer["data"]["values"] for layer in specs.tensor(TENSOR, "mse")["layer"])
    assert [(bar["start"], bar["count"]) for bar in bars] == [(-2, 1), (-1, 0), (0, 5), (1, 7)]
    assert {(line["method"], line["amax"], line["chosen"]) for line in lines} == {
        ("mse", 1.5, True),
        ("mse", -1.5, True),
        ("minmax", 2.0, False),
        ("minmax", -2.0, False),
    }
    one_sided = specs.tensor({**TENSOR, "low": 0.0}, "mse")["layer"][1]["data"]["values"]
    assert [line["amax"] for line in one_sided] == [1.5, 2.0]


def test_points_are_those_of_the_command():
    point = {"cost": 3.0, "sqnr_db": 20.0, "front": True, "reaches": False, "layers": {"int8": 2, "fp16": 1}}
    rows = specs.points_of({"points": [point, {**point, "sqnr_db": None}]})
    assert rows == [{"cost": 3.0, "sqnr": 20.0, "front": True, "reaches": False, "layers": "2 int8, 1 fp16"}]


def test_what_nothing_is_known_of_has_no_bar():
    assert [row["layer"] for row in specs.sensitivity(SENSITIVITY)["data"]["values"]] == ["a"]
    rows = [{"layer": "a", "type": "", "sqnr": math.inf}, {"layer": "b", "type": "", "sqnr": 3.0}]
    assert [row["layer"] for row in specs.layers(rows, "dB")["data"]["values"]] == ["b"]


def test_a_chart_is_a_page_that_asks_for_nothing(tmp_path):
    found = Chart("Ranges of <x>", specs.tensor({**TENSOR, "name": "</script><script>alert(1)</script>"}, "mse"))
    found.save(tmp_path / "chart.html")
    page = (tmp_path / "chart.html").read_text()
    assert "<title>Ranges of &lt;x&gt;</title>" in page and "alert(1)</script><script>" not in page
    assert "<script src" not in page and "<link" not in page
    assert found._repr_html_().startswith("<iframe srcdoc=")
    assert set(found._repr_mimebundle_()) == {"application/vnd.vegalite.v5+json", "text/html"}


def test_no_text_ends_a_script():
    text = embedded({"a": "</script><!-- \u2028"})
    assert "<" not in text and json.loads(text) == {"a": "</script><!-- \u2028"}
    assert "</script" not in script()
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded(math.nan)


def test_without_the_library_the_extra_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name, *rest, **options):
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match=r"\[report\]"):
        chart.script()
