"""Engines of the candidates, and what they cost: by the builder's own record, and on a GPU by the clock."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibrators.errors import TrtcalError
from engines.build.builder import build_engine
from engines.inspection.engine_record import Engine, sidecar_path
from trtcal.analysis.step import Step
from trtcal.machine.nvml import nvidia
from trtcal.optimization.request import Checked, Precision
from trtcal.speed.side_by_side import benchmark
from trtcal.tables.benchmark import as_dict as benchmark_as_dict

BITS: Mapping[str, int] = {"INT8": 8, "FP8": 8, "FP16": 16, "BF16": 16, "FP32": 32, "TF32": 32}
"""That an operator of a precision multiplies."""

SECONDS = 3.0
"""Of a benchmark, for each engine."""


def built(checked: Checked, precision: Precision, model: Path, output: Path, *, step: Step) -> dict[str, Any]:
    """Build an engine, and give its record for JSON.

    Args:
        checked: The request.
        precision: To build in.
        model: The float model, or that with Q/DQ nodes.
        output: The engine's file; its side-car lies beside it.
        step: Shows progress.
    """
    with step(f"Building the {precision.upper()} engine", None) as advance:
        engine = build_engine(
            model,
            output=output,
            precision=precision,
            backend=checked.request.backend,
            shapes=checked.request.shapes,
            progress=advance,
        )
    return record_of(output, engine)


def record_of(output: Path, engine: Engine | None = None) -> dict[str, Any]:
    """An engine's record for JSON, with its size in bytes."""
    found = Engine.load(output) if engine is None else engine
    return {"path": output.name, "bytes": output.stat().st_size, **found.record.to_dict()}


def files_of(output: Path) -> list[Path]:
    """An engine's files."""
    return [output, sidecar_path(output)]


def cost(record: Mapping[str, Any], macs: Mapping[str, int], precision: Precision) -> float:
    """Multiply-accumulates times bits of an engine's operators, in percent of all in FP32.

    Each operator counts with the precision that the builder's record has for it; where that is not known, with that of
    the build, or FP16 in an INT8 build.

    Args:
        record: Of the engine.
        macs: Multiply-accumulates by layer.
        precision: Of the build.
    """
    ran = {each["node"]: each["precision"] for each in record["operators"]}
    otherwise = {"int8": "FP16"}.get(precision, precision.upper())
    bits = {name: BITS.get(ran.get(name) or otherwise, 32) for name in macs}
    return 100 * sum(count * bits[name] for name, count in macs.items()) / (32 * sum(macs.values()) or 1)


def share_of_int8(record: Mapping[str, Any]) -> float | None:
    """Percent of an engine's weighted operators that run in INT8; None where that is not known."""
    ran = [each["precision"] for each in record["operators"]]
    return None if not ran or None in ran else 100 * sum(each == "INT8" for each in ran) / len(ran)


def can_measure() -> bool:
    """Whether this machine has a GPU."""
    return bool(nvidia().gpus)


def timed(checked: Checked, engines: Mapping[Precision, Path], sizes: Sequence[int], *, step: Step) -> dict[str, Any]:
    """Time engines side by side on this machine's GPU, with batches of each size, for JSON: `trtcal benchmark`'s.

    What cannot run here is left out, with the reason.
    """
    found: dict[str, Any] = {}
    for size in sizes:
        with step(f"Timing engines, batch {size}", None):
            try:
                measured = benchmark(
                    {str(name): path for name, path in engines.items()}, batch_size=size, shapes=None, duration=SECONDS
                )
            except TrtcalError as error:  # such as engines that this GPU cannot run
                return {"absent": str(error)}
        found[str(size)] = benchmark_as_dict(measured, threads=None, settings={"batch_size": size})
    return found


def batch_sizes(record: Mapping[str, Any]) -> list[int]:
    """1 and the batch that the engine is tuned for, as far as its profile allows them."""
    profiles = record["options"]["shapes"].values()
    fixed = {each["shape"][0] for each in record["inputs"] if each["shape"] and each["shape"][0] > 0}
    if fixed:
        return sorted(fixed)[:1]
    smallest = max((each["min"][0] for each in profiles if each["min"]), default=1)
    best = max((each["opt"][0] for each in profiles if each["opt"]), default=1)
    return sorted({smallest, best})
