"""`trtcal inspect`: what an engine really runs, and how an ONNX model is quantized."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trtcal import console
from trtcal.commands import options
from trtcal.commands.build import in_words, where

if TYPE_CHECKING:
    from engines.kernels import Kernel, KernelTensor
    from engines.lint import Finding

_STYLES = {"INT8": "green", "FP32": "yellow"}
_FINDING_STYLES = {"error": "red", "warning": "yellow", "hint": None}
_NAMES = 4
"""ONNX nodes named per kernel in the table; --json has them all."""


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="ENGINE|ONNX", help="An engine that trtcal built, or an ONNX model.", show_default=False
        ),
    ],
    *,
    json: options.Json = False,
) -> None:
    """Show an engine's kernels and the precision of each, or an ONNX model's Q/DQ nodes; and what is wrong with them.

    An engine is described by its side-car, ENGINE.json, which trtcal build writes: no GPU is needed.
    """
    if file.suffix.lower() == ".onnx":
        _inspect_model(file, json=json)
    else:
        _inspect_engine(file, json=json)


def _inspect_engine(path: Path, *, json: bool) -> None:
    from engines.record import Engine

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
    for tensor in (*record.inputs, *record.outputs):
        shapes = record.shapes.get(tensor["name"])
        size = (
            "..".join("x".join(map(str, shapes[key])) for key in ("min", "opt", "max"))
            if shapes
            else "x".join(map(str, tensor["shape"]))
        )
        console.say(f"{'input' if tensor in record.inputs else 'output'} {tensor['name']}: {tensor['type']} {size}")
    if record.kernels is None:
        console.say(f"what it runs is unknown: {record.kernels_absent}")
    else:
        kernels = [kernel for kernel in record.kernels if kernel.inputs or kernel.outputs]
        console.table(
            "Kernels, in the order they run",
            ("Kernel", "Kind", "Runs in", "Reads and writes", "ONNX nodes"),
            [
                (kernel.name, kernel.kind, kernel.precision or "-", _traffic(kernel), _nodes(kernel))
                for kernel in kernels
            ],
            styles=[_STYLES.get(kernel.precision or "") for kernel in kernels],
        )
        console.say(f"kernels: {in_words(record.kernels_by_precision)}")
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
    _show(record.findings)
    for note in record.notes:
        console.say(f"note: {note}")
    for warning in record.warnings:
        console.say(f"{record.backend} warned: {warning}")


def _inspect_model(path: Path, *, json: bool) -> None:
    from engines.graph import load_model
    from engines.lint import structure_of

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
                "INT8" if operator.quantized else "float",
            )
            for operator in structure.operators
        ],
        styles=["green" if operator.quantized else None for operator in structure.operators],
    )
    console.say(
        f"{path}: {len(quantized)} of {len(structure.operators)} weighted operators quantized, "
        f"{len(structure.quantizers)} Q/DQ pairs"
    )
    if not structure.quantizers:
        console.say("a float model: trtcal quantize writes Q/DQ nodes from a calibration cache")
    _show(structure.findings)


def _show(findings: "tuple[Finding, ...]") -> None:
    if findings:
        console.table(
            "Findings",
            ("Severity", "Rule", "What"),
            [(finding.severity, finding.rule, finding.message) for finding in findings],
            styles=[_FINDING_STYLES[finding.severity] for finding in findings],
        )


def _traffic(kernel: "Kernel") -> str:
    return f"{_listed(kernel.inputs) or _listed(kernel.constants)} -> {_listed(kernel.outputs)}"


def _listed(tensors: "tuple[KernelTensor, ...]") -> str:
    return ", ".join(map(str, tensors))


def _nodes(kernel: "Kernel") -> str:
    more = f" and {len(kernel.nodes) - _NAMES} more" if len(kernel.nodes) > _NAMES else ""
    return ", ".join(kernel.nodes[:_NAMES]) + more
