"""Two runs side by side: what differs between them, the largest differences first."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calibrators.cache.sidecar import installed_versions
from calibrators.files import write_whole
from trtcal.report.page import as_written, environment, flat, source

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs.

    Attributes:
        about: Which section it is of.
        what: It.
        one: Its value in the first run; None where there is none.
        other: In the second.
        size: How large the difference is, from 0; the largest of a section come first.
    """

    about: str
    what: str
    one: str | float | None
    other: str | float | None
    size: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def differences(one: Record, other: Record) -> list[Difference]:
    """What differs between two records: section by section, the largest differences first.

    Raises:
        DataError: One of them is not as trtcal writes it.
    """
    found = list[Difference]()
    for about, values in SECTIONS.items():
        with as_written():
            pairs = [values(record) for record in (one, other)]
        if not all(pairs):
            continue
        names = dict.fromkeys([*pairs[0], *pairs[1]])
        some = [_difference(about, name, *(each.get(name) for each in pairs)) for name in names]
        found += sorted((each for each in some if each is not None), key=lambda each: (-each.size, each.what))
    return found


def write_differences(found: list[Difference], path: str | os.PathLike[str], *, names: tuple[str, str]) -> None:
    """Write the page of two runs, whole or not at all.

    Raises:
        MissingDependencyError: The extra [report] is not installed.
        OutputError: The file cannot be written.
    """
    sections = {about: [each for each in found if each.about == about] for about in SECTIONS}
    template = environment().get_template("differences.html.j2")
    version = installed_versions("trtcal").get("trtcal", "")
    page = str(template.render(names=names, sections=sections, css=source("page.css"), version=version))
    write_whole(path, page)


def _difference(about: str, what: str, one: Any, other: Any) -> Difference | None:
    if one == other:
        return None
    numbers = [each for each in (one, other) if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(numbers) == 2:
        scale = max(abs(numbers[0]), abs(numbers[1])) or 1.0
        return Difference(about, what, one, other, abs(numbers[0] - numbers[1]) / scale)
    return Difference(about, what, one, other, 1.0)


def _accuracy(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in record.get("accuracy", {}).get("models", []):
        name = each["name"]
        for key, value in (
            ("top-1 %", (each.get("top1") or {}).get("percent")),
            ("drop, points", (each.get("drop") or {}).get("points")),
            ((each.get("task") or {}).get("measure", "task"), (each.get("task") or {}).get("value")),
            ("agreement %", (each.get("agreement") or {}).get("percent")),
            ("SQNR, dB", each.get("sqnr_db")),
        ):
            if value is not None:
                found[f"{name}: {key}"] = value
    return found


def _verdict(record: Record) -> dict[str, Any]:
    verdict = record.get("verdict", {})
    found = {"chosen engine": verdict.get("chosen"), "bound": verdict.get("max_drop")} if verdict else {}
    for each in verdict.get("candidates", []):
        for key in ("accuracy", "drop", "latency_ms", "throughput", "bytes", "int8_share", "cost"):
            if each.get(key) is not None:
                found[f"{each['name']}: {key}"] = each[key]
    return found


def _ranges(record: Record) -> dict[str, Any]:
    section = record.get("ranges", {})
    chosen = section.get("chosen", "")
    found = {each["name"]: each["thresholds"].get(chosen) for each in section.get("tensors", [])}
    return {"method": chosen, **found} if found else {}


def _layers(record: Record) -> dict[str, Any]:
    return {each["name"]: each["precision"] for each in record.get("layers", {}).get("nodes", [])}


def _kernels(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for engine in record.get("engines", []):
        for each in engine.get("operators", []):
            found[f"{engine['path']}: {each['node']}"] = f"{each['precision']} {each['kernel'] or ''}".strip()
    return found


def _times(record: Record) -> dict[str, Any]:
    models = record.get("benchmark", {}).get("models", [])
    return {each["name"]: each.get("median_ms", each.get("compute", {}).get("median_ms")) for each in models}


def _how(record: Record) -> dict[str, Any]:
    return dict(_pairs(record))


def _pairs(record: Record) -> Iterator[tuple[str, str]]:
    yield from flat(record.get("how", {}))


SECTIONS: Mapping[str, Callable[[Record], dict[str, Any]]] = {
    "Verdict": _verdict,
    "Accuracy": _accuracy,
    "Ranges": _ranges,
    "Precision of layers": _layers,
    "Kernels": _kernels,
    "Times": _times,
    "How": _how,
}
"""What is compared: of a record, values by name."""
