"""The formats by name, and which of them a file has: told by what is in it, never by how it is called."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from calibrators.cache.lookalikes import lookalike
from calibrators.codecs import (
    onnxruntime_flatbuffers,
    onnxruntime_json,
    onnxruntime_text,
    ppq,
    tensorrt,
    text_ranges,
    trtcal_json,
)
from calibrators.codecs.aimet import layouts as aimet
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.reading import object_of
from calibrators.errors import CacheError

Dump = Callable[[Encodings], tuple[bytes, tuple[str, ...]]]


class Format(NamedTuple):
    """How a format is called in a sentence, told from others, read and written.

    Attributes:
        title: With an article where it needs one.
        load: From a file's bytes.
        dump: To a file's bytes, and a line for each kind of loss.
        of_bytes: Whether bytes that are no JSON object are of this format.
        of_json: Whether a JSON object is; a format has one of the two, or is AIMET's, whose layouts are told together.
    """

    title: str
    load: Callable[..., Encodings]
    dump: Dump
    of_bytes: Callable[[bytes], bool] | None = None
    of_json: Callable[[object], bool] | None = None


FORMATS = {
    "tensorrt": Format("a TensorRT calibration cache", tensorrt.load, tensorrt.dump, tensorrt.recognises),
    "aimet-0.6.1": Format("AIMET's encodings in JSON", aimet.load, aimet.dump_0_6_1),
    "aimet-1.0.0": Format("AIMET's encodings in JSON", aimet.load, aimet.dump_1_0_0),
    "aimet-2.0.0": Format("AIMET's encodings in JSON", aimet.load, aimet.dump_2_0_0),
    "onnxruntime-flatbuffers": Format(
        "ONNX Runtime's calibration.flatbuffers",
        onnxruntime_flatbuffers.load,
        onnxruntime_flatbuffers.dump,
        onnxruntime_flatbuffers.recognises,
    ),
    "onnxruntime-json": Format(
        "ONNX Runtime's calibration data in JSON",
        onnxruntime_json.load,
        onnxruntime_json.dump,
        of_json=onnxruntime_json.recognises,
    ),
    "onnxruntime-text": Format(
        "ONNX Runtime's calibration.cache (lines of `name range`)",
        onnxruntime_text.load,
        onnxruntime_text.dump,
        onnxruntime_text.recognises,
    ),
    "ppq": Format("PPQ's ranges in JSON", ppq.load, ppq.dump, of_json=ppq.recognises),
    "ranges": Format(
        "plain ranges (lines of `name: range` in decimal)", text_ranges.load, text_ranges.dump, text_ranges.recognises
    ),
    "trtcal": Format("trtcal's encodings in JSON", trtcal_json.load, trtcal_json.dump, of_json=trtcal_json.recognises),
}
"""By name; which names there are, `calibrators.codecs.names` says."""

_JSON_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{\s*(?:[\"}/#]|\Z)")
"""How a JSON object begins; a tensor's name in a text of ranges may begin with a brace, too."""


def recognised(data: bytes) -> str | None:
    """The name of the format that a file's bytes have; None where it is none of them.

    A file that is malformed may still be recognised: reading it then says what is wrong.
    """
    if not _JSON_OBJECT.match(data):
        return next((name for name, each in FORMATS.items() if each.of_bytes is not None and each.of_bytes(data)), None)
    try:
        values = json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None
    layout = aimet.layout_of(values)
    named = next((name for name, each in FORMATS.items() if each.of_json is not None and each.of_json(values)), None)
    return named or (f"aimet-{layout}" if layout else None)


def require_recognised(data: bytes, source: str) -> str:
    """The name of the format that a file's bytes have.

    Raises:
        CacheError: It is none of them; the message says what it is, if that can be told.
    """
    name = recognised(data)
    if name is not None:
        return name
    if _JSON_OBJECT.match(data):
        object_of(data, source)  # what is cut off looks like anything
    what = lookalike(data)
    if what is None and data.strip():
        raise CacheError(f"{source} is of no format of scales that trtcal knows: {', '.join(FORMATS)}, or a Q/DQ model")
    if what in (None, "JSON"):  # empty, cut off, or of another kind
        keys = ", ".join(list(object_of(data, source))[:3])
        what = f"JSON of another kind ({keys or 'empty'})"
    raise CacheError(f"{source} is {what}: no scales or encodings")


def load(data: bytes, name: str, *, source: str) -> Encodings:
    """Read a file of the format `name`; `source` names the file in messages.

    Raises:
        CacheError: It is malformed.
    """
    try:
        return FORMATS[name].load(data, source=source)
    except CacheError as error:
        raise error if source in str(error) else CacheError(f"{source}: {error}") from error
