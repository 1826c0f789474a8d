"""The section "ranges": each tensor's values, and what each method makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibrators.ranges import METHODS, range_of
from calibrators.statistics.file import Statistics
from calibrators.statistics.tensor import TensorStatistics

BINS = 64
"""Of a histogram, at most."""

LEVELS = 127
"""Of INT8 on one side of 0."""


def ranges_section(
    statistics: Statistics,
    *,
    chosen: str,
    methods: Sequence[str] = tuple(METHODS),
    harm: Mapping[str, float] | None = None,
    floats: Mapping[str, str] | None = None,
    given: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Each tensor's histogram with every method's threshold, what it clips, and how many levels are used.

    Args:
        statistics: Of a model.
        chosen: The method whose ranges are taken.
        methods: Those to show.
        harm: By tensor, the SQNR in dB of the outputs where the layer that reads it is alone in INT8; what is lowest
            comes first, then the tensors that nothing is known of, by what the chosen method clips.
        floats: By tensor, why it stays in float.
        given: By a name of their own, thresholds by tensor, beside those of the methods; a tensor without one is left
            out.

    Returns:
        As `report.json` has it: bins are equal over [low, high], `clipped` is the share of the values beyond a
        threshold, `levels` the number of INT8's 255 levels that values lie on.
    """
    own = given or {}
    names = [name for name in statistics if statistics[name].amax > 0 and all(name in amax for amax in own.values())]
    tensors = [_tensor(name, statistics[name], methods, own, harm or {}, floats or {}) for name in names]
    tensors.sort(
        key=lambda each: (each["harm"] is None, each["harm"] or 0.0, -each["clipped"].get(chosen, 0.0), each["name"])
    )
    return {"methods": [*own, *methods], "chosen": chosen, "tensors": tensors}


def _tensor(
    name: str,
    each: TensorStatistics,
    methods: Sequence[str],
    given: Mapping[str, Mapping[str, float]],
    harm: Mapping[str, float],
    floats: Mapping[str, str],
) -> dict[str, Any]:
    thresholds = {called: amax[name] for called, amax in given.items()}
    thresholds |= {method: float(range_of(each, method).amax) for method in methods}
    low = -each.amax if each.negative.total else 0.0
    sides = BINS // 2 if low < 0 else BINS
    counts = each.positive.over(each.amax, sides)
    if low < 0:
        counts = np.concatenate([each.negative.over(each.amax, sides)[::-1], counts])
    return {
        "name": name,
        "low": low,
        "high": each.amax,
        "counts": [round(count) for count in counts.tolist()],
        "zeros": each.zeros,
        "total": each.total,
        "thresholds": thresholds,
        "clipped": {method: _clipped(each, amax) for method, amax in thresholds.items()},
        "levels": {method: _levels(each, amax) for method, amax in thresholds.items()},
        "harm": harm.get(name),
        "float": floats.get(name),
    }


def _clipped(each: TensorStatistics, amax: float) -> float:
    """The share of all values beyond a threshold."""
    within = sum(float(side.over(amax, 1)[0]) for side in (each.positive, each.negative))
    beyond = each.positive.total + each.negative.total - within
    return max(0.0, beyond) / each.total if each.total else 0.0


def _levels(each: TensorStatistics, amax: float) -> int:
    """How many of the 255 levels values lie on, what is clipped included."""
    if amax <= 0:
        return 1
    step = amax / LEVELS
    used = 1
    for side in (each.positive, each.negative):
        # Level k holds what lies within half a step of k steps: [k - 1/2, k + 1/2).
        held = side.over((LEVELS + 0.5) * step, 2 * LEVELS + 1)[1:].reshape(LEVELS, 2).sum(axis=1) >= 0.5
        held[-1] |= side.maximum >= (LEVELS - 0.5) * step
        used += int(held.sum())
    return used
