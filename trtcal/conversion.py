"""Files of scales, ranges and encodings: which format one has, and what it says."""

import os
import re
from dataclasses import dataclass

from calibrators.cache.lookalikes import ONNX_MODEL
from calibrators.cache.text import NoCacheError
from calibrators.codecs.cache_file import recognised_instead
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.formats import FORMATS, load, recognised, require_recognised
from calibrators.errors import CacheError
from calibrators.files import opened

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
