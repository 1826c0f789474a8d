"""The charts of a report: each a pure function from a section's plain data to a chart in Vega-Lite's language."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Section = Mapping[str, Any]
Spec = dict[str, Any]

PRECISIONS = ("int8", "fp8", "fp16", "fp32", "none")
"""Of layers, in the order of the legend; none computes nothing that could be quantized."""

COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#8c959f")
"""Of these (Okabe and Ito, 2008): told apart by the colour-blind, and on a light and a dark ground."""

ACCENT = "#0072b2"
MARKED = "#d55e00"


def values(section: Section) -> Spec:
    """How often each value occurs in preprocessed images, by channel: of the section "images"."""
    found = section["histogram"]
    low, high = found["low"], found["high"]
    rows = []
    for number, counts in enumerate(found["channels"]):
        width = (high - low) / max(len(counts), 1)
        name = section["channels"][number]["name"] if number < len(section["channels"]) else str(number)
        rows += [
            {"value": low + (place + 0.5) * width, "count": count, "channel": name}
            for place, count in enumerate(counts)
        ]
    return {
        **_chart(rows, 180),
        "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.45, "line": True},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": "value that the model gets"},
            "y": {"field": "count", "type": "quantitative", "stack": None, "title": "values"},
            "color": {"field": "channel", "type": "nominal", "title": "channel"},
            "tooltip": _tooltips(channel="nominal", value="quantitative", count="quantitative"),
        },
    }


def tensor(each: Section, chosen: str) -> Spec:
    """A tensor's values, with the threshold of every method: one of the section "ranges"."""
    low, high, counts = each["low"], each["high"], each["counts"]
    width = (high - low) / max(len(counts), 1)
    bars = [
        {"start": low + place * width, "end": low + (place + 1) * width, "count": count}
        for place, count in enumerate(counts)
    ]
    lines = [
        {
            "amax": amax,
            "method": name,
            "chosen": name == chosen,
            "clipped": each["clipped"][name],
            "levels": each["levels"][name],
        }
        for name, amax in each["thresholds"].items()
    ]
    lines += [{**line, "amax": -line["amax"]} for line in lines if low < 0]
    return {
        "width": "container",
        "height": 110,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "color": "#8c959f", "binSpacing": 0},
                "encoding": {
                    "x": {"field": "start", "type": "quantitative", "title": None, "bin": {"binned": True}},
                    "x2": {"field": "end"},
                    "y": {
                        "field": "count",
                        "type": "quantitative",
                        "scale": {"type": "symlog"},
                        "title": None,
                        "axis": {"tickCount": 3, "format": "~s"},
                    },
                    "tooltip": _tooltips(start="quantitative", end="quantitative", count="quantitative"),
                },
            },
            {
                "data": {"values": lines},
                "mark": {"type": "rule"},
                "encoding": {
                    "x": {"field": "amax", "type": "quantitative"},
                    "color": {"condition": {"test": "datum.chosen", "value": MARKED}, "value": ACCENT},
                    "size": {"condition": {"test": "datum.chosen", "value": 2.5}, "value": 1},
                    "strokeDash": {"condition": {"test": "datum.chosen", "value": [1, 0]}, "value": [3, 2]},
                    "tooltip": _tooltips(
                        method="nominal", amax="quantitative", clipped="quantitative", levels="quantitative"
                    ),
                },
            },
        ],
    }


