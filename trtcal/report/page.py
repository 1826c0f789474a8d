"""The page: one HTML file from a record, which asks for nothing."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, TypeGuard

from calibrators.cache.sidecar import installed_versions
from calibrators.errors import DataError, MissingDependencyError
from calibrators.files import write_whole
from calibrators.installation import pip_install
from trtcal.charts import specs
from trtcal.charts.chart import embedded, script, without_end
from trtcal.report.record import KNOWN

Row = dict[str, Any]

SECTIONS = (
    ("verdict", "Verdict"),
    ("images", "Images"),
    ("ranges", "Ranges"),
    ("layers", "Layers"),
    ("sensitivity", "Sensitivity"),
    ("accuracy", "Accuracy"),
    ("engine", "Engine"),
    ("how", "How"),
)

OTHERS = ("calibration", "quantized", "structure", "cache", "machine")
"""Sections that are shown as they are: what it says, and the value."""

MOST = 300
"""Rows of a table of the page; what is left out is counted."""


def write_page(
    record: Mapping[str, Any], path: str | os.PathLike[str], *, parts: Mapping[str, str] | None = None
) -> None:
    """Write the page of a record, whole or not at all.

    Args:
        record: As `trtcal.report.record` reads it.
        path: Of the page.
        parts: What it was made of: file -> what it was taken for.

    Raises:
        MissingDependencyError: The extra [report] is not installed.
        OutputError: The file cannot be written.
    """
    write_whole(path, page_of(record, parts=parts))


def page_of(record: Mapping[str, Any], *, parts: Mapping[str, str] | None = None) -> str:
    """The page of a record, as text.

    Raises:
        DataError: The record is not as trtcal writes it.
        MissingDependencyError: The extra [report] is not installed.
    """
    with as_written():
        return _page(record, parts or {})


@contextmanager
def as_written() -> Iterator[None]:
    """Look into a record, which someone may have edited.

    Raises:
        DataError: It is not as trtcal writes it.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(
            f"the record cannot be shown, as it is not as trtcal writes it ({type(error).__name__}: {error}): write "
            "report.json, or the commands' JSON, anew"
        ) from error


