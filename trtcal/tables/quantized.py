"""Quantized models: what became of their operators, and what stays in float."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.qdq.dynamic import DynamicModel
from engines.qdq.write import QuantizedModel
from trtcal.tables import console
from trtcal.tables.left_float import left_in_float


def report(output: Path, result: QuantizedModel, *, json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Say what became of a model; on standard error, what stays in float and which scales are not the cache's.

    Args:
        output: Where it was written.
        result: The model.
        json: Print JSON.
        more: What else it holds.
    """
    if json:
        console.emit_json(
            {
                **_common(output, result),
                "scales": dict(result.scales),
                "from_sidecar": list(result.from_sidecar),
                "shared": list(result.shared),
                "averaged": list(result.averaged),
                "layers": result.configured,
                "several": list(result.several),
                "internal": list(result.internal),
                "unused": list(result.unused),
                **(more or {}),
            }
        )
    else:
        console.say(f"{output}: {len(result.quantized)} operators in INT8, {len(result.scales)} activation scales")
    _say_the_rest(result)


def report_dynamic(output: Path, result: DynamicModel, *, json: bool) -> None:
    """Say what became of a model that finds its ranges at run time; on standard error, what that means for TensorRT."""
    if json:
        console.emit_json({**_common(output, result), "dynamic": True, "activations": list(result.activations)})
    else:
        console.say(
            f"{output}: {len(result.quantized)} operators in INT8, {len(result.activations)} activations quantized at "
            "run time"
        )
    _say_the_rest(result)


def _common(output: Path, result: QuantizedModel | DynamicModel) -> dict[str, Any]:
    return {
        "model": str(output),
        "quantized": list(result.quantized),
        "left_float": dict(result.left_float),
        "weights": result.weights.method,
        "granularity": str(result.weights.granularity),
    }


def _say_the_rest(result: QuantizedModel | DynamicModel) -> None:
    for line in (*left_in_float(result.left_float), *(f"note: {note}" for note in result.notes)):
        console.note(line)
