"""trtcal's own format, ``*.encodings.json``: readable JSON that holds all that `Encodings` can, and loses nothing.

::

    {
      "format": "trtcal-encodings",
      "format_version": 1,
      "activations": {
        "image": {"scale": 0.007874015718698502, "grid": "int8 symmetric"},
        "mask": {"unusable": "0", "bits": "00000000"}
      },
      "weights": {
        "conv.weight": {"scale": [0.01, 0.02], "grid": "int8 symmetric narrow", "axis": 0},
        "head.weight": {"scale": [0.1], "zero_point": [3], "grid": "uint4", "axis": 0, "axis_known": false}
      },
      "cache": {"header": "TRT-8601-EntropyCalibration2"},
      "sidecar": {...},
      "extra": {...}
    }

`scale` is a number, or one for each channel along `axis`; with `block_size`, lists of the tensor's rank. Each is the
float32's exact value. `zero_point` has the scale's shape and is absent where the grid is symmetric. `grid` is the type,
then what holds of ``symmetric``, ``narrow``, ``power-of-two``. `unusable` tells a scale that no kernel can use: 0,
subnormal, infinite, not a number; `bits` are its float32's. `cache` is there where the scales came from TensorRT's
calibration cache: its header, and as `text` all of it where it is spelled otherwise than TensorRT does (CRLF, leading
zeros, ...). `sidecar` is the cache's, `extra` what other formats kept beside the scales.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache, usable
from calibrators.codecs.encodings import Encodings, bits_of
from calibrators.codecs.reading import kind_of, object_of, scale_of, shown, whole_of, whole_or_none
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, RangeError
from calibrators.grid import Grid

FORMAT = "trtcal-encodings"
VERSION = 1

_SECTIONS = {"activations": {"unusable", "bits"}, "weights": set[str]()}
_ENTRY = {"scale", "zero_point", "grid", "axis", "axis_known", "block_size"}
_GRID = re.compile("(?P<unsigned>u?)int(?P<bits>[0-9]{1,2})(?P<flags>(?: symmetric)?(?: narrow)?(?: power-of-two)?)")


def load(data: bytes, *, source: str) -> Encodings:
    """Read the format; `source` names the file in messages.

    Raises:
        CacheError: It is malformed, or of a later version; the message names the key.
    """
    values = object_of(data, source)
    if values.get("format") != FORMAT:
        raise CacheError(f"{source}: format is {FORMAT!r} in trtcal's encodings, not {shown(values.get('format'))}")
    if values.get("format_version") != VERSION:
        raise CacheError(
            f"{source}: format_version is {shown(values.get('format_version'))}, this trtcal reads {VERSION}: update "
            "trtcal"
        )
    _require_keys(values, {"format", "format_version", *_SECTIONS, "cache", "sidecar", "extra"}, source)
    sections = {name: _object(values, name, source) for name in _SECTIONS}
    unusable = {
        name: _unusable(entry, f"{source}, activations, {name!r}")
        for name, entry in sections["activations"].items()
        if isinstance(entry, dict) and "bits" in entry
    }
    found: dict[str, dict[str, Encoding]] = {
        section: {
            name: _encoding(entry, f"{source}, {section}, {name!r}")
            for name, entry in entries.items()
            if name not in unusable or section == "weights"
        }
        for section, entries in sections.items()
    }
    every = {**sections["activations"], **sections["weights"]}
    encodings = Encodings(
        activations=found["activations"],
        weights=found["weights"],
        unusable=unusable,
        axis_unknown=frozenset(name for name, entry in every.items() if entry.get("axis_known") is False),
        extra=_object(values, "extra", source),
    )
    return replace(encodings, cache=_cache(values, encodings, source))


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The format's bytes, a line for each tensor; nothing is lost."""
    activations: dict[str, Encoding | float] = {**encodings.activations, **encodings.unusable}
    cache = encodings.cache
    if cache is not None:  # in its order
        activations = {**{name: activations[name] for name in cache if name in activations}, **activations}
    unknown = encodings.axis_unknown
    sections: list[tuple[str, object]] = [("format", FORMAT), ("format_version", VERSION)]
    parts = [f"  {_text(key)}: {_text(value)}" for key, value in sections]
    for section, tensors in (("activations", activations), ("weights", encodings.weights)):
        lines = [f"    {_text(name)}: {_text(_entry(value, name in unknown))}" for name, value in tensors.items()]
        parts.append(f"  {_text(section)}: {{" + (f"\n{f',{chr(10)}'.join(lines)}\n  " if lines else "") + "}")
    if cache is not None:
        parts.append(f'  "cache": {_text(_about(cache, encodings))}')
        if cache.sidecar is not None:
            parts.append(f'  "sidecar": {_text(cache.sidecar.to_dict())}')
    if encodings.extra:
        parts.append(f'  "extra": {_text(encodings.extra)}')
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode(), ()


def recognises(values: object) -> bool:
    """Whether JSON values are of this format."""
    return isinstance(values, dict) and values.get("format") == FORMAT


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)


