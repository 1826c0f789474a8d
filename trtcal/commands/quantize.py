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
    biases stay in float.
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
    if result.from_sidecar:
        console.note(
            f"note: {len(result.from_sidecar)} scales, such as {result.from_sidecar[0]}'s, are from the side-car: "
            "TensorRT's caches repeat the scale before an average pooling behind it, which Q/DQ nodes need not"
        )
    if result.shared:
        console.note(
            f"note: {len(result.shared)} scales, such as {result.shared[0]}'s, are those of a tensor they share one "
            "with (pooling, concatenation): the cache has another for them, or none"
        )
    if result.averaged:
        console.note(
            f"note: {len(result.averaged)} scales, such as {result.averaged[0]}'s, repeat the one before an average "
            "pooling, as TensorRT's caches have it: calibrate with trtcal for finer ones, which its side-cars hold"
        )
    if result.internal:
        console.note(
            f"note: {len(result.internal)} names in the cache are TensorRT's own, such as {result.internal[0]}, and "
            "were dropped: they are no tensors of the model"
        )
    if result.unused:
        console.note(f"note: {len(result.unused)} names in the cache are not in the model, such as {result.unused[0]}")