def graph(section: Section) -> Spec:
    """The layers from input to output, coloured by precision or by error: of the section "layers".

    The parameter `by` holds "precision" or "error"; a page binds it to a switch.
    """
    nodes = [{**each, "id": place} for place, each in enumerate(section["nodes"])]
    edges = [
        {"x": nodes[one]["level"], "y": nodes[one]["lane"], "x2": nodes[other]["level"], "y2": nodes[other]["lane"]}
        for one, other in section["edges"]
    ]
    levels = max((each["level"] for each in nodes), default=0) + 1
    lanes = max((each["lane"] for each in nodes), default=0) + 1
    place = {
        "x": {"field": "level", "type": "quantitative", "axis": None, "scale": {"domain": [-1, levels], "nice": False}},
        "y": {
            "field": "lane",
            "type": "quantitative",
            "axis": None,
            "scale": {"domain": [-1, lanes], "nice": False, "reverse": True},
        },
    }
    known = [each["error_db"] for each in nodes if each["error_db"] is not None]
    shown = ("name", "operator", "precision", "shapes", "macs", "scale", "error_db", "reason")
    return {
        "width": max(600, 14 * levels),
        "height": max(120, 26 * lanes),
        "params": [{"name": "by", "value": "precision"}],
        "datasets": {"nodes": nodes},
        "layer": [
            {
                "data": {"values": edges},
                "mark": {"type": "rule", "opacity": 0.35, "color": "#8c959f"},
                "encoding": {
                    **{key: {**value, "field": key} for key, value in place.items()},
                    "x2": {"field": "x2"},
                    "y2": {"field": "y2"},
                },
            },
            {
                "data": {"name": "nodes"},
                "transform": [{"filter": "by == 'precision'"}],
                "mark": {"type": "square", "size": 110, "opacity": 1},
                "encoding": {
                    **place,
                    "color": {
                        "field": "precision",
                        "type": "nominal",
                        "scale": {"domain": [*PRECISIONS], "range": [*COLOURS]},
                        "title": "precision",
                    },
                    "tooltip": [{"field": name} for name in shown],
                },
            },
            {
                "data": {"name": "nodes"},
                "transform": [{"filter": "by == 'error'"}],
                "mark": {"type": "square", "size": 110, "opacity": 1},
                "encoding": {
                    **place,
                    "color": {
                        "condition": {
                            "test": "isValid(datum.error_db)",
                            "field": "error_db",
                            "type": "quantitative",
                            "scale": {"scheme": "viridis", "domain": [min(known, default=0), max(known, default=1)]},
                            "title": "SQNR of the layer, dB",
                        },
                        "value": "#8c959f",
                    },
                    "tooltip": [{"field": name} for name in shown],
                },
            },
        ],
        "resolve": {"scale": {"color": "independent"}, "legend": {"color": "independent"}},
        "config": {"legend": {"orient": "top", "direction": "horizontal"}},
    }


def sensitivity(found: Section) -> Spec:
    """What each layer costs the outputs alone, the most harmful first: of what `trtcal sensitivity --json` gives."""
    rows = [
        {"layer": each["layer"], "type": each["type"], "sqnr": each["alone"]["sqnr_db"]}
        for each in (found.get("sensitivity") or found)["layers"]
    ]
    return layers(rows, "SQNR of the outputs where it alone is in INT8, dB")


def layers(rows: Sequence[Section], measured: str) -> Spec:
    """A bar for each layer: rows of layer, type and sqnr (dB); what has no finite one, as nothing differs, has none."""
    shown = [row for row in rows if row["sqnr"] is not None and math.isfinite(row["sqnr"])]
    return {
        **_chart(shown, 15 * max(len(shown), 1)),
        "mark": {"type": "bar", "color": ACCENT},
        "encoding": {
            "y": {"field": "layer", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 220}},
            "x": {"field": "sqnr", "type": "quantitative", "title": measured},
            "tooltip": _tooltips(layer="nominal", type="nominal", sqnr="quantitative"),
        },
    }


def points_of(found: Section) -> list[Spec]:
    """Rows for `pareto`, of what `trtcal mixed-precision --json` gives."""
    return [
        {
            "cost": each["cost"],
            "sqnr": each["sqnr_db"],
            "front": bool(each.get("front")),
            "reaches": bool(each["reaches"]),
            "layers": ", ".join(f"{count} {name}" for name, count in each["layers"].items()),
        }
        for each in found["points"]
        if each["sqnr_db"] is not None
    ]


