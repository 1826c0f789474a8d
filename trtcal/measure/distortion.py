"""How far outputs are from a reference's: energies of signal and noise, of the whole and by channel; they add up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Part

MOST_CHANNELS = 512
"""Along an axis that may be one of channels; there are more anchors or pixels."""

FEWEST_VALUES = 64
"""Of a channel, before its magnitude tells anything."""

APART = 10.0
"""Between the magnitudes of neighbours, in order of magnitude, that are different things."""


@dataclass(frozen=True, slots=True)
class Distortion:
    """Energy of a reference and of the difference from it; those of disjoint values add up.

    Attributes:
        signal: Σ r² over the reference's values r.
        noise: Σ (r - x)² over the values x beside them.
    """

    signal: float = 0.0
    noise: float = 0.0

    def __add__(self, other: "Distortion") -> "Distortion":
        return Distortion(self.signal + other.signal, self.noise + other.noise)

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise ratio, 10 log10(signal / noise), in dB: inf where nothing differs."""
        if self.noise == 0:
            return math.inf
        ratio = self.signal / self.noise
        return -math.inf if ratio == 0 else 10 * math.log10(ratio)


@dataclass(frozen=True, slots=True)
class Unlike:
    """Samples in which an output has another size than the reference's: no value of it has one beside it.

    Those of disjoint samples add up.

    Attributes:
        samples: How many.
        signal: Σ r² over the reference's values r in them.
        power: Σ x² over the values x of the other model.
    """

    samples: int = 0
    signal: float = 0.0
    power: float = 0.0

    def __add__(self, other: "Unlike") -> "Unlike":
        return Unlike(self.samples + other.samples, self.signal + other.signal, self.power + other.power)

    @property
    def distortion(self) -> Distortion:
        """What values that have nothing to do with the reference's would give: noise of Σ r² + Σ x²."""
        return Distortion(self.signal, self.signal + self.power)


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of an output along one axis, which may be different things: boxes in pixels beside scores.

    Those of disjoint samples add up; there are none of outputs whose axis has several sizes.

    Attributes:
        axis: Which one.
        count: Values of each channel.
        signal: By channel, Σ r² over the reference's values r.
        noise: By channel, Σ (r - x)² over the values x beside them.
        bounded: By channel, whether all of the reference's values lie from 0 to 1, as probabilities do.
    """

    axis: int
    count: int
    signal: tuple[float, ...]
    noise: tuple[float, ...]
    bounded: tuple[bool, ...]

    def __add__(self, other: "Channels") -> "Channels":
        if len(self.signal) != len(other.signal):
            return Channels(self.axis, 0, (), (), ())
        signal = np.add(self.signal, other.signal).tolist()
        noise = np.add(self.noise, other.noise).tolist()
        bounded = np.logical_and(self.bounded, other.bounded).tolist()
        return Channels(self.axis, self.count + other.count, tuple(signal), tuple(noise), tuple(bounded))

    @property
    def groups(self) -> list[list[int]]:
        """Channels that are alike, in order of magnitude (root mean square of the reference).

        1. Sorted by magnitude, they are cut where a channel is `APART` times its predecessor or more. Channels of zeros
           go with the smallest.
        2. Groups whose values all lie from 0 to 1 are one: probabilities of rare and of frequent classes are alike.
        """
        order = [int(place) for place in np.argsort(self.signal, kind="stable")]
        if self.count < FEWEST_VALUES:
            return [order] if order else []
        groups: list[list[int]] = []
        for place in order:
            last = self.signal[groups[-1][-1]] if groups else 0.0
            if not groups or (last > 0 and self.signal[place] >= APART**2 * last):
                groups.append([])
            groups[-1].append(place)
        probable = [all(self.bounded[place] for place in group) for group in groups]
        probabilities = [place for group, alike in zip(groups, probable, strict=True) if alike for place in group]
        others = [group for group, alike in zip(groups, probable, strict=True) if not alike]
        return [probabilities, *others] if probabilities else others

    def distortion(self, group: Sequence[int]) -> Distortion:
        """Of some of them."""
        return Distortion(math.fsum(self.signal[each] for each in group), math.fsum(self.noise[each] for each in group))


def distortion(reference: Array, values: Array) -> Distortion:
    """Energy of `reference` and of its difference from `values`, in float64.

    Infinities that are the same in both neither differ nor count as signal; NaN makes the noise NaN.
    """
    return distortions(reference, values, by_channel=False)[0]


def distortions(reference: Array, values: Array, *, by_channel: bool = True) -> tuple[Distortion, tuple[Channels, ...]]:
    """The same, and of the channels along each axis that may be that of channels.

    Args:
        reference: Samples on the first axis.
        values: Of the same shape.
        by_channel: Whether channels are wanted.
    """
    expected, got = reference.astype(np.float64), values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        noise = np.square(np.where(expected == got, 0.0, expected - got))
    signal = np.square(np.where(np.isinf(expected), 0.0, expected))
    whole = Distortion(float(np.sum(signal)), float(np.sum(noise)))
    if not by_channel or not reference.size:
        return whole, ()
    axes = [axis for axis in range(1, reference.ndim) if 1 < reference.shape[axis] <= MOST_CHANNELS]
    bounded = np.logical_and(expected >= 0, expected <= 1)
    return whole, tuple(_channels(signal, noise, bounded, axis) for axis in axes)


def cut(found: Sequence[Channels]) -> dict[str, Distortion]:
    """The distortions of the groups of an output's channels, by what to call them; none where all are alike.

    Args:
        found: Its channels along each axis that may be theirs: the one that tells most groups apart counts, the first
            of equal ones.
    """
    groups = grouped(found)
    return {} if groups is None else {f"channels {in_runs(each)}": groups[0].distortion(each) for each in groups[1]}


def grouped(found: Sequence[Channels]) -> tuple[Channels, list[list[int]]] | None:
    """The channels of an output that are told apart, and their groups, as `cut` has them; None where all are alike."""
    groups = max(((each, each.groups) for each in found), key=lambda pair: len(pair[1]), default=None)
    return None if groups is None or len(groups[1]) < 2 else (groups[0], sorted(map(sorted, groups[1])))


def named(found: Sequence[Channels], parts: Sequence[Part]) -> dict[str, Distortion]:
    """The distortions of an output's channels that mean one thing, by what they mean; none where that is not known.

    Args:
        found: Its channels along each axis that may be theirs.
        parts: What they mean.
    """
    axes = {each.axis: each for each in found}
    if not all(part.axis in axes and part.last < len(axes[part.axis].signal) for part in parts):
        return {}
    return {part.name: axes[part.axis].distortion(range(part.first, part.last + 1)) for part in parts}


def in_runs(numbers: Sequence[int]) -> str:
    """Rising numbers, such as "1-4, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _channels(
    signal: npt.NDArray[np.float64], noise: npt.NDArray[np.float64], bounded: npt.NDArray[np.bool_], axis: int
) -> Channels:
    others = tuple(each for each in range(signal.ndim) if each != axis)
    return Channels(
        axis,
        signal.size // signal.shape[axis],
        tuple(np.sum(signal, axis=others).tolist()),
        tuple(np.sum(noise, axis=others).tolist()),
        tuple(np.all(bounded, axis=others).tolist()),
    )
