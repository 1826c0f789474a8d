"""Engines: what runs in which precision, and what is wrong with it."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from engines.graph.operators import WEIGHTED
from engines.inspection.engine_record import Engine, EngineRecord
from engines.inspection.inspect import rescaling
from engines.inspection.kernels import Kernel, KernelTensor, shape_text, type_name
from trtcal.tables import console
from trtcal.tables.inspection.findings import grouped, show_findings

_STYLES = {"INT8": "green", "FP32": "yellow"}
_NAMES = 4
"""ONNX nodes named per kernel in the table; --json has them all."""

_TRAFFIC = "Reads and writes"
_QUANTIZER = re.compile(r"_(?:De)?[Qq]uantizeLinear(?:_\d+)?$")


def built_as_dict(engine: Engine) -> dict[str, Any]:
    """An engine that was built, for JSON."""
    record = engine.record.to_dict()
    del record["layers"]
    return {"output": str(engine.path), "sidecar": str(engine.sidecar), **record}


def report(engine: Engine) -> None:
    """Say what was built; on standard error, what a user should know."""
    record = engine.record
    console.say(
        f"{engine.path}: {record.backend} {record.versions[record.backend]}, compute capability {where(record)}"
    )
    if record.kernels is None:
        console.note(f"note: what the engine runs is unknown: {record.kernels_absent}")
    else:
        console.say(f"{', '.join(WEIGHTED)}: {in_words(record.operators_by_precision)}")
        console.say(f"kernels: {in_words(record.kernels_by_precision)}")
        if remark := measure(record):
            console.note(f"note: {remark}")
    for note in record.notes:
        console.note(f"note: {note}")
    for line in grouped(tuple(finding for finding in record.findings if finding.severity not in ("hint", "note"))):
        console.note(f"{line}; trtcal inspect {engine.path} lists all")
    for warning in record.warnings:
        console.note(f"{record.backend} warns: {warning}")


def as_dict(path: Path, record: EngineRecord) -> dict[str, Any]:
    """All that is known of an engine, for JSON."""
    return {"path": str(path), **record.to_dict()}


def show(path: Path, record: EngineRecord, *, kernels: bool) -> None:
    """Print what an engine is, and what runs in which precision.

    Args:
        path: The engine's.
        record: Its.
        kernels: List every kernel, instead of the weighted operators.
    """
    console.say(
        f"{path}: {record.precision} from {record.model or 'a model in memory'}, {record.backend} "
        f"{record.versions[record.backend]}"
    )
    console.say(f"compute capability: {where(record)}")
    if record.gpu is not None:
        console.say(f"built on: {record.gpu['name']}, compute capability {record.gpu['compute_capability']}")
    if record.quantization is not None:
        console.say(f"quantization: {_QUANTIZATION.get(record.quantization, record.quantization)}")
    if record.builder_options:
        given = (f"{name.replace('_', ' ')} {value}" for name, value in record.builder_options.items())
        console.say(f"builder options: {', '.join(given)}")
    for tensor in (*record.inputs, *record.outputs):
        shapes = record.shapes.get(tensor["name"])
        size = (
            "..".join(shape_text(shapes[key]) for key in ("min", "opt", "max"))
            if shapes
            else shape_text(tensor["shape"])
        )
        side = "input" if tensor in record.inputs else "output"
        console.say(f"{side} {tensor['name']}: {type_name(tensor['type'])} {size}".rstrip())
    if record.kernels is None:
        console.say(f"what it runs is unknown: {record.kernels_absent}")
    else:
        _summary(record)
    for note in record.notes:
        console.say(f"note: {note}")
    for warning in record.warnings:
        console.say(f"{record.backend} warned: {warning}")
    show_findings(record.findings)
    if record.kernels is not None and kernels:
        _kernels(record.kernels)
    elif record.kernels is not None and record.operators:
        _operators(record)


_QUANTIZATION = {"explicit": "explicit, by Q/DQ nodes", "implicit": "implicit, by TensorRT from calibrated ranges"}


def _summary(record: EngineRecord) -> None:
    console.say(f"{', '.join(WEIGHTED)}: {in_words(record.operators_by_precision)}")
    left = [operator for operator in record.operators if operator.precision not in ("INT8", None)]
    if record.precision == "int8" and left:
        console.say(
            "not in INT8: "
            + ", ".join(f"{operator.op_type} {operator.node} ({operator.precision})" for operator in left)
        )
    folded = [f"{operator.op_type} {operator.node}" for operator in record.operators if operator.precision is None]
    if folded:
        console.say(f"of unknown precision: {', '.join(folded)}")
    console.say(f"kernels: {in_words(record.kernels_by_precision)}")
    kinds = Counter(finding.severity for finding in record.findings if finding.severity != "note")
    said = (f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    console.say(f"findings: {', '.join(said) or 'none'}")
    if remark := measure(record):
        console.say(f"note: {remark}")


def _operators(record: EngineRecord) -> None:
    kernels = {kernel.name: kernel for kernel in record.kernels or ()}
    console.table(
        "Weighted operators; --kernels lists every kernel",
        ("Node", "Operator", "Runs in", _TRAFFIC),
        [
            (
                operator.node,
                operator.op_type,
                operator.precision or "unknown",
                _traffic(kernels[operator.kernel]) if operator.kernel in kernels else "-",
            )
            for operator in record.operators
        ],
        whole=("Runs in", _TRAFFIC),
        optional=(_TRAFFIC,),
        styles=[_STYLES.get(operator.precision or "") for operator in record.operators],
    )


def _kernels(kernels: tuple[Kernel, ...]) -> None:
    shown = [kernel for kernel in kernels if kernel.inputs or kernel.outputs]
    console.table(
        "Kernels, in the order they run",
        ("Kernel", "Kind", "Runs in", _TRAFFIC, "ONNX nodes"),
        [(kernel.name, kernel.kind, kernel.precision or "-", _traffic(kernel), _nodes(kernel)) for kernel in shown],
        whole=("Runs in",),
        optional=("Kind",),
        styles=[_STYLES.get(kernel.precision or "") for kernel in shown],
    )


def in_words(counts: dict[str, int]) -> str:
    """Counts by precision, such as "20 INT8, 1 FP16"."""
    return ", ".join(f"{count} {precision}" for precision, count in counts.items()) or "none"


def measure(record: EngineRecord) -> str | None:
    """What to think of the FP32 kernels of an engine whose INT8 convolutions write FP32; None for other engines."""
    found = rescaling(record.kernels or ())
    if not found:
        return None
    return (
        f"{found} of the {record.kernels_by_precision['FP32']} FP32 kernels finish INT8 convolutions and products, "
        "which write FP32 in TensorRT-RTX: they add the bias, activate and requantize. How fast the engine is must be "
        "measured on the GPU"
    )


def where(record: EngineRecord) -> str:
    """The GPUs that an engine runs on."""
    return ", ".join(record.compute_capabilities) or record.portable


def _traffic(kernel: Kernel) -> str:
    return f"{_listed(kernel.inputs) or _listed(kernel.constants)} -> {_listed(kernel.outputs)}"


def _listed(tensors: tuple[KernelTensor, ...]) -> str:
    return ", ".join(map(str, tensors))


def _nodes(kernel: Kernel) -> str:
    """The ONNX nodes that a kernel computes, without those that only quantize and dequantize what others read."""
    nodes = [name for name in kernel.nodes if not _QUANTIZER.search(name)]
    more = f" and {len(nodes) - _NAMES} more" if len(nodes) > _NAMES else ""
    return ", ".join(nodes[:_NAMES]) + more or "Q/DQ only"
