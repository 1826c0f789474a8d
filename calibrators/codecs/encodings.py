"""What the field's formats say of a model's tensors, as one value; TensorRT's calibration cache to and from it."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from calibrators.cache.text import ENTROPY, NEWEST_VERSION, CalibrationCache, usable
from calibrators.codecs.losses import Losses
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, listed, repeated
from calibrators.grid import TENSORRT_INT8, Grid


@dataclass(frozen=True, eq=False)
class Encodings:
    """How a model's tensors are quantized, and where that was read.

    Two are equal when they quantize alike: `cache`, `extra` and `notes`, which say where it comes from, do not count.

    Attributes:
        activations: By tensor name.
        weights: Weights and biases, by tensor name.
        unusable: Scales of activations that no `Encoding` can hold or no kernel can use: 0, subnormal, infinite,
            negative, NaN.
        axis_unknown: Names whose channel axis the format does not tell; their encodings have axis 0 until a model says
            which it is.
        cache: The calibration cache that activations and unusable scales were read from: its header, its spelling and
            its side-car.
        extra: What else a file said that only its own format has a place for, as JSON values by the format's name.
        notes: What of the file is not here, one line each.

    Raises:
        CacheError: A name is empty or half a letter, or is in more than one place; `extra` is no JSON.
    """

    activations: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Encoding] = field(default_factory=dict)
    unusable: Mapping[str, float] = field(default_factory=dict)
    axis_unknown: frozenset[str] = frozenset()
    cache: CalibrationCache | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [*self.activations, *self.weights, *self.unusable]
        if len(set(names)) < len(names):
            raise CacheError(
                f"{repeated(names)!r} has an encoding as an activation and as a weight: keep one of the two"
            )
        for name in names:
            if not name or any("\ud800" <= letter <= "\udfff" for letter in name):
                raise CacheError(f"{name!r} cannot name a tensor: it is empty, or holds half a letter")
        try:
            json.dumps(self.extra, ensure_ascii=False, allow_nan=False, default=dict).encode()
        except (ValueError, RecursionError) as error:
            raise CacheError(
                "what the file says besides encodings holds NaN, infinity or half a letter, or is nested too deeply "
                "for JSON: take it out"
            ) from error

    @classmethod
    def of_cache(cls, cache: CalibrationCache) -> "Encodings":
        """The scales of a calibration cache, and the cache."""
        scales = dict(cache)
        return cls(
            activations={name: of_scale(scale) for name, scale in scales.items() if usable(scale)},
            unusable={name: scale for name, scale in scales.items() if not usable(scale)},
            cache=cache,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Encodings) and self._compared == other._compared

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.activations) + len(self.weights) + len(self.unusable)

    @cached_property
    def _compared(self) -> tuple[object, ...]:
        unusable = {name: bits_of(scale) for name, scale in self.unusable.items()}  # NaN is not equal to itself
        return dict(self.activations), dict(self.weights), unusable, self.axis_unknown


def of_scale(scale: float) -> Encoding:
    """TensorRT's encoding of an activation: INT8, symmetric, one scale."""
    return Encoding(np.asarray(scale, np.float32), np.zeros((), np.int32), TENSORRT_INT8)


def to_cache(encodings: Encodings) -> tuple[CalibrationCache, tuple[str, ...]]:
    """A calibration cache of the activations, and what it cannot hold, one line each.

    Where they came from a cache and are unchanged, it is that cache, byte for byte. Else it has that cache's header, or
    a new one.

    Raises:
        CacheError: There is no activation, one has several scales, or a name cannot be written.
    """
    losses = Losses("a TensorRT calibration cache")
    scales = {name: amax / 127 for name, amax in dynamic_ranges(encodings, losses).items()}
    positive = {name: scale for name, scale in encodings.unusable.items() if math.copysign(1, scale) > 0}  # -0 is not
    kept = {name: scale for name, scale in positive.items() if math.isfinite(scale)}
    origin = encodings.cache
    losses.extra(encodings.extra)
    if origin is not None and _same(scales | dict(encodings.unusable), origin):
        return origin, losses.lines
    losses.left_out(set(encodings.unusable) - set(kept), "scale", "that is infinite, negative or not a number")
    if not scales and not kept:
        raise CacheError("there is no activation's scale to write into a cache: give encodings of activations")
    cache = CalibrationCache(
        scales | kept,
        algorithm=(origin.algorithm if origin is not None else None) or ENTROPY,
        version=(origin.version if origin is not None else None) or NEWEST_VERSION,
        sidecar=None if origin is None else origin.sidecar,
    )
    return cache, losses.lines


def dynamic_ranges(encodings: Encodings, losses: Losses) -> dict[str, float]:
    """The largest absolute value of each activation's range, which is all that TensorRT and its tools' formats have.

    For symmetric INT8 it is 127 scales, a float64 that is exact. For others it is the larger end of the range, and
    `losses` says so.

    Raises:
        CacheError: An activation has several scales.
    """
    several = [name for name, encoding in encodings.activations.items() if encoding.axis is not None]
    if several:
        raise CacheError(
            f"{listed(several)} {'have' if len(several) > 1 else 'has'} several scales, {losses.where} holds one per "
            "tensor: quantize activations per tensor"
        )
    kinds: dict[str, list[str]] = {}
    ranges = {}
    for name, encoding in encodings.activations.items():
        amax, kind = _amax(encoding)
        if kind:
            kinds.setdefault(kind, []).append(name)
        if kind != "no scale":
            ranges[name] = amax
    losses.changed(kinds.get("ends", ()), "asymmetric encoding", "becomes the symmetric range that holds both its ends")
    losses.changed(kinds.get("width", ()), "encoding of other than 8 bits", "becomes INT8 over the same range")
    losses.changed(kinds.get("grid", ()), "symmetric encoding", "becomes INT8 on -128..127 with the same scale")
    losses.left_out(kinds.get("no scale", ()), "scale", "which is subnormal or infinite in float32")
    losses.left_out(encodings.weights, "weight", "which lists activations only")
    return ranges


def _amax(encoding: Encoding) -> tuple[float, str]:
    """The larger end of a range, and what of the encoding it does not tell."""
    grid, zero_point = encoding.grid, int(encoding.zero_point)
    middle = Grid(grid.bits, grid.signed).zero_point
    levels = grid.maximum - zero_point
    if zero_point != middle:
        levels = max(levels, zero_point - grid.minimum)
    amax = levels * float(encoding.scale)
    with np.errstate(over="ignore"):
        scale = float(np.float32(amax / 127))
    if not usable(scale):
        return amax, "no scale"
    amax = 127 * scale  # what a reader makes of it again
    if zero_point != middle:
        return amax, "ends"
    if grid.bits != TENSORRT_INT8.bits:
        return amax, "width"
    return amax, "" if grid == TENSORRT_INT8 else "grid"


def bits_of(scale: float) -> int:
    """A scale's bits as float32; of a NaN all that Python keeps."""
    return int(struct.unpack("!I", struct.pack("!f", scale))[0])


def _same(scales: Mapping[str, float], cache: CalibrationCache) -> bool:
    if scales.keys() != cache.keys():
        return False
    return all(bits_of(scale) == bits_of(cache[name]) for name, scale in scales.items())
