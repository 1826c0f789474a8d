"""What is written of an optimization: report.json for programs, and report.html to look at."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from calibrators.files import sha256_of, write_whole
from calibrators.installation import pip_install
from trtcal.analysis.judging import Judging
from trtcal.analysis.layer_analysis import analyse_layers
from trtcal.optimization.ladder import Base
from trtcal.optimization.ledger import Ledger
from trtcal.optimization.result import Candidate, Optimized, Taken
from trtcal.report.gather.images import images_section
from trtcal.report.gather.layers import layers_section
from trtcal.report.gather.ranges import ranges_section
from trtcal.report.page import write_page
from trtcal.report.record import FORMAT
from trtcal.tables.sensitivity import as_dict as sensitivity_as_dict
from trtcal.tasks.task import Task

SENSITIVITY_ON = 16
"""Images that layers are tried on for the report."""

Results = Mapping[str, Any]


def write_report(base: Base, ledger: Ledger, done: Optimized, inputs: Mapping[str, Any], timing: Results) -> str | None:
    """Write the record and the page; gives why there is no page, where there is none."""
    record = record_of(base, ledger, done, inputs, timing)
    write_whole(base.places.record, json.dumps(record, indent=1) + "\n")
    lacking = [name for name in ("jinja2", "vl_convert") if find_spec(name) is None]
    if lacking:
        return f"no report.html was written: {pip_install('report')}, then trtcal report {base.places.folder}"
    write_page(record, base.places.page)
    return None


def record_of(
    base: Base, ledger: Ledger, done: Optimized, inputs: Mapping[str, Any], timing: Results
) -> dict[str, Any]:
    """All that was measured and decided, section by section, as plain data."""
    taken = done.step
    method = _method(base, ledger, taken)
    content = _sensitivity(base, ledger, inputs, method)
    results = {name: stage.result for name, stage in ledger.used.items()}
    record: dict[str, Any] = {"report": FORMAT, "title": base.model.name, "verdict": verdict(done)}
    record["images"] = images_section(base.parts.calibration)
    record["ranges"] = ledger.done(
        "ranges",
        {"statistics": sha256_of(base.places.statistics), "method": method, "layers": content is not None},
        lambda: ranges_section(base.statistics, chosen=method, harm=_harm(content)),
    ).result
    record["layers"] = _layers(base, results, done, content)
    record |= {} if content is None else {"sensitivity": content}
    for section in ("compare", "mixed_precision", "recovery"):
        found = [each[section] for name, each in results.items() if name.startswith("step ") and section in each]
        record |= {section: found[-1]} if found else {}
    record["accuracy"] = results["accuracy"]["report"] | results["accuracy"]["shown"]
    record["engines"] = [results[f"engine {each.name}"] for each in done.candidates]
    if timed := [found for size, found in timing.items() if size.isdigit()]:
        record["benchmark"] = timed[-1]
    record["how"] = _how(base, inputs, done)
    return record


def _method(base: Base, ledger: Ledger, taken: Taken | None) -> str:
    """The range method of the step that was taken."""
    stage = None if taken is None else ledger.used.get(f"step {taken.name}")
    found: str = base.method if stage is None else stage.result.get("method", base.method)
    return found


def _sensitivity(base: Base, ledger: Ledger, inputs: Mapping[str, Any], method: str) -> Any:
    """What `trtcal sensitivity --json` gives, of a few images; None where layers cannot be tried."""
    judged = base.checked.judged
    if "int8" not in base.checked.request.precisions:
        return None
    few = replace(judged.parts, test=judged.parts.test.divided(SENSITIVITY_ON)[0])

    def make() -> dict[str, Any]:
        # By SQNR, which needs no boxes to be found: layers are tried in a fraction of the time.
        judging = Judging(few, base.statistics, method, False, 0.0, (), Task("outputs"))
        return sensitivity_as_dict(
            base.model, method, analyse_layers(base.model, judging, criterion="SQNR", step=base.step)
        )

    return ledger.done("sensitivity", {**inputs, "method": method, "test": few.test.digest}, make).result


def _harm(content: Any) -> dict[str, float]:
    """By tensor, the SQNR in dB where the layer that reads it is alone in INT8."""
    found: dict[str, float] = {}
    for each in [] if content is None else content["sensitivity"]["layers"]:
        sqnr = each["alone"]["sqnr_db"]
        if sqnr is not None:
            found[each["input"]] = min(sqnr, found.get(each["input"], sqnr))
    return found


def _layers(base: Base, results: Results, done: Optimized, content: Any) -> dict[str, Any]:
    """The graph, with what the step that was taken makes of each layer."""
    taken = done.step
    left = {} if taken is None else results[f"step {taken.name}"]["left_float"]
    told = [] if content is None else content["errors"]["layers"]
    kept = "fp16" if "engine int8" in results else "fp32"
    alone = done.best.name if taken is None else "fp32"
    precisions: dict[str, str] = dict.fromkeys(results["work"], alone)
    precisions |= {each["layer"]: kept if each["layer"] in left else "int8" for each in told}
    precisions |= dict.fromkeys(left, kept)
    return layers_section(
        base.model,
        precisions=precisions,
        scales={each["layer"]: each["grid"]["scale"] for each in told if each["layer"] not in left},
        errors={each["layer"]: each["output_sqnr_db"] for each in told if each["output_sqnr_db"] is not None},
        macs=results["work"],
        reasons=left,
    )


def verdict(done: Optimized) -> dict[str, Any]:
    """Which engine to deploy and why, as plain data."""
    return {
        "holds": done.chosen is not None,
        "sentence": done.sentence,
        "chosen": None if done.chosen is None else done.chosen.name,
        "measure": done.measure,
        "max_drop": done.max_drop,
        "gap": done.gap,
        "candidates": [_candidate(each) for each in done.candidates],
        "steps": [
            {"name": each.name, "told": each.told, "holds": each.holds, "seconds": each.seconds, "reused": each.reused}
            for each in done.steps
        ],
        "commands": list(done.commands),
        "to_measure": list(done.to_measure),
        "notes": list(done.notes),
    }


def _candidate(each: Candidate) -> dict[str, Any]:
    return {
        "name": each.name,
        "file": each.engine.name,
        "precision": each.name,
        "step": each.step,
        "accuracy": each.measured.accuracy,
        "interval": each.measured.interval,
        "images": each.measured.images,
        "drop": each.measured.drop,
        "drop_interval": each.measured.drop_interval,
        "sqnr_db": each.measured.sqnr,
        "latency_ms": next(iter(each.latency.values()), None),
        "throughput": each.throughput,
        "measured_on": "GPU" if each.latency else None,
        "bytes": each.size,
        "int8_share": each.share_of_int8,
        "cost": each.cost,
        "holds": each.holds,
    }


def _how(base: Base, inputs: Mapping[str, Any], done: Optimized) -> dict[str, Any]:
    request, places = base.checked.request, base.places
    written = [path for path in (places.cache, places.engine, places.quantized) if path.is_file()]
    return {
        "command": "; ".join(done.commands),
        "versions": inputs["versions"],
        "backend": base.checked.backend,
        "preprocess": str(base.parts.calibration.preprocess),
        "seeds": {"images": request.choice.seed},
        "images": {
            "calibrated on": base.parts.calibration.count,
            "steps judged by": base.parts.test.count,
            "verdict on": base.checked.last.count,
        },
        "hashes": {base.model.name: inputs["model"], **{path.name: sha256_of(path) for path in written}},
        "warnings": [],
    }
