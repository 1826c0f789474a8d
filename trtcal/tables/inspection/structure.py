"""How an ONNX model is quantized: its Q/DQ nodes, operator by operator."""

from pathlib import Path
from typing import Any

from engines.qdq.read import NO_DYNAMIC
from engines.structure.findings import WeightedOperator
from engines.structure.lint import Structure
from trtcal.tables import console
from trtcal.tables.inspection.findings import show_findings
from trtcal.tables.left_float import left_in_float


def as_dict(path: Path, structure: Structure) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
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
        "left_float": dict(structure.left_float),
        "quantizers": [quantizer.to_dict() for quantizer in structure.quantizers],
        "findings": [finding.to_dict() for finding in structure.findings],
    }


def show(path: Path, structure: Structure) -> None:
    """Print what each weighted operator is quantized with, and what is wrong with it."""
    quantized = [operator for operator in structure.operators if operator.quantized]
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
    if structure.quantizers or structure.dynamic:
        for line in left_in_float(structure.left_float):
            console.say(line)
    show_findings(structure.findings)


def _meant_for(operator: WeightedOperator) -> str:
    if operator.dynamic:
        return "INT8, dynamic"
    return "INT8" if operator.quantized else "float"
