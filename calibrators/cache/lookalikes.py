"""Files that are given in the place of a calibration cache, told by what is in them."""

import re

ONNX_MODEL = rb"\x08[\x01-\x20][\x12\x1a\x3a\x42]"
"""How an ONNX model begins, as a regular expression: its IR version, and another of its first fields."""

_DECIMAL = rb"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?"
_LOOKALIKES = (
    (rb"PK\x03\x04", "a ZIP or NPZ archive (statistics become a cache by `trtcal calibrate --statistics-from`)"),
    (rb"\x93NUMPY", "a NumPy array"),
    (ONNX_MODEL, "an ONNX model"),
    (rb"\xff\xfe|\xfe\xff", "UTF-16 text (save it as UTF-8)"),
    (rb"version https://git-lfs", "a Git LFS pointer (fetch the file itself with `git lfs pull`)"),
    (rb"(?i:<!doctype html|<html)", "a web page (fetch the raw file)"),
    (rb'\{(?=.*"cache_sha256")', "the side-car of a cache (give the cache itself, without .json)"),
    (rb'\{(?=.*"scale")', "an NVDLA calibration table in JSON"),
    (rb"[{\[]", "JSON"),
    (rb"(?:\S*[^:\s](?: " + _DECIMAL + rb")+ ?\r?\n)+\Z", "an ncnn calibration table"),
)


def lookalike(data: bytes) -> str | None:
    """What a file's bytes are that is no calibration cache, in words, and what to do with it; None where unknown."""
    sample = data if len(data) < 1 << 16 else data[: data.rfind(b"\n", 0, 1 << 16) + 1] or data[: 1 << 16]
    return next((what for start, what in _LOOKALIKES if re.match(rb"\s*(?:" + start + rb")", sample, re.DOTALL)), None)
