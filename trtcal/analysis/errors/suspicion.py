"""Which tensors of a quantized model look wrong, and why."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8
from calibrators.methods.percentile import percentile_range
from calibrators.statistics.file import Statistics
from calibrators.statistics.tensor import TensorStatistics
from trtcal.analysis.errors.advice import Reason, advice
from trtcal.analysis.errors.layer_error import LayerError

USUAL = 99.9
"""The percentile of the magnitudes above 0 that counts as the end of the usual values."""

OUTLIERS = 8.0
"""How far the largest magnitude may lie over the usual ones: a range that holds it leaves them 5 bits of 8."""

WIDE = 4.0
"""How far a range may reach over the usual values: 2 bits of 8 then tell only one value in a thousand apart."""

SATURATED = 0.01
"""The share of values that may be clipped: methods that clip outliers leave out a thousandth or so. Fewer do harm where
clipping is what makes a tensor poor."""

POOR = 20.0
"""dB over its rounding error that a tensor must have: below, the error is more than a tenth of the tensor."""

GOOD = 30.0
"""dB from which on there is nothing to look for: the error is a thirtieth of the tensor, as usual for 8 bits."""

FEW_LEVELS = 8.0
"""Levels that a tensor must make use of: fewer are what 3 bits and a sign could hold."""

SPREAD = 16.0
"""How far the largest channel may lie over the median one: with one scale, half of them then have 4 bits less."""

JUMP = 10.0
"""dB by which a layer's output may be worse than what it reads: the noise is ten times as much then, by the signal."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A tensor that looks wrong.

    Attributes:
        tensor: Its name: an activation's or a weight's.
        reason: What is wrong with it.
        why: The same with its figures.
        layers: The layers that it concerns: those that read it, or that give it.
        harms: Whether it costs accuracy as the model is quantized now; else it is worth knowing.
        sqnr: How bad it is: what is left of it, in dB over its own error; less is worse, infinity costs nothing.
    """

    tensor: str
    reason: Reason
    why: str
    layers: tuple[str, ...] = ()
    harms: bool = True
    sqnr: float = math.inf

    @property
    def advice(self) -> str:
        """What to try about it."""
        return advice(self.reason, harms=self.harms)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tensor": self.tensor,
            "reason": self.reason,
            "why": self.why,
            "layers": list(self.layers),
            "harms": self.harms,
            "sqnr_db": self.sqnr,
            "advice": self.advice,
        }


def suspicions(errors: Sequence[LayerError], statistics: Statistics | None = None) -> tuple[Suspicion, ...]:
    """What looks wrong in a model's layers, the worst first, what harms before the rest; of what several read, once.

    Args:
        errors: Of the layers, in topological order.
        statistics: Of the calibration; None tells nothing of outliers.
    """
    found: dict[tuple[str, Reason, str], Suspicion] = {}
    for error in errors:
        known = None if statistics is None else statistics.get(error.layer.activation)
        for each in (*_of_input(error, known), *_of_weight(error), *_of_output(error)):
            earlier = found.get((each.tensor, each.reason, each.why))
            layers = (error.layer.name,) if earlier is None else (*earlier.layers, error.layer.name)
            worst = each.sqnr if earlier is None else min(each.sqnr, earlier.sqnr)
            found[each.tensor, each.reason, each.why] = replace(each, layers=layers, sqnr=worst)
    return tuple(sorted(found.values(), key=lambda each: (not each.harms, each.sqnr)))  # else in the layers' order


def _of_input(error: LayerError, known: TensorStatistics | None) -> Iterator[Suspicion]:
    named = partial(Suspicion, error.layer.activation, sqnr=error.rounded.sqnr)
    use, channels, own, count = error.use, error.channels, error.rounded, len(error.channels.amax)
    if error.arrives.nonfinite:
        why = f"{error.arrives.nonfinite} of its values are NaN or infinite in one of the models"
        yield named("not finite", why, sqnr=-math.inf)
    if known is not None and known.amax > 0:
        yield from _of_range(named, known, use.encoding)
    part = use.clipped / own.noise if own.noise else 0.0
    if part > 0.5 and own.sqnr < (GOOD if use.saturation > SATURATED else POOR):
        yield named(
            "saturation",
            f"{_percent(use.saturation)} of its values are beyond its range and clipped, which makes {_percent(part)} "
            f"of its own error; it is {own.sqnr:.1f} dB over that",
        )
    if 0 < use.effective < FEW_LEVELS and own.sqnr < GOOD:
        levels = f"{use.effective:.1f} levels of {use.counts.size}"
        yield named("few levels", f"its values make use of {levels} ({np.count_nonzero(use.counts)} occur)")
    if channels.lost:
        yield named("lost channels", f"{_listed(channels.lost, count)} zero in INT8, and not in the float model")
    if channels.spread > SPREAD:
        yield named(
            "channel spread",
            f"channel {int(channels.amax.argmax())} reaches {channels.amax.max():.4g}, {channels.spread:.3g} times the "
            f"median channel: one scale for all leaves that one {channels.sqnr:.1f} dB",
            harms=channels.sqnr < POOR,
            sqnr=channels.sqnr,
        )
    if channels.dead:
        why = f"{_listed(channels.dead, count)} zero on every image, in the float model too"
        yield named("dead channels", why, harms=False, sqnr=math.inf)


def usual_magnitude(known: TensorStatistics) -> float:
    """Where a tensor's usual values end: the `USUAL`th percentile of the magnitudes above 0; 0 where there are none."""
    return percentile_range(replace(known, zeros=0), TENSORRT_INT8, USUAL).amax


