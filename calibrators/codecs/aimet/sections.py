"""AIMET's 0.6.1 (and 0.4, 0.5) and 1.0.0: activations and parameters apart, offsets of the unsigned type, no axis."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from calibrators.codecs.aimet.entries import (
    NotAGridError,
    Reading,
    bits_of_type,
    encoding,
    grid_of,
    is_usable,
    scales_of,
    wholes_of,
)
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.reading import is_number, kind_of, shown, whole_of
from calibrators.encoding import Encoding
from calibrators.errors import CacheError


def read(activations: Any, parameters: Any, *, layout: str, source: str, extra: dict[str, Any]) -> Encodings:
    """The two sections of a file, objects in 0.6.1 and lists in 1.0.0.

    Raises:
        CacheError: An entry is malformed, or a name has several.
    """
    reading = Reading(source)
    for section, kept in ((activations, reading.activations), (parameters, reading.weights)):
        for name, entry in _named(section, source):
            where = f"{source}, {reading.require_new(name)!r}"
            try:
                value = _of_1_0_0(entry, where) if layout == "1.0.0" else _of_0_6_1(entry, where)
            except NotAGridError as error:
                reading.left_out.setdefault(str(error), []).append(name)
                continue
            if value.axis is not None:
                reading.axis_unknown.add(name)
            if kept is reading.activations and not is_usable(value):
                reading.unusable[name] = float(value.scale)
            else:
                kept[name] = value
    return reading.result(extra)


def entry_1_0_0(name: str, value: Encoding) -> dict[str, object]:
    """One entry of 1.0.0; blocks of a matrix are written with the channels first, as AIMET has them."""
    scale, offset = value.scale.astype(np.float64), _offsets(value).astype(np.float64)
    if value.block_size is not None and scale.ndim == 2 and value.axis in (0, -2):
        scale, offset = scale.T, offset.T
    kind = "PER_TENSOR" if value.axis is None else "PER_CHANNEL" if value.block_size is None else "PER_BLOCK"
    blocks = {} if value.block_size is None else {"block_size": value.block_size}
    return {
        "name": name,
        "dtype": "INT",
        "bw": value.grid.bits,
        "is_sym": value.grid.signed,
        "scale": scale.reshape(-1).tolist(),
        "offset": offset.reshape(-1).tolist(),
        "enc_type": kind,
        **blocks,
    }


def entry_0_6_1(value: Encoding) -> list[dict[str, object]]:
    """One tensor of 0.6.1: an object for each channel."""
    levels = (1 << value.grid.bits) - 1
    return [
        {
            "bitwidth": value.grid.bits,
            "dtype": "int",
            "is_symmetric": str(value.grid.signed),
            "max": float((offset + levels) * scale),
            "min": float(offset * scale),
            "offset": int(offset),
            "scale": float(scale),
        }
        for scale, offset in zip(value.scale.astype(np.float64).reshape(-1), _offsets(value).reshape(-1), strict=True)
    ]


def _named(section: Any, source: str) -> Iterator[tuple[Any, Any]]:
    if isinstance(section, dict):
        yield from section.items()
        return
    for entry in section:
        if not isinstance(entry, dict) or "name" not in entry:
            raise CacheError(f"{source}: an entry of AIMET's 1.0.0 is an object with a name, not {kind_of(entry)}")
        yield entry["name"], entry


def _of_1_0_0(entry: Mapping[str, Any], where: str) -> Encoding:
    _require(entry, ("bw", "dtype", "enc_type"), where)
    kind = entry["enc_type"]
    if kind not in ("PER_TENSOR", "PER_CHANNEL", "PER_BLOCK", "LPBQ", "VECTOR"):
        raise CacheError(f"{where}: enc_type {shown(kind)} is none of AIMET's")
    if entry["dtype"] not in ("INT", "FLOAT"):
        raise CacheError(f"{where}: dtype {shown(entry['dtype'])} is neither INT nor FLOAT")
    if entry["dtype"] == "FLOAT":
        raise NotAGridError(f"float{whole_of(entry['bw'], where)}")
    if kind not in ("PER_TENSOR", "PER_CHANNEL"):
        raise NotAGridError("blocks, whose shape the file does not tell" if kind == "PER_BLOCK" else kind)
    _require(entry, ("is_sym", "scale", "offset"), where)
    if not isinstance(entry["is_sym"], bool):
        raise CacheError(f"{where}: is_sym is true or false, not {shown(entry['is_sym'])}")
    if any(shift != 0 for shift in np.ravel(np.array(entry.get("zero_point_shift", 0.0), object))):
        raise NotAGridError("zero points between levels")
    single = kind == "PER_TENSOR"
    return _made(entry["scale"], entry["offset"], entry["bw"], signed=entry["is_sym"], single=single, where=where)


def _of_0_6_1(entry: object, where: str) -> Encoding:
    channels: list[Any] = entry if isinstance(entry, list) else [entry]
    if not channels or not all(isinstance(channel, dict) for channel in channels):
        raise CacheError(f"{where}: an entry of AIMET's 0.6.1 is a list of an object for each channel")
    if channels[0].get("dtype", "int") == "float":
        raise NotAGridError(f"float{whole_of(channels[0].get('bitwidth', 16), where)}")
    for channel in channels:
        _require(channel, ("bitwidth", "offset", "scale", "is_symmetric"), where)
        if channel.get("dtype", "int") != "int" or channel["bitwidth"] != channels[0]["bitwidth"]:
            raise CacheError(f"{where}: its channels are of different types; export it again")
        if str(channel["is_symmetric"]) not in ("True", "False"):
            raise CacheError(f"{where}: is_symmetric is 'True' or 'False', not {shown(channel['is_symmetric'])}")
    signed = str(channels[0]["is_symmetric"]) == "True"
    scales = [channel["scale"] for channel in channels]
    offsets = [_signed_offset(channel, where) for channel in channels]
    bits, single = bits_of_type(channels[0]["bitwidth"], f"{where}, bitwidth"), len(channels) == 1
    if all(_is_narrow(channel, offset, bits) for channel, offset in zip(channels, offsets, strict=True)):
        offsets = [-(1 << (bits - 1))] * len(channels)
        return _made(scales, offsets, bits, signed=True, narrow=True, single=single, where=where)
    return _made(scales, offsets, bits, signed=signed, single=single, where=where)


def _is_narrow(channel: Mapping[str, Any], offset: object, bits: int) -> bool:
    """Whether `min` and `max` are -127 and 127 scales: AIMET's strict symmetry, whose offset is -127."""
    scale = channel["scale"]
    ends: list[Any] = [channel.get("min"), channel.get("max")]
    if not is_number(scale) or scale <= 0 or offset != 1 - (1 << (bits - 1)) or not all(map(is_number, ends)):
        return False
    return bool(round((ends[1] - ends[0]) / scale) == (1 << bits) - 2)


