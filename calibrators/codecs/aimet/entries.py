"""One tensor of an AIMET file: numbers checked, an `Encoding` made of them, and the numbers of one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from calibrators.cache.text import usable
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.losses import Losses
from calibrators.codecs.reading import scale_of, shown, whole_of
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, RangeError, listed
from calibrators.grid import Grid


class NotAGridError(Exception):
    """An entry that no integer grid describes; its message says what it is."""


@dataclass
class Reading:
    """What has been read of a file so far.

    Args:
        source: Names the file in messages.
    """

    source: str
    activations: dict[str, Encoding] = field(default_factory=dict)
    weights: dict[str, Encoding] = field(default_factory=dict)
    unusable: dict[str, float] = field(default_factory=dict)
    axis_unknown: set[str] = field(default_factory=set)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def require_new(self, name: object) -> str:
        """The name, which is a text that no earlier entry has.

        Raises:
            CacheError: It is not.
        """
        if not isinstance(name, str) or not name:
            raise CacheError(f"{self.source}: the name of an encoding is a text, not {shown(name)}")
        if name in self.names:
            raise CacheError(f"{self.source}: {shown(name)} has more than one encoding; keep one of them")
        self.names.add(name)
        return name

    def result(self, extra: dict[str, object]) -> Encodings:
        """All of it.

        Raises:
            CacheError: There is nothing.
        """
        if not (self.activations or self.weights or self.unusable or self.left_out):
            raise CacheError(f"{self.source} has no encodings: compute them before they are exported")
        notes = (f"left out: {listed(names)} ({why})" for why, names in self.left_out.items())
        return Encodings(
            self.activations,
            self.weights,
            self.unusable,
            frozenset(self.axis_unknown),
            extra=extra,
            notes=tuple(notes),
        )


def grid_of(bits: int, zero_points: npt.NDArray[np.int64], *, signed: bool, narrow: bool = False) -> Grid:
    """The grid of a type; symmetric where every zero point is in its middle."""
    middle = 0 if signed else 1 << (bits - 1)
    return Grid(bits, signed, bool((zero_points == middle).all()), narrow)


def encoding(
    scales: npt.NDArray[np.float64], zero_points: npt.NDArray[np.int64], grid: Grid, where: str, **shape: int | None
) -> Encoding:
    """An encoding of numbers that were read.

    Raises:
        CacheError: They do not go together; `where` names their place.
    """
    try:
        return Encoding(scales.astype(np.float32), zero_points.astype(np.int32), grid, **shape)
    except RangeError as error:
        raise CacheError(f"{where}: {error}") from error


def scales_of(values: Sequence[object], where: str) -> npt.NDArray[np.float64]:
    """Scales, each checked."""
    return np.array([scale_of(value, where) for value in values], np.float64)


def wholes_of(values: Sequence[object], where: str) -> npt.NDArray[np.int64]:
    """Whole numbers, each checked, of a size that int32 holds."""
    wholes = [whole_of(value, where) for value in values]
    if any(abs(whole) >= 2**31 for whole in wholes):
        raise CacheError(f"{where}: {max(wholes, key=abs)} is beyond every integer type")
    return np.array(wholes, np.int64)


def bits_of_type(value: object, where: str) -> int:
    """A width of 2 to 16 bits.

    Raises:
        CacheError: It is no width.
        NotAGridError: It is a wider one, or 1.
    """
    bits = whole_of(value, where)
    if not 1 <= bits <= 32:
        raise CacheError(f"{where}: {bits} is no width of an integer type")
    if not 2 <= bits <= 16:
        raise NotAGridError(f"{bits}-bit integers")
    return bits


def is_usable(value: Encoding) -> bool:
    """Whether a kernel can use a whole tensor's scale; one that is subnormal in float32 it cannot."""
    return value.axis is not None or usable(float(value.scale))


def say_what_is_lost(encodings: Encodings, losses: Losses) -> None:
    """What no AIMET file has a place for."""
    every = {**encodings.activations, **encodings.weights}
    narrow = [name for name, value in every.items() if value.grid.narrow]
    losses.changed(narrow, "narrow grid", "becomes one with its lowest level, which no scale needs")
    powers = [name for name, value in every.items() if value.grid.power_of_two]
    losses.changed(powers, "grid of powers of two", "becomes one of any scale")
    middle = [name for name, value in every.items() if not value.grid.symmetric and _is_middle(value)]
    losses.changed(middle, "asymmetric grid", "becomes symmetric, as its zero point is")
    losses.left_out(encodings.unusable, "scale", "for being 0, subnormal, negative or not finite")
    losses.origin(encodings.cache)
    losses.extra(encodings.extra, own="aimet")


def _is_middle(value: Encoding) -> bool:
    middle = 0 if value.grid.signed else 1 << (value.grid.bits - 1)
    return bool((value.zero_point == middle).all())
