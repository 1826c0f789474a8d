"""`trtcal cache convert`: the scales of a calibration cache in another form, and back."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrators.errors import CacheError
from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from calibrators.cache import CalibrationCache

    _Read = tuple[CalibrationCache, Sequence[str]]
    """Scales, and what a reader should know of how they were read."""


class Format(str, Enum):
    """A form that activation scales are kept in."""

    TENSORRT = "tensorrt"
    QDQ = "qdq"


class Algorithm(str, Enum):
    """The words by which TensorRT's calibrators know a cache for theirs."""

    ENTROPY_2 = "EntropyCalibration2"
    MINMAX = "MinMaxCalibration"
    ENTROPY = "EntropyCalibration"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="What holds the scales: a cache, or a model with Q/DQ nodes.", show_default=False
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL.onnx", help="With --to qdq: the float model to write them into.", show_default=False
        ),
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE", show_default=False)
    ],
    source_format: Annotated[
        Format,
        typer.Option("--from", help="What SOURCE is: TensorRT's calibration cache, or a model with Q/DQ nodes."),
    ] = Format.TENSORRT,
    target_format: Annotated[
        Format, typer.Option("--to", help="What to write: TensorRT's calibration cache, or a model with Q/DQ nodes.")
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
    """Convert a calibration cache into a Q/DQ model, a Q/DQ model into a cache, or give a cache another header.

    CACHE MODEL.onnx --to qdq -o OUT.onnx writes a cache's scales into a float model, as trtcal quantize does: for
    TensorRT 11 and TensorRT for RTX, which have no calibrators.

    --from qdq MODEL.int8.onnx -o OUT.cache reads the activation scales of any tool's Q/DQ model back, under the float
    model's names, with those of pooled, reshaped and concatenated tensors, which share them. Weights are left out.
    Refused is what a cache cannot hold: asymmetric or per-channel activations, other types than INT8, a tensor with
    several scales.

    CACHE -o OUT.cache --tensorrt-version 10.3 --algorithm MinMaxCalibration keeps the scales and changes the header.
    """
    from calibrators.files import require_outputs
    from calibrators.sidecar import sidecar_path

    header = algorithm is not None or tensorrt_version is not None
    _require_sense(source_format, target_format, model=model, header=header)
    require_outputs([output, sidecar_path(output)], inputs=[source])
    cache, notes = _READERS[source_format](source)
    if target_format is Format.QDQ:
        from trtcal.commands.quantize import report
        from trtcal.pipeline import quantize

        assert model is not None
        report(output, quantize(model, cache, output=output, name=str(source)), json=json)
    else:
        _write_cache(cache, output, algorithm=algorithm, tensorrt_version=tensorrt_version, json=json)
    for note in notes:
        console.note(f"note: {note}")


def _require_sense(source: Format, target: Format, *, model: Path | None, header: bool) -> None:
    if target is Format.QDQ and model is None:
        raise CacheError("--to qdq writes scales into a float model: give the model after the source of the scales")
    if target is not Format.QDQ and model is not None:
        raise CacheError(f"{model} is one file too many: only --to qdq writes scales into a model")
    if target is not Format.TENSORRT and header:
        raise CacheError("--algorithm and --tensorrt-version are for the header of a calibration cache: leave them out")
    if source is target is Format.TENSORRT and not header:
        raise CacheError(
            "there is nothing to convert: give --from qdq, --to qdq, or a new header by --algorithm or "
            "--tensorrt-version"
        )


def _from_cache(path: Path) -> "_Read":
    from calibrators.cache import CalibrationCache

    return CalibrationCache.load(path), ()


def _from_qdq(path: Path) -> "_Read":
    from trtcal.pipeline import cache_from_qdq

    cache, read = cache_from_qdq(path)
    notes = list(read.notes)
    if read.derived:
        notes.append(
            f"{len(read.derived)} scale(s), such as {read.derived[0]}'s, taken from a tensor that shares one "
            "(pooling, reshapes, concatenation)"
        )
    if read.weights:
        notes.append(f"{read.weights} quantized weights and biases are left out: caches list activations only")
    return cache, notes


_READERS = {Format.TENSORRT: _from_cache, Format.QDQ: _from_qdq}


def _write_cache(
    cache: "CalibrationCache", output: Path, *, algorithm: Algorithm | None, tensorrt_version: str | None, json: bool
) -> None:
    from calibrators.cache import ENTROPY, NEWEST_VERSION, header_text, version_number

    if algorithm is not None or tensorrt_version is not None:
        cache = cache.with_header(
            algorithm=algorithm.value if algorithm is not None else cache.algorithm or ENTROPY,
            version=version_number(tensorrt_version)
            if tensorrt_version is not None
            else cache.version or NEWEST_VERSION,
        )
    cache.save(output)
    if json:
        console.emit_json({"cache": str(output), "header": cache.header, "sha256": cache.sha256, "scales": dict(cache)})
    else:
        console.say(f"{output}: {len(cache)} scales; {header_text(cache)}")