def _signed_offset(channel: Mapping[str, Any], where: str) -> object:
    """The offset, 0 or less: files of AIMET's TensorFlow days have it positive, which `min` tells."""
    offset, scale, lowest = channel["offset"], channel["scale"], channel.get("min")
    if not (is_number(offset) and is_number(scale) and is_number(lowest)) or scale <= 0:
        return offset
    if offset > 0 and abs(lowest / scale + offset) <= 1:
        return -offset
    if abs(lowest / scale - offset) > 2:
        raise CacheError(f"{where}: min {lowest:g} is not offset {offset} times scale {scale:g}; export it again")
    return offset


def _made(
    scale: object, offset: object, width: object, *, signed: bool, narrow: bool = False, single: bool, where: str
) -> Encoding:
    bits = bits_of_type(width, f"{where}, bit width")
    if not isinstance(scale, list) or not isinstance(offset, list) or not scale or len(scale) != len(offset):
        raise CacheError(f"{where}: scale and offset are lists of the same length, one number for each channel")
    if single and len(scale) != 1:
        raise CacheError(f"{where}: a tensor quantized as a whole has one scale, not {len(scale)}")
    scales = scales_of(scale, f"{where}, scale")
    zero_points = -wholes_of(offset, f"{where}, offset") - (1 << (bits - 1) if signed else 0)
    grid = grid_of(bits, zero_points, signed=signed, narrow=narrow)
    if single:
        scales, zero_points = scales.reshape(()), zero_points.reshape(())
    return encoding(scales, zero_points, grid, where, axis=None if single else 0)


def _offsets(value: Encoding) -> Any:
    return -(value.zero_point.astype(np.int64) + (1 << (value.grid.bits - 1) if value.grid.signed else 0))


def _require(entry: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    missing = ", ".join(key for key in keys if key not in entry)
    if missing:
        raise CacheError(f"{where}: it lacks {missing}; does the file's version match what is in it?")
