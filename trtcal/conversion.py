"""Files of scales, ranges and encodings: which format one has, what it says, and the same in another format."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibrators.cache.lookalikes import ONNX_MODEL
from calibrators.cache.sidecar import sidecar_path
from calibrators.cache.text import ENTROPY, NEWEST_VERSION, CalibrationCache, NoCacheError, version_number
from calibrators.codecs.aimet.layouts import DEFAULT
from calibrators.codecs.cache_file import recognised_instead
from calibrators.codecs.encodings import Encodings, to_cache
from calibrators.codecs.formats import FORMATS, load, recognised, require_recognised
from calibrators.codecs.names import FormatName
from calibrators.errors import CacheError, listed
from calibrators.files import opened, require_outputs, write_whole

if TYPE_CHECKING:
    from engines.qdq.write import QuantizedModel

PathLike = str | os.PathLike[str]

QDQ = "qdq"
"""The name of the one format that is no file of scales: a model with Q/DQ nodes."""

MOST_BYTES = 2**28
"""Encodings of some ten million channels."""

_ONNX = re.compile(ONNX_MODEL)


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says.

    Attributes:
        format: The name of its format, one of `FORMATS` or "qdq".
        encodings: Of its tensors.
        notes: What a reader should know of how it was read, one line each.
    """

    format: str
    encodings: Encodings
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written, and what it comes from.

    Attributes:
        output: The file.
        source_format: The format that was read.
        format: The format that was written.
        encodings: What was read of the source.
        cache: The calibration cache that was written, or whose scales the model has; None for other formats.
        model: The model with Q/DQ nodes that was written; None for other formats.
        losses: What the format cannot hold, one line each.
        notes: What a user should know before relying on it, one line each.
    """

    output: Path
    source_format: str
    format: str
    encodings: Encodings
    cache: CalibrationCache | None = None
    model: "QuantizedModel | None" = None
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def convert(
    source: PathLike,
    model: PathLike | None = None,
    *,
    output: PathLike,
    source_format: str | None = None,
    to: str = "tensorrt",
    algorithm: str | None = None,
    tensorrt_version: str | None = None,
) -> Converted:
    """Convert calibration caches, encodings, ranges and Q/DQ models into each other, or give a cache another header.

    Args:
        source: A file of any of the formats, or a model with Q/DQ nodes.
        model: The float model: with `to` "qdq" to write the scales into; with AIMET's encodings for what their file
            does not tell.
        output: The file to write; a cache and a Q/DQ model get a side-car beside it.
        source_format: The format of `source`; None tells it by what is in it.
        to: The format to write: "tensorrt", "qdq", "aimet", ...
        algorithm: The calibrator in the header of a cache; None keeps the cache's own, else EntropyCalibration2.
        tensorrt_version: TensorRT's version in the header of a cache, such as "8.6.1"; None keeps the cache's own.

    Raises:
        CacheError: The source cannot be read, the format cannot hold it, there is nothing to convert, or an argument
            means nothing for the format.
        ModelError: The model cannot be read or quantized.
        OutputError: The output cannot be written, or would replace what is read.
    """
    target = _named(to)
    header = algorithm is not None or tensorrt_version is not None
    _require_sense(source_format, target, model=model, header=header)
    pair = target in (FormatName.TENSORRT, FormatName.QDQ)
    inputs = [source] if model is None else [source, model]
    require_outputs([output, *([sidecar_path(output)] if pair else [])], inputs=inputs)
    found = read(source, source_format, whole=target.value.startswith(("aimet", "trtcal")))
    if found.format == target == FormatName.TENSORRT and not header:
        raise CacheError(_NOTHING)
    if target is FormatName.QDQ:
        assert model is not None
        return _to_model(found, model, Path(output), name=str(source))
    found = _completed(found, model)
    notes = (*found.notes, *_remarks(found, target.value, model=model))
    if target is FormatName.TENSORRT:
        return replace(_to_cache(found, Path(output), algorithm, tensorrt_version), notes=notes)
    name = f"aimet-{DEFAULT}" if target is FormatName.AIMET else target.value
    encodings = replace(found.encodings, cache=None) if found.format == QDQ else found.encodings  # it has no header
    data, losses = FORMATS[name].dump(encodings)
    write_whole(output, data)
    return Converted(Path(output), found.format, name, found.encodings, losses=losses, notes=notes)


_NOTHING = (
    "there is nothing to convert: give --from qdq, --to qdq or another format, or a new header by --algorithm or "
    "--tensorrt-version"
)


def _named(to: str) -> FormatName:
    known = next((each for each in FormatName if each.value == to), None)
    if known is None:
        raise CacheError(f"there is no format {to!r}: choose among {', '.join(each.value for each in FormatName)}")
    return known


def _require_sense(source: str | None, target: FormatName, *, model: PathLike | None, header: bool) -> None:
    if target is FormatName.QDQ and model is None:
        raise CacheError("--to qdq writes scales into a float model: give the model after the source of the scales")
    if target is not FormatName.TENSORRT and header:
        raise CacheError("--algorithm and --tensorrt-version are for the header of a calibration cache: leave them out")
    if source is not None and _named(source) is target is FormatName.TENSORRT and not header:
        raise CacheError(_NOTHING)


def _completed(found: Read, model: PathLike | None) -> Read:
    """What was read, with what the model knows of it."""
    if model is None:
        return found
    if not found.format.startswith("aimet") and not found.encodings.axis_unknown:
        raise CacheError(
            f"{model} is one file too many: --to qdq writes scales into a model, and AIMET's encodings may need one"
        )
    from engines.graph.parameters import completed

    encodings = completed(found.encodings, model)
    return replace(found, encodings=encodings, notes=encodings.notes)


def _to_model(found: Read, model: PathLike, output: Path, *, name: str) -> Converted:
    from trtcal.pipeline import quantize

    scales = replace(found.encodings, weights={}, extra={})
    cache, losses = to_cache(scales)
    if found.encodings.weights:
        losses += (f"{len(found.encodings.weights)} encodings of weights are not used: weights get their own here",)
    written = quantize(model, cache, output=output, name=name)
    return Converted(output, found.format, QDQ, found.encodings, cache, written, losses, found.notes)


def _to_cache(found: Read, output: Path, algorithm: str | None, tensorrt_version: str | None) -> Converted:
    cache, losses = to_cache(found.encodings)
    if algorithm is not None or tensorrt_version is not None:
        named = algorithm or cache.algorithm or ENTROPY
        version = version_number(tensorrt_version) if tensorrt_version is not None else cache.version or NEWEST_VERSION
        cache = cache.with_header(algorithm=named, version=version)
    cache.save(output)
    return Converted(output, found.format, FormatName.TENSORRT.value, found.encodings, cache, losses=losses)


def _remarks(found: Read, target: str, *, model: PathLike | None) -> list[str]:
    """What a user should know before relying on the file."""
    hints = []
    if found.format == "aimet-2.0.0" and model is None:
        hints.append(
            "AIMET's 2.0.0 tells no weights from activations: what has no axis is taken for an activation; give the "
            "float model to tell them apart"
        )
    if found.format in ("onnxruntime-flatbuffers", "onnxruntime-text"):
        hints.append(
            "where ONNX Runtime wrote this table itself, a range is max(highest, lowest), too small where the lowest "
            "value is the larger one; its calibration.json has both ends"
        )
    if target == "trtcal" and found.encodings.axis_unknown:
        hints.append(f"the axis of {listed(sorted(found.encodings.axis_unknown))} is not known; give the float model")
    split = [name for name in found.encodings.activations if ":" in name]
    if target == "tensorrt" and found.format != "tensorrt" and split:
        hints.append(
            f"ONNX Runtime's TensorRT provider misreads {listed(split)} in a TensorRT cache, for the colon; TensorRT "
            "does not, nor does the provider in --to onnxruntime-flatbuffers"
        )
    return hints


def read(path: str | os.PathLike[str], name: str | None = None, *, whole: bool = False) -> Read:
    """Read a file of any format, or the Q/DQ nodes of a model.

    Args:
        path: The file. A calibration cache is read with its side-car where it has one.
        name: Its format, "qdq" for a model, "aimet" for any version of AIMET's; None to tell by the file's contents.
        whole: Of a model, read weights and asymmetric or per-channel activations, too; else what a calibration cache
            can hold, and refuse what it cannot.

    Raises:
        TrtcalError: It cannot be read, is of no known format or of another than `name`, or is malformed.
    """
    if name == QDQ:
        return _of_model(path, whole=whole)
    data = _bytes(path, head=name is None)
    if name is None and _ONNX.match(data):
        _require_quantized(path)
        return _of_model(path, whole=whole)
    found = _format(data, name, str(path))
    try:
        encodings = load(data, found, source=str(path))
    except NoCacheError as error:
        raise (recognised_instead(error) if error.source == str(path) else error) from error
    if encodings.cache is not None and found == "tensorrt":
        encodings.cache.join_sidecar(path)
    return Read(found, encodings, encodings.notes)


def _format(data: bytes, name: str | None, source: str) -> str:
    if name is None:
        return require_recognised(data, source)
    found = recognised(data)
    if found is None or name in ("tensorrt", found):  # what is wrong with it, its own reader says
        return "aimet-1.0.0" if name == "aimet" else name
    if name == "aimet" and found.startswith("aimet"):
        return found
    raise CacheError(
        f"{source} is {FORMATS[found].title} ({found}), not {name}: leave --from out, or give another file"
    )


def _require_quantized(path: str | os.PathLike[str]) -> None:
    from engines.graph.model import load_model
    from engines.graph.operators import QUANTIZERS

    kinds = {node.op_type for node in load_model(path, weights=False, check=False).graph.node}
    if not any(kind in QUANTIZERS or kind.startswith("QLinear") for kind in kinds):
        raise CacheError(
            f"{path} is no TensorRT calibration cache but an ONNX model in float: give what holds its scales, or a "
            "model with Q/DQ nodes"
        )


def _of_model(path: str | os.PathLike[str], *, whole: bool) -> Read:
    from engines.qdq.to_encodings import qdq_encodings
    from trtcal.pipeline import cache_from_qdq

    if whole:
        encodings = qdq_encodings(path)
        return Read(QDQ, encodings, encodings.notes)
    cache, found = cache_from_qdq(path)
    notes = list(found.notes)
    if found.derived:
        notes.append(
            f"{len(found.derived)} scale(s), such as {found.derived[0]}'s, taken from a tensor that shares one "
            "(pooling, reshapes, concatenation)"
        )
    if found.weights:
        notes.append(f"{found.weights} quantized weights and biases are left out: caches list activations only")
    return Read(QDQ, Encodings.of_cache(cache), tuple(notes))


def _bytes(path: str | os.PathLike[str], *, head: bool) -> bytes:
    """A file's bytes; with `head`, of an ONNX model only the first few."""
    try:
        with opened(path) as file:
            data = file.read(64)
            if head and _ONNX.match(data):
                return data
            data += file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}; give a file of scales") from error
    if len(data) > MOST_BYTES:
        raise CacheError(f"{path} is no file of scales: none is larger than {MOST_BYTES >> 20} MiB")
    return data
