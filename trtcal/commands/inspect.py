"""`trtcal inspect`: what an engine really runs, and how an ONNX model is quantized."""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrators.errors import BuildError
from trtcal import console
from trtcal.commands import options
from trtcal.commands.build import in_words, measure, where

if TYPE_CHECKING:
    from engines.inspection.engine_record import EngineRecord
    from engines.inspection.kernels import Kernel, KernelTensor
    from engines.qdq.findings import Finding, WeightedOperator

_STYLES = {"INT8": "green", "FP32": "yellow"}
_FINDING_STYLES = {"error": "red", "warning": "yellow", "hint": None}
_NAMES = 4
"""ONNX nodes named per kernel in the table; --json has them all."""

_TRAFFIC = "Reads and writes"
_QUANTIZER = re.compile(r"_(?:De)?[Qq]uantizeLinear(?:_\d+)?$")


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="ENGINE|ONNX", help="An engine that trtcal built, or an ONNX model.", show_default=False
        ),
    ],
    *,
    kernels: Annotated[bool, typer.Option("--kernels", help="List every kernel of the engine.")] = False,
    json: options.Json = False,
) -> None:
    """Show in which precision an engine runs each layer, or an ONNX model's Q/DQ nodes; and what is wrong with them.

    Of an engine: how many kernels run in each precision, findings, and every Conv, ConvTranspose, Gemm and MatMul; with
    --kernels every kernel instead, the Q/DQ nodes it takes in left out. N is a size that is free. An engine is
    described by its side-car, ENGINE.json, which trtcal build writes: no GPU is needed.

    In a narrow terminal long names are cut in the middle; a pipe or --json has them whole.
    """
    if file.suffix.lower() == ".onnx":
        if kernels:
            raise BuildError(f"--kernels is for engines, and {file} is an ONNX model: leave it out, or build the model")
        _inspect_model(file, json=json)
    else:
        _inspect_engine(file, kernels=kernels, json=json)


def _inspect_engine(path: Path, *, kernels: bool, json: bool) -> None:
    from engines.inspection.engine_record import Engine
    from engines.inspection.kernels import shape_text, type_name

    engine = Engine.load(path)
    record = engine.record
    if json:
        console.emit_json({"path": str(path), **record.to_dict()})
        return
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
    _show(record.findings)
    if record.kernels is not None and kernels:
        _kernels(record.kernels)
    elif record.kernels is not None and record.operators:
        _operators(record)


_QUANTIZATION = {"explicit": "explicit, by Q/DQ nodes", "implicit": "implicit, by TensorRT from calibrated ranges"}


def _summary(record: "EngineRecord") -> None:
    console.say(f"Conv, ConvTranspose, Gemm, MatMul: {in_words(record.operators_by_precision)}")
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
    kinds = Counter(finding.severity for finding in record.findings)
    said = (f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    console.say(f"findings: {', '.join(said) or 'none'}")
    if remark := measure(record):
        console.say(f"note: {remark}")


def _operators(record: "EngineRecord") -> None:
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


def _kernels(kernels: "tuple[Kernel, ...]") -> None:
    shown = [kernel for kernel in kernels if kernel.inputs or kernel.outputs]
    console.table(
        "Kernels, in the order they run",
        ("Kernel", "Kind", "Runs in", _TRAFFIC, "ONNX nodes"),
        [(kernel.name, kernel.kind, kernel.precision or "-", _traffic(kernel), _nodes(kernel)) for kernel in shown],
        whole=("Runs in",),
        optional=("Kind",),
        styles=[_STYLES.get(kernel.precision or "") for kernel in shown],
    )


def _inspect_model(path: Path, *, json: bool) -> None:
    from engines.graph.model import load_model
    from engines.qdq.dynamic_structure import NO_DYNAMIC
    from engines.qdq.lint import structure_of

    structure = structure_of(load_model(path))
    quantized = [operator for operator in structure.operators if operator.quantized]
    if json:
        console.emit_json(
            {
                "path": str(path),
                "operators": [
                    {
                        "node": operator.node,
                        "op_type": operator.op_type,
                        "quantized": operator.quantized,
                        "inputs": [None if quantizer is None else quantizer.to_dict() for quantizer in operator.inputs],
                    }
                    for operator in structure.operators
                ],
                "quantizers": [quantizer.to_dict() for quantizer in structure.quantizers],
                "findings": [finding.to_dict() for finding in structure.findings],
            }
        )
        return
    console.table(
        "Weighted operators",
        ("Node", "Operator", "Activation", "Weights", "Meant for"),
        [
            (
                operator.node,
                operator.op_type,
                *(str(item or "float") for item in operator.inputs),
                _meant_for(operator),
            )
            for operator in structure.operators
        ],
        whole=("Activation", "Meant for"),
        optional=("Weights",),
        styles=["green" if operator.quantized else None for operator in structure.operators],
    )
    console.say(
        f"{path}: {len(quantized)} of {len(structure.operators)} weighted operators quantized, "
        f"{len(structure.quantizers)} Q/DQ pairs"
    )
    if structure.dynamic:
        console.say(f"ranges are found when the model runs: it is for ONNX Runtime, {NO_DYNAMIC}")
    elif not structure.quantizers:
        console.say("a float model: trtcal quantize writes Q/DQ nodes from a calibration cache")
    _show(structure.findings)


def _meant_for(operator: "WeightedOperator") -> str:
    if operator.dynamic:
        return "INT8, dynamic"
    return "INT8" if operator.quantized else "float"


def _show(findings: "tuple[Finding, ...]") -> None:
    if findings:
        console.table(
            "Findings",
            ("Severity", "Rule", "What"),
            [(finding.severity, finding.rule, finding.message) for finding in findings],
            optional=("Rule",),
            styles=[_FINDING_STYLES[finding.severity] for finding in findings],
        )


def _traffic(kernel: "Kernel") -> str:
    return f"{_listed(kernel.inputs) or _listed(kernel.constants)} -> {_listed(kernel.outputs)}"


def _listed(tensors: "tuple[KernelTensor, ...]") -> str:
    return ", ".join(map(str, tensors))


def _nodes(kernel: "Kernel") -> str:
    """The ONNX nodes that a kernel computes, without those that only quantize and dequantize what others read."""
    nodes = [name for name in kernel.nodes if not _QUANTIZER.search(name)]
    more = f" and {len(nodes) - _NAMES} more" if len(nodes) > _NAMES else ""
    return ", ".join(nodes[:_NAMES]) + more or "Q/DQ only"
