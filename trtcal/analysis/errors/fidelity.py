"""How near a tensor's values are to the float model's, and how they use their grid: measures that add up."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.compiled import summing_kernel
from calibrators.encoding import Encoding

Values = npt.NDArray[np.floating[Any]]
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Second moments of a reference's values r and of the values x beside them; those of disjoint values add up.

    Attributes:
        signal: Σ r².
        power: Σ x².
        product: Σ r x.
        noise: Σ (r - x)².
        nonfinite: How many pairs hold NaN or infinity; they are in none of the sums.
        unlike: How many arrays are of another size than the reference's; they are in none of the sums.
        arrays: How many arrays there are in all.
    """

    signal: float = 0.0
    power: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    nonfinite: int = 0
    unlike: int = 0
    arrays: int = 0

    @classmethod
    def of(cls, reference: Values, values: Values) -> "Fidelity":
        """Those of two arrays; the sums are in float64."""
        if np.shape(reference) != np.shape(values):
            return cls(unlike=1, arrays=1)
        signal, power, product, noise, lost = _moments(*map(_row, (reference, values)))
        return cls(signal, power, product, noise, lost, arrays=1)

    def __add__(self, other: "Fidelity") -> "Fidelity":
        return Fidelity(
            self.signal + other.signal,
            self.power + other.power,
            self.product + other.product,
            self.noise + other.noise,
            self.nonfinite + other.nonfinite,
            self.unlike + other.unlike,
            self.arrays + other.arrays,
        )

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise ratio, 10 log10(signal / noise), in dB: inf where nothing differs.

        NaN where nothing can be compared.
        """
        if self.unlike and self.unlike == self.arrays:
            return math.nan
        return decibels(self.signal, self.noise)

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.noise == 0 and not self.nonfinite and not self.unlike

    @property
    def cosine(self) -> float:
        """Of the angle between both, Σ r x / sqrt(Σ r² Σ x²): 1 where nothing differs, 0 where one of them is zero.

        NaN where nothing can be compared.
        """
        if self.unlike and self.unlike == self.arrays:
            return math.nan
        if self.noise == 0:
            return 1.0
        length = math.sqrt(self.signal) * math.sqrt(self.power)
        return 0.0 if length == 0 else max(-1.0, min(1.0, self.product / length))


def _row(values: Values) -> Values:
    """All values in a row, of a type that kernels take."""
    array: Values = np.asarray(values)
    return np.ravel(array if array.dtype == np.float32 else array.astype(np.float64))


@summing_kernel
def _moments(reference: Values, values: Values) -> tuple[float, float, float, float, int]:
    """Σ r², Σ x², Σ r x, Σ (r - x)² in float64, and how many pairs hold NaN or infinity, which are left out."""
    signal = power = product = noise = 0.0
    lost = 0
    for place in range(reference.size):
        r, x = np.float64(reference[place]), np.float64(values[place])
        if np.isfinite(r) and np.isfinite(x):
            signal += r * r
            power += x * x
            product += r * x
            noise += (r - x) * (r - x)
        else:
            lost += 1
    return signal, power, product, noise, lost


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise): inf where there is no noise, -inf where there is only noise."""
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else 10 * math.log10(signal / noise)


@dataclass(frozen=True, eq=False, slots=True)
class GridUse:
    """How a tensor's values lie on the levels of an encoding; the uses of one encoding by disjoint values add up.

    Attributes:
        encoding: Of the whole tensor.
        counts: int64 of shape (levels,): how many values lie on each level, the lowest first.
        saturated: How many of them would lie beyond the last level on their side: they are clipped.
        clipped: Σ (x - x̂)² over these.
    """

    encoding: Encoding
    counts: npt.NDArray[np.int64]
    saturated: int = 0
    clipped: float = 0.0

    @classmethod
    def nothing(cls, encoding: Encoding) -> "GridUse":
        """The use by no value."""
        return cls(encoding, np.zeros(encoding.grid.maximum - encoding.grid.minimum + 1, np.int64))

    def __add__(self, other: "GridUse") -> "GridUse":
        counts, saturated = self.counts + other.counts, self.saturated + other.saturated
        return GridUse(self.encoding, counts, saturated, self.clipped + other.clipped)

    @property
    def total(self) -> int:
        """The number of values."""
        return int(self.counts.sum())

    @property
    def saturation(self) -> float:
        """The share of values that are clipped."""
        return self.saturated / self.total if self.total else 0.0

    @property
    def reach(self) -> float:
        """The largest level used, over the largest there is, both counted from the zero point."""
        levels = np.abs(self._levels)
        used = levels[self.counts > 0]
        return float(used.max() / levels.max()) if used.size else 0.0

    @property
    def occupied(self) -> float:
        """The share of levels on which a value lies."""
        return float(np.count_nonzero(self.counts) / self.counts.size)

    @property
    def effective(self) -> float:
        """How many levels the values that are not 0 make use of: 2 to the entropy of their levels, in bits.

        As many levels, used equally often, would tell as much apart. Zeros do not count: most values behind a ReLU are.
        """
        counts = self.counts[(self.counts > 0) & (self._levels != 0)].astype(np.float64)
        if not counts.size:
            return 0.0
        shares = counts / counts.sum()
        return float(2 ** -np.sum(shares * np.log2(shares)))

    @property
    def _levels(self) -> npt.NDArray[np.int64]:
        """Counted from the zero point."""
        grid = self.encoding.grid
        return np.arange(grid.minimum, grid.maximum + 1) - int(self.encoding.zero_point)


