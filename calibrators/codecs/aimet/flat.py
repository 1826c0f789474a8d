"""AIMET's 2.0.0 (and what is plain of 2.1.0): one list of encodings, in ONNX's own words."""

import re
from collections.abc import Mapping
from typing import Any, cast

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
from calibrators.codecs.reading import kind_of, shown, whole_or_none
from calibrators.encoding import Encoding
from calibrators.errors import CacheError


def read(entries: list[Any], source: str, *, extra: dict[str, Any]) -> Encodings:
    """The list of a file: entries with an axis are weights, others activations.

    Raises:
        CacheError: An entry is malformed, or a name has several.
    """
    reading = Reading(source)
    for entry in entries:
        if not isinstance(entry, dict) or "name" not in entry:
            raise CacheError(f"{source}: an entry of AIMET's 2.0.0 is an object with a name, not {kind_of(entry)}")
        name = reading.require_new(entry["name"])
        try:
            value = _encoding(entry, f"{source}, {name!r}")
        except NotAGridError as error:
            reading.left_out.setdefault(str(error), []).append(name)
            continue
        if not is_usable(value):
            reading.unusable[name] = float(value.scale)
        else:
            (reading.activations if value.axis is None else reading.weights)[name] = value
    return reading.result(extra)


def entry_2_0_0(name: str, value: Encoding) -> dict[str, object]:
    """One entry; zero points are left out where all are 0."""
    entry: dict[str, object] = {
        "name": name,
        "output_dtype": f"{'' if value.grid.signed else 'u'}int{value.grid.bits}",
        "y_scale": value.scale.astype(np.float64).tolist(),
    }
    if value.zero_point.any():
        entry["y_zero_point"] = value.zero_point.tolist()
    if value.axis is not None:
        entry["axis"] = value.axis
    if value.block_size is not None:
        entry["block_size"] = value.block_size
    return entry


def _encoding(entry: Mapping[str, Any], where: str) -> Encoding:
    if "bw" in entry:
        raise CacheError(f"{where}: bw belongs to AIMET's 1.0.0, the file is of 2.x: export it again")
    if "output_dtype" not in entry:
        raise CacheError(f"{where}: it lacks output_dtype; does the file's version match what is in it?")
    kind = entry["output_dtype"]
    match = re.fullmatch("(u?)int([0-9]{1,2})", kind) if isinstance(kind, str) else None
    if match is None:
        if isinstance(kind, str) and re.fullmatch("b?float[0-9a-z_]*", kind):
            raise NotAGridError(kind)
        raise CacheError(f"{where}: output_dtype {shown(kind)} is no type, such as int8")
    scale_of_scales = entry.get("y_scale")
    if "per_block_int_scale" in entry or (isinstance(scale_of_scales, dict) and "x_scale" in scale_of_scales):
        raise NotAGridError("LPBQ")
    if "y_scale" not in entry:
        raise CacheError(f"{where}: it lacks y_scale")
    signed, bits = not match[1], bits_of_type(int(match[2]), f"{where}, output_dtype")
    scale = _array(entry["y_scale"], f"{where}, y_scale")
    stated = entry.get("y_zero_point")
    zero_point = None if stated is None else _array(stated, f"{where}, y_zero_point")
    if zero_point is not None and zero_point.shape != scale.shape:
        raise CacheError(f"{where}: y_zero_point is not of y_scale's shape")
    axis, size = (whole_or_none(entry, key, where) for key in ("axis", "block_size"))
    if size is not None and axis is None:
        raise CacheError(f"{where}: blocks have an axis along which they run")
    scales = scales_of(list(scale.reshape(-1)), f"{where}, y_scale").reshape(scale.shape)
    zero_points = np.zeros(scale.shape, np.int64)
    if zero_point is not None:
        zero_points = wholes_of(list(zero_point.reshape(-1)), f"{where}, y_zero_point").reshape(scale.shape)
    if axis is None and scale.shape == (1,):
        scales, zero_points = scales.reshape(()), zero_points.reshape(())
    grid = grid_of(bits, zero_points, signed=signed)
    return encoding(scales, zero_points, grid, where, axis=axis, block_size=size)


def _array(value: object, where: str) -> np.ndarray[Any, Any]:
    """A number, or nested lists of equal lengths, as they stand."""
    try:
        shape = np.shape(cast(Any, value))
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{where}: its lists are of unequal lengths, or too deep") from error
    if isinstance(value, dict) or 0 in shape:
        raise CacheError(f"{where}: {kind_of(value)} where a number is, or lists of them that are not empty")
    array = np.empty(shape, object)
    array[...] = value
    return array
