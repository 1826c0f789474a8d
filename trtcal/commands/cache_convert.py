"""`trtcal cache convert`: scales and encodings in another format, and back."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrators.codecs.names import FormatName as Format
from calibrators.codecs.names import listed
from calibrators.errors import CacheError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from calibrators.cache.text import CalibrationCache
    from trtcal.conversion import Read


_NOTHING = (
    "there is nothing to convert: give --from qdq, --to qdq or another format, or a new header by --algorithm or "
    "--tensorrt-version"
)


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
    from calibrators.cache.sidecar import sidecar_path
    from calibrators.files import require_outputs
    from trtcal.conversion import read
    from trtcal.tables.conversion import remarks

    header = algorithm is not None or tensorrt_version is not None
    _require_sense(source_format, target_format, model=model, header=header)
    pair = target_format in (Format.TENSORRT, Format.QDQ)
    inputs = [source] if model is None else [source, model]
    require_outputs([output, *([sidecar_path(output)] if pair else [])], inputs=inputs)
    whole = target_format.startswith(("aimet", "trtcal"))
    found = read(source, None if source_format is None else source_format.value, whole=whole)
    if found.format == target_format == Format.TENSORRT and not header:
        raise CacheError(_NOTHING)
    notes = list(found.notes)
    if target_format is not Format.QDQ:
        found = _completed(found, model)
        notes = [*found.notes, *remarks(found, target_format.value, model=model)]
    if not pair:
        _write(found, target_format, output, notes, json=json)
    elif target_format is Format.QDQ:
        assert model is not None
        _write_model(found, model, output, name=str(source), json=json)
    else:
        _write_cache(found, output, algorithm=algorithm, tensorrt_version=tensorrt_version, json=json)
    for note in notes:
        console.note(f"note: {note}")


def _require_sense(source: Format | None, target: Format, *, model: Path | None, header: bool) -> None:
    if target is Format.QDQ and model is None:
        raise CacheError("--to qdq writes scales into a float model: give the model after the source of the scales")
    if target is not Format.TENSORRT and header:
        raise CacheError("--algorithm and --tensorrt-version are for the header of a calibration cache: leave them out")
    if source is target is Format.TENSORRT and not header:
        raise CacheError(_NOTHING)


def _completed(found: "Read", model: Path | None) -> "Read":
    """What was read, with what the model knows of it."""
    from dataclasses import replace

    if model is None:
        return found
    if not found.format.startswith("aimet") and not found.encodings.axis_unknown:
        raise CacheError(
            f"{model} is one file too many: --to qdq writes scales into a model, and AIMET's encodings may need one"
        )
    from engines.graph.parameters import completed

    encodings = completed(found.encodings, model)
    return replace(found, encodings=encodings, notes=encodings.notes)


def _write(found: "Read", target: Format, output: Path, notes: list[str], *, json: bool) -> None:
    from dataclasses import replace

    from calibrators.codecs.aimet.layouts import DEFAULT
    from calibrators.codecs.formats import FORMATS
    from calibrators.files import write_whole
    from trtcal.conversion import QDQ
    from trtcal.tables.conversion import report

    name = f"aimet-{DEFAULT}" if target is Format.AIMET else target.value
    encodings = replace(found.encodings, cache=None) if found.format == QDQ else found.encodings  # it has no header
    data, losses = FORMATS[name].dump(encodings)
    write_whole(output, data)
    report(output, found, name, losses=losses, notes=notes, json=json)


def _write_model(found: "Read", model: Path, output: Path, *, name: str, json: bool) -> None:
    from dataclasses import replace

    from calibrators.codecs.encodings import to_cache
    from trtcal.pipeline import quantize
    from trtcal.tables.conversion import warn
    from trtcal.tables.quantized import report

    scales = replace(found.encodings, weights={}, extra={})
    cache, losses = to_cache(scales)
    if found.encodings.weights:
        losses += (f"{len(found.encodings.weights)} encodings of weights are not used: weights get their own here",)
    report(output, quantize(model, cache, output=output, name=name), json=json)
    warn(losses)


def _write_cache(
    found: "Read", output: Path, *, algorithm: Algorithm | None, tensorrt_version: str | None, json: bool
) -> None:
    from calibrators.codecs.encodings import to_cache
    from trtcal.tables.conversion import report_cache

    cache, losses = to_cache(found.encodings)
    cache = _with_header(cache, algorithm, tensorrt_version)
    cache.save(output)
    report_cache(output, cache, losses=losses, json=json)


def _with_header(
    cache: "CalibrationCache", algorithm: Algorithm | None, tensorrt_version: str | None
) -> "CalibrationCache":
    from calibrators.cache.text import ENTROPY, NEWEST_VERSION, version_number

    if algorithm is None and tensorrt_version is None:
        return cache
    named = algorithm.value if algorithm is not None else cache.algorithm or ENTROPY
    version = version_number(tensorrt_version) if tensorrt_version is not None else cache.version or NEWEST_VERSION
    return cache.with_header(algorithm=named, version=version)