def pareto(rows: Sequence[Section], unit: str) -> Spec:
    """Choices of precisions, by cost and by what is left of the outputs.

    Args:
        rows: Of cost, sqnr (dB), front, reaches (both true or false) and layers (in words).
        unit: Of costs.
    """
    return {
        **_chart(rows, 260),
        "mark": {"type": "point", "filled": True, "size": 90},
        "encoding": {
            "x": {
                "field": "cost",
                "type": "quantitative",
                "title": f"cost, {unit}",
                "scale": {"zero": False},
            },
            "y": {
                "field": "sqnr",
                "type": "quantitative",
                "title": "SQNR of the worst output, dB",
                "scale": {"zero": False},
            },
            "color": {
                "field": "reaches",
                "type": "nominal",
                "title": "reaches the target",
                "scale": {"domain": [True, False], "range": [ACCENT, MARKED]},
            },
            "shape": {"field": "front", "type": "nominal", "title": "on the front"},
            "tooltip": _tooltips(layers="nominal", cost="quantitative", sqnr="quantitative"),
        },
    }


def methods(rows: Sequence[Section]) -> Spec:
    """What range methods leave of the outputs, best first: rows of method and sqnr (dB)."""
    return {
        **_chart(rows, 18 * len(rows)),
        "mark": {"type": "bar", "color": ACCENT},
        "encoding": {
            "y": {"field": "method", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "sqnr", "type": "quantitative", "title": "SQNR of the worst output, dB"},
            "tooltip": _tooltips(method="nominal", sqnr="quantitative"),
        },
    }


def by_class(rows: Sequence[Section]) -> Spec:
    """What a model loses in each class: rows of class and lost, in points."""
    return {
        **_chart(rows, 200),
        "mark": {"type": "bar", "color": ACCENT},
        "encoding": {
            "x": {"field": "class", "type": "nominal", "sort": None, "title": None},
            "y": {"field": "lost", "type": "quantitative", "title": "points lost"},
            "tooltip": _tooltips(**{"class": "nominal", "lost": "quantitative"}),
        },
    }


def confusion(found: Section) -> Spec:
    """Which classes the quantized model takes for which, where the float model does not: "confusion" of a section."""
    names = found["classes"]
    rows = [{"float": names[one], "quantized": names[other], "images": count} for one, other, count in found["changed"]]
    return {
        **_chart(rows, {"step": 24}),
        "width": {"step": 24},
        "autosize": "pad",
        "mark": "rect",
        "encoding": {
            "x": {"field": "quantized", "type": "nominal", "title": "class of the quantized model"},
            "y": {"field": "float", "type": "nominal", "title": "class of the float model"},
            "color": {"field": "images", "type": "quantitative", "scale": {"scheme": "blues"}, "title": "images"},
            "tooltip": _tooltips(float="nominal", quantized="nominal", images="quantitative"),
        },
    }


def thresholds(rows: Sequence[Section]) -> Spec:
    """The ranges of a cache, the largest first: rows of {tensor, amax}."""
    return {
        **_chart(rows, 14 * len(rows)),
        "mark": {"type": "bar", "color": ACCENT},
        "encoding": {
            "y": {"field": "tensor", "type": "nominal", "sort": "-x", "title": None, "axis": {"labelLimit": 260}},
            "x": {"field": "amax", "type": "quantitative", "scale": {"type": "symlog"}, "title": "range, up to"},
            "tooltip": _tooltips(tensor="nominal", amax="quantitative"),
        },
    }


def _chart(rows: Sequence[Section], height: object) -> Spec:
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": [*rows]},
    }


def _tooltips(**fields: str) -> list[Spec]:
    return [
        {"field": name, "type": kind, **({"format": ".4~g"} if kind == "quantitative" else {})}
        for name, kind in fields.items()
    ]