def _page(record: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    template = environment().get_template("page.html.j2")
    return str(
        template.render(
            record=record,
            title=record.get("title", "report"),
            version=installed_versions("trtcal").get("trtcal", ""),
            sections=SECTIONS,
            precisions=specs.PRECISIONS,
            css=source("page.css"),
            js=without_end(source("page.js")),
            vega=script(),
            specs={name: embedded(spec) for name, spec in _specs(record).items()},
            shown=embedded(_shown(record)),
            parts=[{"file": name, "taken for": why} for name, why in parts.items()],
            **_tables(record),
        )
    )


def environment() -> Any:
    """Jinja2's, with what turns numbers into words; all that is put in is escaped.

    Raises:
        MissingDependencyError: The extra [report] is not installed.
    """
    try:
        from jinja2 import ChainableUndefined, Environment, FunctionLoader
    except ImportError as error:
        raise MissingDependencyError(f"reports need jinja2, not installed here: {pip_install('report')}") from error
    found = Environment(autoescape=True, undefined=ChainableUndefined, loader=FunctionLoader(source), trim_blocks=True)
    found.filters.update(
        cell=_cell,
        numeric=lambda rows, name: any(_is_number(row[name]) for row in rows),
        sortable=lambda value: value if _is_number(value) else "",
        short=_number("{:.4g}"),
        fixed=_number("{:.2f}"),
        percent=_number("{:.2f} %"),
        percent0=_number("{:.0f} %"),
        interval=lambda pair: _pair(pair) or "-",
        milliseconds=_number("{:.3f} ms"),
        megabytes=lambda value: _number("{:.2f} MB")(value / 1e6 if _is_number(value) else None),
        whole=_number("{:,.0f}"),
    )
    return found


def source(name: str) -> str:
    """A file of the templates."""
    return files("trtcal.report").joinpath("templates", name).read_text(encoding="utf-8")


def _specs(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "images" in record:
        found["values"] = specs.values(record["images"])
    if "ranges" in record:
        nothing = {"low": 0.0, "high": 1.0, "counts": [], "thresholds": {}, "clipped": {}, "levels": {}}
        found["tensor"] = specs.tensor(nothing, record["ranges"]["chosen"])
    if "layers" in record:
        found["graph"] = specs.graph(record["layers"])
    if record.get("sensitivity", {}).get("sensitivity"):
        found["sensitivity"] = specs.sensitivity(record["sensitivity"])
    if "mixed_precision" in record:
        mixed = record["mixed_precision"]
        found["pareto"] = specs.pareto(specs.points_of(mixed), mixed["cost_unit"])
    if (confusion := record.get("accuracy", {}).get("confusion")) and confusion["changed"]:
        found["confusion"] = specs.confusion(confusion)
    return found


def _shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script reads."""
    layers = {"layers": {"nodes": record["layers"]["nodes"]}} if "layers" in record else {}
    return {**layers, **({"ranges": record["ranges"]} if "ranges" in record else {})}


def _tables(record: Mapping[str, Any]) -> dict[str, Any]:
    accuracy, engines = record.get("accuracy", {}), record.get("engines", [])
    models = accuracy.get("models", [])
    return {
        "accuracy": _most([_model_row(each) for each in models]),
        "classes": {
            each["name"]: _most(each["by_class"])
            for each in models
            if each.get("by_class") and each["name"] != accuracy.get("reference")
        },
        "changed": {each["name"]: _most(each["changed_images"]) for each in models if each.get("changed_images")},
        "methods": _methods(record.get("compare")),
        "points": _points(record.get("mixed_precision")),
        "engines": [_engine_row(each) for each in engines],
        "findings": {each["path"]: _most(each["findings"]) for each in engines if each.get("findings")},
        "operators": {each["path"]: _most(each["operators"]) for each in engines if each.get("operators")},
        "timings": _timings(record.get("benchmark")),
        "how": [{"what": name, "value": value} for name, value in flat(record.get("how", {})) if name != "warnings"],
        "others": {
            KNOWN[name][1]: _most([{"what": what, "value": value} for what, value in flat(record[name])])
            for name in OTHERS
            if record.get(name)
        },
        "warnings": [*record.get("how", {}).get("warnings", ()), *record.get("verdict", {}).get("notes", ())],
    }


def _model_row(each: Mapping[str, Any]) -> Row:
    top1, drop, task = each.get("top1"), each.get("drop"), each.get("task")
    row: Row = {"model": each["name"], "images": each.get("samples")}
    if top1:
        row |= {"top-1 %": top1.get("percent"), "top-1 interval": _pair(top1.get("interval95"))}
    if task:
        row |= {"measure": task.get("measure"), "value": task.get("value")}
    interval = each.get("drop_interval95")
    points = drop.get("points") if drop else (task or {}).get("drop")
    row |= {"drop": points, "drop interval": _pair(interval)}
    if drop:
        row |= {"lost": drop.get("lost"), "gained": drop.get("gained")}
    agreement = each.get("agreement")
    row |= {"agreement %": agreement.get("percent") if agreement else None, "SQNR dB": each.get("sqnr_db")}
    return row


def _methods(compare: Mapping[str, Any] | None) -> list[Row]:
    rows = [] if compare is None else compare["methods"]
    return [
        {
            "rank": each.get("rank"),
            "method": each.get("method"),
            **_worth(each),
            "SQNR dB": each.get("sqnr_db"),
        }
        for each in rows
    ]


def _worth(each: Mapping[str, Any]) -> Row:
    """What a score says in top-1, or in its task's own measure, and what is lost."""
    task = each.get("task")
    if task:
        return {task["measure"]: task["value"], "drop": task.get("drop")}
    return {"top-1 %": (each.get("top1") or {}).get("percent"), "drop": (each.get("drop") or {}).get("points")}


def _points(found: Mapping[str, Any] | None) -> list[Row]:
    rows = [] if found is None else found["points"]
    return [
        {
            "layers": ", ".join(f"{count} {name}" for name, count in each["layers"].items()),
            "cost": each["cost"],
            "reaches": each["reaches"],
            **_worth(each),
            "SQNR dB": each.get("sqnr_db"),
        }
        for each in rows
    ]


def _engine_row(each: Mapping[str, Any]) -> Row:
    operators, kernels = each["operators_by_precision"], each["kernels_by_precision"]
    return {
        "engine": each["path"],
        "precision": each["options"]["precision"],
        "backend": each["backend"],
        "size, MB": None if "bytes" not in each else each["bytes"] / 1e6,
        "operators": ", ".join(f"{count} {name}" for name, count in operators.items()),
        "kernels": ", ".join(f"{count} {name}" for name, count in kernels.items()) or each.get("layers_absent"),
        "compute capability": ", ".join(each["options"]["compute_capabilities"]) or each["options"]["portable"],
    }


def _timings(benchmark: Mapping[str, Any] | None) -> list[Row]:
    return [
        {
            "model": each["name"],
            "device": each["device"],
            "median, ms": each.get("median_ms", each.get("compute", {}).get("median_ms")),
            "samples/s": each.get("throughput"),
            "speed-up": each.get("speedup"),
        }
        for each in ([] if benchmark is None else benchmark.get("models", []))
    ]


def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested values as pairs of a dotted name and a text; those of a list by their number, from 1."""
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            found += flat({str(place): each for place, each in enumerate(value, 1)}, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", value if isinstance(value, str) else json.dumps(value)))
    return found


def _most(rows: Sequence[Row]) -> list[Row]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [{name: row.get(name) for name in columns} for row in rows[:MOST]]
    if len(rows) > MOST:
        shown.append({**dict.fromkeys(columns), columns[0]: f"and {len(rows) - MOST} more: the JSON has all"})
    return shown


def _number(shown: str) -> Callable[[object], str]:
    """A filter that shows numbers so, and all else as a dash."""
    return lambda value: shown.format(value) if _is_number(value) else "-"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pair(interval: Any) -> str | None:
    if not isinstance(interval, (list, tuple)) or None in interval:
        return None
    return " to ".join(f"{each:.2f}" for each in interval)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _short(value)
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
