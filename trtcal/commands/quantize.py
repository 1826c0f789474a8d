"""`trtcal quantize`: from a cache to a model with Q/DQ nodes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from engines.qdq import QuantizedModel


def quantize(
    model: options.Model,
    *,
    cache: Annotated[Path, typer.Option(help="Its calibration cache.", metavar="MODEL.cache", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model to write.", metavar="MODEL.int8.onnx", show_default=False)
    ],
    json: options.Json = False,
) -> None:
    """Write a calibration cache's scales into the model as QuantizeLinear and DequantizeLinear nodes, for any TensorRT.

    Weights get one scale per output channel, activations one per tensor. Batch normalization is folded where it can be,
    biases stay in float. A cache that TensorRT wrote will do: names of its own are dropped and counted, the sides of a
    pooling or concatenation get one scale, and what has a scale of zero or infinity stays in float and is named.
    """
    from trtcal.pipeline import quantize as quantized

    report(output, quantized(model, cache, output=output), json=json)


def report(output: Path, result: "QuantizedModel", *, json: bool) -> None:
    """Say what became of a model; on standard error, what stays in float and which scales are not the cache's."""
    if json:
        console.emit_json(
            {
                "model": str(output),
                "quantized": list(result.quantized),
                "scales": dict(result.scales),
                "left_float": dict(result.left_float),
                "from_sidecar": list(result.from_sidecar),
                "shared": list(result.shared),
                "averaged": list(result.averaged),
                "internal": list(result.internal),
                "unused": list(result.unused),
            }
        )
    else:
        console.say(f"{output}: {len(result.quantized)} operators in INT8, {len(result.scales)} activation scales")
    for name, why in result.left_float.items():
        console.note(f"left in float: {name}, for {why}")
    for note in result.notes:
        console.note(f"note: {note}")
