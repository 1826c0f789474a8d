"""`trtcal cache convert`: scales and encodings in another format, and back."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from calibrators.codecs.names import FormatName as Format
from calibrators.codecs.names import listed
from trtcal.commands import options


class Algorithm(str, Enum):
    """The words by which TensorRT's calibrators know a cache for theirs."""

    ENTROPY_2 = "EntropyCalibration2"
    MINMAX = "MinMaxCalibration"
    ENTROPY = "EntropyCalibration"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="What holds the scales: a file of any of the formats, or a model with Q/DQ nodes.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL.onnx",
            help="The float model: with --to qdq to write the scales into; with AIMET's encodings for what their file "
            "does not tell, the axes of channels and which tensors are weights.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE", show_default=False)
    ],
    source_format: Annotated[
        Format | None,
        typer.Option(
            "--from", help="What SOURCE is. [default: told by what is in it]", metavar="FORMAT", show_default=False
        ),
    ] = None,
    target_format: Annotated[
        Format, typer.Option("--to", help=f"What to write: {listed()}.", metavar="FORMAT")
    ] = Format.TENSORRT,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(
            help="The calibrator in the header of a cache. [default: the cache's own, else EntropyCalibration2]",
            show_default=False,
        ),
    ] = None,
    tensorrt_version: Annotated[
        str | None,
        typer.Option(
            help="TensorRT's version in the header of a cache. [default: the cache's own, else 10.16.0]",
            metavar="8.6.1",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Convert calibration caches, encodings, ranges and Q/DQ models into each other, or give a cache another header.

    The formats are listed under --to. What a format cannot hold is told on standard error, and under "losses" with
    --json. Activations of several scales are refused where a format has one per tensor.

    CACHE MODEL.onnx --to qdq -o OUT.onnx writes a cache's scales into a float model, as trtcal quantize does: for
    TensorRT 11 and TensorRT for RTX, which have no calibrators.

    MODEL.int8.onnx -o OUT.cache reads the activation scales of any tool's Q/DQ model back, under the float model's
    names, with those of pooled, reshaped and concatenated tensors, which share them. Weights are left out. Refused is
    what a cache cannot hold: asymmetric or per-channel activations, other types than INT8, a tensor with several
    scales. AIMET's formats and trtcal's own hold all of that, and weights.

    CACHE -o OUT.cache --tensorrt-version 10.3 --algorithm MinMaxCalibration keeps the scales and changes the header.
    """
    from trtcal.conversion import convert as converted
    from trtcal.tables.conversion import report

    found = converted(
        source,
        model,
        output=output,
        source_format=None if source_format is None else source_format.value,
        to=target_format.value,
        algorithm=None if algorithm is None else algorithm.value,
        tensorrt_version=tensorrt_version,
    )
    report(found, json=json)
