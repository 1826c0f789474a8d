"""What the readers of formats share: text and JSON read strictly, numbers checked, one line for what is wrong."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from calibrators.cache.text import usable
from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.errors import CacheError, repeated

LARGEST = float(np.finfo(np.float32).max)


def text_of(data: bytes, source: str) -> str:
    """A file's text, without a byte order mark.

    Raises:
        CacheError: It is empty, or not UTF-8.
    """
    if not data.strip():
        raise CacheError(f"{source} is empty: there are no scales in it")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CacheError(f"{source}, line {line}: not UTF-8 text; save it as UTF-8") from error


def object_of(data: bytes, source: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CacheError: It is not JSON, is no object, is nested too deeply, or has a key twice.
    """
    try:
        value = json.loads(text_of(data, source), object_pairs_hook=_once)
    except _TwiceError as error:
        raise CacheError(f"{source} has the key {shown(str(error))} twice in one object; keep one") from error
    except (ValueError, RecursionError) as error:
        if not isinstance(error, json.JSONDecodeError):
            what = "is nested too deeply" if isinstance(error, RecursionError) else "holds a number of too many digits"
            raise CacheError(f"{source} {what} for a file of scales: export it again") from error
        raise CacheError(f"{source} is not JSON ({error}): was it cut off?") from error
    if not isinstance(value, dict):
        raise CacheError(f"{source} holds no JSON object with scales, but {kind_of(value)}")
    return value


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def scale_of(value: object, where: str) -> float:
    """A scale that is positive, finite and in the range of float32, rounded to float32.

    Raises:
        CacheError: It is not; `where` names its place.
    """
    if not is_number(value) or not 0 < value <= LARGEST:
        raise CacheError(f"{where}: {shown(value)} is no scale, which is positive and finite in float32")
    return float(np.float32(value))


def whole_of(value: object, where: str) -> int:
    """A whole number; 128.0 is one.

    Raises:
        CacheError: It is none; `where` names its place.
    """
    if not is_number(value) or value != int(value):
        raise CacheError(f"{where}: {shown(value)} is no whole number")
    return int(value)


def whole_or_none(values: Mapping[str, object], key: str, where: str) -> int | None:
    """A whole number where there is one.

    Raises:
        CacheError: What is there is none.
    """
    return None if values.get(key) is None else whole_of(values[key], f"{where}, {key}")


def kind_of(value: object) -> str:
    """A JSON value's kind, in JSON's words."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def shown(value: object, limit: int = 80) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def of_ranges(
    ranges: Mapping[str, object], source: str, *, remedy: str = "repeat the calibration", **more: Any
) -> Encodings:
    """Symmetric INT8 encodings from the largest absolute value of each tensor: ``scale = amax / 127`` in float32.

    0, and what is subnormal in float32, is a scale of no use. `remedy` says what to do about a range that is none.

    Raises:
        CacheError: There is none; or one is negative, not finite, or too large for float32. The message names it.
    """
    if not ranges:
        raise CacheError(f"{source} lists no tensor: there are no ranges in it")
    scales = {}
    for name, value in ranges.items():
        if not is_number(value) or not 0 <= value <= LARGEST:
            what = "is negative" if is_number(value) and value < 0 else "is not a number that float32 holds"
            raise CacheError(f"{source}: the range {shown(value)} of {shown(name)} {what}; {remedy}")
        scales[name] = float(np.float32(value / 127))
    return Encodings(
        activations={name: of_scale(scale) for name, scale in scales.items() if usable(scale)},
        unusable={name: scale for name, scale in scales.items() if not usable(scale)},
        **more,
    )


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _TwiceError(repeated(name for name, _ in pairs))
    return values
