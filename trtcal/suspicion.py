"""Which tensors of a quantized model look wrong, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8
from calibrators.methods.percentile import percentile_range
from calibrators.statistics import TensorStatistics
from calibrators.statistics_file import Statistics

if TYPE_CHECKING:
    from trtcal.layer_errors import LayerError
    from trtcal.weight_errors import WeightError

USUAL = 99.9
"""The percentile of the magnitudes above 0 that counts as the end of the usual values."""

OUTLIERS = 8.0
"""How far the largest magnitude may lie over the usual ones: a range that holds it leaves them 5 bits of 8."""

WIDE = 4.0
"""How far a range may reach over the usual values: 2 bits of 8 then tell only one value in a thousand apart."""

SATURATED = 0.01
"""The share of values that may be clipped: methods that clip outliers leave out a thousandth or so."""

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

Reason = Literal[
    "outliers",
    "wide range",
    "saturation",
    "few levels",
    "dead channels",
    "lost channels",
    "channel spread",
    "weight channel spread",
    "dead weights",
    "noisy weight",
    "error jump",
    "not finite",
]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A tensor that looks wrong.

    Attributes:
        tensor: Its name: an activation's or a weight's.
        reason: What is wrong with it.
        why: The same with its figures.
        layers: The layers that it concerns: those that read it, or that give it.
    """

    tensor: str
    reason: Reason
    why: str
    layers: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"tensor": self.tensor, "reason": self.reason, "why": self.why, "layers": list(self.layers)}


def suspicions(errors: Sequence["LayerError"], statistics: Statistics | None = None) -> tuple[Suspicion, ...]:
    """What looks wrong in a model's layers, in their order; of a tensor that several layers read, once.

    Args:
        errors: Of the layers, in topological order.
        statistics: Of the calibration; None tells nothing of outliers.
    """
    found: dict[tuple[str, str, str], Suspicion] = {}
    for error in errors:
        known = None if statistics is None else statistics.get(error.layer.activation)
        for tensor, reason, why in (*_of_input(error, known), *_of_weight(error), *_of_output(error)):
            earlier = found.get((tensor, reason, why))
            layers = (*earlier.layers, error.layer.name) if earlier is not None else (error.layer.name,)
            found[tensor, reason, why] = Suspicion(tensor, reason, why, layers)
    return tuple(found.values())


Finding = tuple[str, Reason, str]


def _of_input(error: "LayerError", known: TensorStatistics | None) -> Iterator[Finding]:
    tensor, use, channels = error.layer.activation, error.use, error.channels
    if error.arrives.nonfinite:
        yield tensor, "not finite", f"{error.arrives.nonfinite} of its values are NaN or infinite in one of the models"
    if known is not None and known.amax > 0:
        yield from ((tensor, reason, why) for reason, why in _of_range(known, use.encoding))
    own = error.rounded
    if use.saturation > SATURATED or (own.sqnr < POOR and use.clipped > own.noise / 2):
        yield (
            tensor,
            "saturation",
            f"{_percent(use.saturation)} of its values are beyond its range and clipped, which makes "
            f"{_percent(use.clipped / own.noise)} of its own error; it is {own.sqnr:.1f} dB over that",
        )
    if 0 < use.effective < FEW_LEVELS and own.sqnr < GOOD:
        levels = int((use.counts > 0).sum())
        yield (
            tensor,
            "few levels",
            f"its values make use of {use.effective:.1f} levels of {use.counts.size} ({levels} occur)",
        )
    count = len(channels.amax)
    if channels.dead:
        yield tensor, "dead channels", f"{_listed(channels.dead, count)} always zero: dead in the float model too"
    if channels.lost:
        yield tensor, "lost channels", f"{_listed(channels.lost, count)} zero in INT8, and not in the float model"
    if channels.spread > SPREAD:
        yield (
            tensor,
            "channel spread",
            f"channel {int(channels.amax.argmax())} reaches {channels.amax.max():.4g}, "
            f"{channels.spread:.3g} times the median channel: one scale for all leaves that one {channels.sqnr:.1f} dB",
        )


def _of_range(known: TensorStatistics, encoding: Encoding) -> Iterator[tuple[Reason, str]]:
    usual = percentile_range(replace(known, zeros=0), TENSORRT_INT8, USUAL).amax
    grid = encoding.grid
    reach = float(encoding.scale) * max(
        grid.maximum - int(encoding.zero_point), int(encoding.zero_point) - grid.minimum
    )
    if known.amax > OUTLIERS * usual:
        clipped = f"the range ends at {reach:.4g}" if reach < known.amax else "and the range holds it"
        yield (
            "outliers",
            f"its largest magnitude, {known.amax:.4g}, is {known.amax / usual:.3g} times its {USUAL:g}th percentile, "
            f"{usual:.4g}; {clipped}",
        )
    if reach > WIDE * usual:
        yield (
            "wide range",
            f"its range, {reach:.4g}, is {reach / usual:.3g} times its {USUAL:g}th percentile, {usual:.4g}: "
            "a range method that clips more would tell the others apart",
        )


def _of_weight(error: "LayerError") -> Iterator[Finding]:
    weight, name = error.weight, error.layer.weight
    if weight is None or name is None:
        return
    if weight.spread > SPREAD:
        yield name, "weight channel spread", _spread(weight)
    if weight.dead:
        yield name, "dead weights", f"{_listed(weight.dead, len(weight.amax))} all zero"
    worst, sqnr = weight.worst
    if sqnr < POOR:
        yield (
            name,
            "noisy weight",
            f"output channel {worst} is {sqnr:.1f} dB over its rounding error, the whole {weight.fidelity.sqnr:.1f} dB",
        )


def _spread(weight: "WeightError") -> str:
    largest = int(weight.amax.argmax())
    effect = (
        "a scale for each holds it, one for all would not"
        if weight.apart
        else "they share one scale: give each its own"
    )
    return (
        f"output channel {largest} reaches {weight.amax[largest]:.4g}, {weight.spread:.3g} times the median channel; "
        f"{effect}"
    )


def _of_output(error: "LayerError") -> Iterator[Finding]:
    tensor = error.layer.output
    if error.gives.nonfinite:
        yield tensor, "not finite", f"{error.gives.nonfinite} of its values are NaN or infinite in one of the models"
    if error.weight is not None and error.gives.sqnr < min(GOOD, error.reads.sqnr - JUMP):
        yield (
            tensor,
            "error jump",
            f"it is at {error.gives.sqnr:.1f} dB, and what {error.layer.name} reads at {error.reads.sqnr:.1f} dB",
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _listed(channels: Sequence[int], count: int) -> str:
    """Such as "3 of 16 channels (0, 4, 7) are"; of many, the first ones."""
    few = ", ".join(map(str, channels[:8])) + (", ..." if len(channels) > 8 else "")
    return f"{len(channels)} of {count} channels ({few}) {'is' if len(channels) == 1 else 'are'}"
