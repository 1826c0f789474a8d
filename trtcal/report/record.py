"""The record of a report: report.json, and what other commands said in JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrators.errors import DataError
from calibrators.methods.names import DEFAULT
from calibrators.statistics.file import Statistics
from trtcal.report.gather.ranges import ranges_section

Record = dict[str, Any]

FORMAT = 1
"""The version of report.json's layout."""

KNOWN: Mapping[str, tuple[frozenset[str], str]] = {
    "sensitivity": (frozenset({"errors", "sensitivity"}), "trtcal sensitivity --json"),
    "mixed_precision": (frozenset({"points", "groups", "cost_unit"}), "trtcal mixed-precision --json"),
    "compare": (frozenset({"methods", "winner"}), "trtcal compare --json"),
    "accuracy": (frozenset({"models", "criterion"}), "trtcal accuracy --json"),
    "benchmark": (frozenset({"models", "percentiles"}), "trtcal benchmark --json"),
    "built": (frozenset({"output", "sidecar", "operators_by_precision"}), "trtcal build --json"),
    "engines": (frozenset({"engine", "operators", "kernels_by_precision"}), "trtcal inspect ENGINE --json"),
    "structure": (frozenset({"quantizers", "findings"}), "trtcal inspect MODEL.onnx --json"),
    "calibration": (frozenset({"cache", "float_layers", "method"}), "trtcal calibrate --json"),
    "quantized": (frozenset({"quantized", "left_float"}), "trtcal quantize --json"),
    "cache": (frozenset({"tensors", "header", "algorithm"}), "trtcal cache show --json"),
    "machine": (frozenset({"libraries", "commands"}), "trtcal doctor --json"),
}
"""By section: the keys that tell a command's JSON from any other, and the command."""

OWN = frozenset({"report.json", "optimize.json"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A record, and what it was made of.

    Attributes:
        record: Section by section.
        parts: File -> what it was taken for, or why it was not.
    """

    record: Record
    parts: Mapping[str, str]


def load_record(path: Path) -> Loaded:
    """Read a folder with report.json or with what commands said in JSON; one such file; or statistics.

    Raises:
        DataError: There is nothing to read, or report.json is of another version.
    """
    if path.suffix == ".npz" and path.is_file():
        ranges = ranges_section(Statistics.load(path), chosen=DEFAULT)
        return Loaded({"report": FORMAT, "title": path.name, "ranges": ranges}, {path.name: "statistics"})
    if not path.exists():
        raise DataError(f"{path} does not exist: give the folder of trtcal optimize, or JSON of other commands")
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    record: Record = {}
    parts: dict[str, str] = {}
    for file in sorted(files, key=lambda each: each.name != "report.json"):
        if file.name == "optimize.json" or ("verdict" in record and _is_sidecar(path, file.name)):
            continue  # whose content report.json has
        said = _content(file)
        if isinstance(said, str):
            parts[file.name] = said
            continue
        section = section_of(said)
        if section == "record":
            if said["report"] != FORMAT:
                raise DataError(f"{file} is of version {said['report']}, and this trtcal reads {FORMAT}: write it anew")
            record = {**said, **record}
            parts[file.name] = "report.json of trtcal optimize"
        elif section is None:
            parts[file.name] = "not used: no command of trtcal says such JSON"
        else:
            parts[file.name] = KNOWN[section][1]
            _put(record, section, said)
    if not record:
        told = "; ".join(
            f"{name}: {why}" for name, why in parts.items() if not name.endswith((".onnx.json", ".cache.json"))
        )
        raise DataError(
            f"{path} holds nothing for a report{f' ({told})' if told else ''}: give the folder of trtcal optimize, or "
            "keep what commands say with --json in files *.json"
        )
    record.setdefault("report", FORMAT)
    record.setdefault("title", path.resolve().name if path.is_dir() else path.stem)
    shown = {name: why for name, why in parts.items() if not (why.startswith("not used") and _is_sidecar(path, name))}
    return Loaded(record, shown)


def section_of(said: Mapping[str, Any]) -> str | None:
    """Which section a command's JSON is; "record" for report.json; None for anything else."""
    if "report" in said and isinstance(said["report"], int):
        return "record"
    return next((name for name, (keys, _) in KNOWN.items() if keys <= said.keys()), None)


def _put(record: Record, section: str, said: Record) -> None:
    if section in ("engines", "built"):
        record["engines"] = [
            *record.get("engines", []),
            {"path": Path(str(said.get("path") or said.get("output"))).name, **said},
        ]
    else:
        record[section] = said


def _content(file: Path) -> Record | str:
    """A file's JSON, or why it cannot be used."""
    try:
        said = json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        return f"not used: it cannot be read as JSON ({error})"
    return said if isinstance(said, dict) else "not used: it holds no JSON object"


def _is_sidecar(path: Path, name: str) -> bool:
    """Whether a file lies beside what it describes, as side-cars do."""
    return path.is_dir() and (path / name.removesuffix(".json")).is_file()
