"""The error of a layer's quantized weight."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.encoding import Encoding
from engines.simulation.simulated_model import Layer
from trtcal.analysis.errors.fidelity import Fidelity, decibels, spread

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class WeightError:
    """What quantization does to a weight.

    Attributes:
        fidelity: Of the dequantized weight to the float one.
        amax: The largest magnitude of each output channel.
        sqnr: Of each output channel, in dB; inf for one of zeros.
        lost: Input channels whose weights are not all zero, but are after quantization.
        apart: Whether output channels have scales of their own.
        bits: Of its levels.
    """

    fidelity: Fidelity
    amax: npt.NDArray[np.float64]
    sqnr: npt.NDArray[np.float64]
    lost: tuple[int, ...]
    apart: bool
    bits: int

    @property
    def spread(self) -> float:
        """The largest output channel's magnitude over the median's, of those that are not all zero."""
        return spread(self.amax)

    @property
    def dead(self) -> tuple[int, ...]:
        """Output channels whose weights are all zero."""
        return tuple(np.flatnonzero(self.amax == 0).tolist())

    @property
    def worst(self) -> tuple[int, float]:
        """The output channel of the lowest SQNR, and that, in dB."""
        place = int(np.argmin(self.sqnr))
        return place, float(self.sqnr[place])

    def to_dict(self) -> dict[str, Any]:
        """For JSON; infinity is as it is."""
        worst, sqnr = self.worst
        return {
            "bits": self.bits,
            "per_channel": self.apart,
            "sqnr_db": self.fidelity.sqnr,
            "channels": len(self.amax),
            "channel_spread": self.spread,
            "dead_channels": list(self.dead),
            "lost_input_channels": list(self.lost),
            "worst_channel": {"channel": worst, "sqnr_db": sqnr},
        }


def weight_error(layer: Layer, weight: Floats, encoding: Encoding) -> WeightError:
    """Measure the error of a layer's weight.

    Args:
        layer: One with a weight.
        weight: The float weight.
        encoding: Its encoding.
    """
    back = encoding.fake_quantize(weight)
    assert layer.axis is not None
    before, after = (np.moveaxis(each, layer.axis, 0).reshape(each.shape[layer.axis], -1) for each in (weight, back))
    others = tuple(each for each in range(weight.ndim) if each != layer.summed)
    lost = weight.any(axis=others) & ~back.any(axis=others)
    rows = _by_row(before, after)
    return WeightError(
        sum(rows, Fidelity()),
        np.abs(before).max(axis=1, initial=0.0).astype(np.float64),
        np.array([decibels(row.signal, row.noise) if row.noise else math.inf for row in rows]),
        tuple(np.flatnonzero(lost).tolist()),
        encoding.axis is not None,
        encoding.grid.bits,
    )


def _by_row(before: Floats, after: Floats) -> list[Fidelity]:
    """Of each row of two matrices; of all at once where nothing is left out of the sums."""
    r, x = (each.astype(np.float64) for each in (before, after))
    if not (np.isfinite(r).all() and np.isfinite(x).all()):
        return [Fidelity.of(one, other) for one, other in zip(before, after, strict=True)]
    difference = r - x
    sums = [np.einsum("ij,ij->i", a, b).tolist() for a, b in ((r, r), (x, x), (r, x), (difference, difference))]
    return [
        Fidelity(signal, power, product, noise, arrays=1) for signal, power, product, noise in zip(*sums, strict=True)
    ]