def _of_range(named: Callable[..., Suspicion], known: TensorStatistics, encoding: Encoding) -> Iterator[Suspicion]:
    usual = usual_magnitude(known)
    grid, zero_point = encoding.grid, int(encoding.zero_point)
    reach = float(encoding.scale) * max(grid.maximum - zero_point, zero_point - grid.minimum)
    wide = reach > WIDE * usual
    if known.amax > OUTLIERS * usual:
        yield named(
            "outliers",
            f"its largest magnitude, {known.amax:.4g}, is {known.amax / usual:.3g} times its {USUAL:g}th percentile, "
            f"{usual:.4g}; the range ends at {reach:.4g}",
            harms=wide,
        )
    if wide:
        yield named(
            "wide range",
            f"its range, {reach:.4g}, is {reach / usual:.3g} times its {USUAL:g}th percentile, {usual:.4g}: a range "
            "method that clips more would tell the others apart",
        )


def _of_weight(error: LayerError) -> Iterator[Suspicion]:
    weight = error.weight
    if weight is None or error.layer.weight is None:
        return
    named = partial(Suspicion, error.layer.weight, sqnr=weight.fidelity.sqnr)
    worst, sqnr = weight.worst
    if sqnr < POOR:
        whole = f"the whole {weight.fidelity.sqnr:.1f} dB"
        why = f"output channel {worst} is {sqnr:.1f} dB over its rounding error, {whole}"
        yield named("noisy weight", why, sqnr=sqnr)
    count = error.layer.shape[error.layer.summed]
    dead = error.channels.dead if len(error.channels.amax) == count else ()  # what they are multiplied by is 0 anyway
    if lost := [each for each in weight.lost if each not in dead]:
        why = f"{_listed(lost, count, 'input channels')} given weights of zero in INT8, and others before"
        yield named("lost weights", why)
    if weight.spread > SPREAD:
        largest = int(weight.amax.argmax())
        effect = "each has its own scale, as they need" if weight.apart else "they share one scale: give each its own"
        yield named(
            "weight channel spread",
            f"output channel {largest} reaches {weight.amax[largest]:.4g}, {weight.spread:.3g} times the median "
            f"channel; {effect}",
            harms=not weight.apart,
        )
    if weight.dead:
        why = f"{_listed(weight.dead, len(weight.amax))} all zero"
        yield named("dead weights", why, harms=False, sqnr=math.inf)


def _of_output(error: LayerError) -> Iterator[Suspicion]:
    named = partial(Suspicion, error.layer.output, sqnr=error.gives.sqnr)
    if error.gives.nonfinite:
        why = f"{error.gives.nonfinite} of its values are NaN or infinite in one of the models"
        yield named("not finite", why, sqnr=-math.inf)
    if error.weight is not None and error.gives.sqnr < min(GOOD, error.reads.sqnr - JUMP):
        read = f"what {error.layer.name} reads at {error.reads.sqnr:.1f} dB"
        yield named("error jump", f"it is at {error.gives.sqnr:.1f} dB, and {read}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _listed(channels: Sequence[int], count: int, what: str = "channels") -> str:
    """Such as "3 of 16 channels (0, 4, 7) are"; of many, the first ones."""
    few = ", ".join(map(str, channels[:8])) + (", ..." if len(channels) > 8 else "")
    return f"{len(channels)} of {count} {what} ({few}) {'is' if len(channels) == 1 else 'are'}"