def _entry(value: Encoding | float, axis_unknown: bool) -> dict[str, object]:
    if not isinstance(value, Encoding):
        return {"unusable": f"{value:g}", "bits": f"{bits_of(value):08x}"}
    entry: dict[str, object] = {"scale": value.scale.astype(np.float64).tolist()}
    if not value.grid.symmetric:
        entry["zero_point"] = value.zero_point.tolist()
    entry["grid"] = grid_text(value.grid)
    if value.axis is not None:
        entry["axis"] = value.axis
    if axis_unknown:
        entry["axis_known"] = False
    if value.block_size is not None:
        entry["block_size"] = value.block_size
    return entry


def grid_text(grid: Grid) -> str:
    """A grid in words: "int8 symmetric", "uint4"."""
    flags = (("symmetric", grid.symmetric), ("narrow", grid.narrow), ("power-of-two", grid.power_of_two))
    return f"{'' if grid.signed else 'u'}int{grid.bits}" + "".join(f" {word}" for word, holds in flags if holds)


def _grid(text: object, where: str) -> Grid:
    match = _GRID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise CacheError(f"{where}, grid: {shown(text)} is none, such as 'int8 symmetric' or 'uint4'")
    words = match["flags"].split()
    try:
        return Grid(
            int(match["bits"]), not match["unsigned"], "symmetric" in words, "narrow" in words, "power-of-two" in words
        )
    except RangeError as error:
        raise CacheError(f"{where}, grid: {error}") from error


def _encoding(entry: object, where: str) -> Encoding:
    if not isinstance(entry, dict):
        raise CacheError(f"{where}: an encoding is an object, not {kind_of(entry)}")
    _require_keys(entry, _ENTRY, where)
    if entry.get("axis_known", True) not in (True, False):
        raise CacheError(f"{where}, axis_known: it is true or false")
    grid = _grid(entry.get("grid"), where)
    zero_point = grid.zero_point
    if "zero_point" in entry:
        zero_point = _array(entry["zero_point"], f"{where}, zero_point", whole_of, np.int64)
    elif not grid.symmetric:
        raise CacheError(f"{where}: an encoding on an asymmetric grid has a zero_point")
    scale = _array(entry.get("scale"), f"{where}, scale", scale_of, np.float32)
    axis, size = (whole_or_none(entry, key, where) for key in ("axis", "block_size"))
    try:
        return Encoding(scale, np.asarray(zero_point), grid, axis, size)
    except RangeError as error:
        raise CacheError(f"{where}: {error}") from error


def _array(value: object, where: str, read: Any, dtype: type) -> Any:
    def checked(part: object) -> object:
        return [checked(item) for item in part] if isinstance(part, list) else read(part, where)

    try:
        array: Any = np.array(checked(value), dtype)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{where}: its lists are of unequal lengths, or too deep") from error
    if not array.size:
        raise CacheError(f"{where}: an empty list")
    return array


def _unusable(entry: Mapping[str, object], where: str) -> float:
    _require_keys(entry, _SECTIONS["activations"], where)
    bits = entry["bits"]
    if not isinstance(bits, str) or re.fullmatch("[0-9a-f]{8}", bits) is None:
        raise CacheError(f"{where}, bits: {shown(bits)} is not a float32's bits in 8 hexadecimal digits")
    scale = float(struct.unpack("!f", bytes.fromhex(bits))[0])
    if usable(scale):
        raise CacheError(f"{where}: the scale {scale:g} is usable; write it as scale, with a grid")
    return scale


def _about(cache: CalibrationCache, encodings: Encodings) -> dict[str, str]:
    plain = "".join(f"{name}: {bits_of(cache[name]):x}\n" for name in cache)
    data = cache.dumps()
    about = {"header": cache.header}
    return about if data == f"{cache.header}\n{plain}".encode() else {**about, "text": data.decode()}


def _cache(values: Mapping[str, Any], encodings: Encodings, source: str) -> CalibrationCache | None:
    if "cache" not in values:
        if "sidecar" in values:
            raise CacheError(f"{source}: there is a sidecar and no cache that it is of")
        return None
    about = _object(values, "cache", source)
    _require_keys(about, {"header", "text"}, f"{source}, cache")
    if not all(isinstance(value, str) for value in about.values()) or "header" not in about:
        raise CacheError(f"{source}, cache: it has a header, and perhaps a text, each a text")
    scales = {name: encodings.activations.get(name) for name in _object(values, "activations", source)}
    lines = "".join(
        f"{name}: {bits_of(encodings.unusable[name] if encoding is None else float(encoding.scale)):x}\n"
        for name, encoding in scales.items()
        if encoding is None or encoding.axis is None
    )
    text = about.get("text", f"{about['header']}\n{lines}")
    cache = CalibrationCache.parse(text, source=f"{source}, cache")
    if "sidecar" in values:
        cache.sidecar = Sidecar.parse(json.dumps(values["sidecar"]), source=f"{source}, sidecar")
    return cache


def _object(values: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    value = values.get(key, {})
    if not isinstance(value, dict):
        raise CacheError(f"{source}: {key} is an object, not {kind_of(value)}")
    return value


def _require_keys(values: Mapping[str, object], known: set[str], where: str) -> None:
    strange = next((key for key in values if key not in known), None)
    if strange is not None:
        raise CacheError(
            f"{where}: {shown(strange)} is no key of trtcal's encodings, which are {', '.join(sorted(known))}"
        )