@dataclass(frozen=True, eq=False, slots=True)
class Channels:
    """A quantized tensor by channels; those of disjoint samples add up.

    Attributes:
        amax: The largest magnitude of each channel in the float model.
        level: That of its levels, counted from the zero point: 0 for a channel that quantization makes zero.
        signal: Σ x² of each, over the values x that are quantized.
        noise: Σ (x - x̂)² of each, x̂ being x after quantization.
    """

    amax: Sums
    level: npt.NDArray[np.int64]
    signal: Sums
    noise: Sums

    def __add__(self, other: "Channels") -> "Channels":
        return Channels(
            np.maximum(self.amax, other.amax),
            np.maximum(self.level, other.level),
            self.signal + other.signal,
            self.noise + other.noise,
        )

    @property
    def dead(self) -> tuple[int, ...]:
        """Channels that are always zero."""
        return tuple(np.flatnonzero(self.amax == 0).tolist())

    @property
    def lost(self) -> tuple[int, ...]:
        """Channels that are not, but are after quantization."""
        return tuple(np.flatnonzero((self.amax > 0) & (self.level == 0)).tolist())

    @property
    def spread(self) -> float:
        """The largest channel's magnitude over the median's, of those that are not always zero; 1 where none is not."""
        return spread(self.amax)

    @property
    def sqnr(self) -> float:
        """The median over channels that are not always zero of each one's SQNR, in dB; inf where there are none."""
        each = [decibels(s, n) for s, n in zip(self.signal.tolist(), self.noise.tolist(), strict=True) if s > 0]
        return float(np.median(each)) if each else math.inf


def spread(amax: npt.NDArray[np.floating[Any]]) -> float:
    """The largest of some magnitudes over the median of those above 0; 1 where there are none."""
    some = amax[amax > 0]
    return float(some.max() / np.median(some)) if some.size else 1.0


def quantized(
    values: Values, reference: Values, encoding: Encoding, axis: int | None
) -> tuple[Values, GridUse, Channels]:
    """Values after quantization and back, how they use the grid, and both by channel.

    Args:
        values: Of any shape; NaN counts as 0.
        reference: The float model's, of the same shape.
        encoding: Of the whole tensor.
        axis: The channels'; a tensor without that axis is one channel.
    """
    grid, zero_point = encoding.grid, int(encoding.zero_point)
    low, high = grid.minimum - zero_point, grid.maximum - zero_point
    x = np.where(np.isnan(values), np.float32(0), np.asarray(values, np.float32))
    with np.errstate(over="ignore"):
        free = np.rint(x / encoding.scale)
    levels = np.clip(free, low, high)
    back = levels * encoding.scale
    finite = np.isfinite(x)
    signal, noise = (np.where(finite, each, 0.0).astype(np.float64) for each in (x, np.where(finite, x, 0.0) - back))
    noise *= noise
    beyond = free != levels
    counts = np.bincount((levels.reshape(-1) - low).astype(np.int64), minlength=high - low + 1).astype(np.int64)
    use = GridUse(encoding, counts, int(np.count_nonzero(beyond)), float(noise[beyond].sum()))
    channels = Channels(
        _by_channel(np.abs(np.where(np.isfinite(reference), reference, 0.0)), axis).max(axis=1, initial=0.0),
        _by_channel(np.abs(levels), axis).max(axis=1, initial=0.0).astype(np.int64),
        _by_channel(signal * signal, axis).sum(axis=1),
        _by_channel(noise, axis).sum(axis=1),
    )
    return back, use, channels


def _by_channel(values: Values, axis: int | None) -> Values:
    """Of shape (channels, values)."""
    if axis is None or not -values.ndim <= axis < values.ndim:
        return values.reshape(1, -1)
    moved = np.moveaxis(values, axis, 0)
    return moved.reshape(len(moved), -1)
