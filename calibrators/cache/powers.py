"""Calibration caches whose scales are powers of two."""

import math
from dataclasses import replace

from calibrators.cache.text import CalibrationCache
from calibrators.grid import TENSORRT_INT8

_POWERS = replace(TENSORRT_INT8, power_of_two=True)


def with_powers_of_two(cache: CalibrationCache) -> CalibrationCache:
    """The cache with each scale raised to the next power of two, so that every range holds what it held.

    Scales of no use (0, NaN, infinity) stay what they are; those of the side-car are raised, too.
    """
    raised = {name: _raised(scale) for name, scale in cache.items() if 0 < scale < math.inf}
    made = cache.with_scales(raised)
    if cache.sidecar is not None:
        explicit = {name: _raised(scale) for name, scale in cache.sidecar.explicit.items()}
        differing = {name: scale for name, scale in explicit.items() if scale != made.get(name)}
        made.sidecar = replace(cache.sidecar, explicit=differing)
    return made


def _raised(scale: float) -> float:
    return _POWERS.allowed(scale)
