"""From statistics to ranges, and from a model's ranges to its calibration cache."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from calibrators.cache import NEWEST_VERSION, CalibrationCache
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.entropy import entropy_range
from calibrators.methods.minmax import minmax_range
from calibrators.range import Range
from calibrators.sidecar import Sidecar, installed_versions
from calibrators.statistics import TensorStatistics
from calibrators.statistics_file import ScaleGroup, Statistics


@dataclass(frozen=True, slots=True)
class Method:
    """A range method.

    Attributes:
        find: From a tensor's statistics, of one sample or more, and a grid to the range to represent; 0 to 0 for a
            tensor of zeros, as far below 0 as above it on a symmetric grid.
        algorithm: What TensorRT calls its nearest calibrator, for the header of a cache.
    """

    find: Callable[[TensorStatistics, Grid], Range]
    algorithm: str


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "entropy": Method(entropy_range, "EntropyCalibration2"),
        "minmax": Method(minmax_range, "MinMaxCalibration"),
    }
)


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        RangeError: There is none.
    """
    if name not in METHODS:
        raise RangeError(f"there is no range method {name!r}: choose among {', '.join(METHODS)}")
    return METHODS[name]


def range_of(statistics: TensorStatistics, method: str = "entropy", grid: Grid = TENSORRT_INT8) -> Range:
    """The range of a tensor that a method chooses for a grid; as far below 0 as above it where the grid is symmetric.

    Raises:
        RangeError: The method is unknown, or there are no samples.
    """
    if statistics.samples == 0:
        raise RangeError("the statistics hold no sample: calibrate on at least one")
    return method_named(method).find(statistics, grid)


def calibrate(statistics: Statistics, method: str = "entropy", *, version: int = NEWEST_VERSION) -> CalibrationCache:
    """The calibration cache of a model: one scale per tensor, shared where TensorRT shares it.

    A tensor of zeros gets scale 0, as TensorRT writes it. Tensors of a group (both sides of a pooling layer or a
    reshape, all of a concatenation) take the largest range of the group's sources. The cache's side-car says where it
    comes from.

    Args:
        statistics: From `collect`.
        method: A name of `METHODS`.
        version: The TensorRT version in the header, as TensorRT writes it: 8601, 101401.

    Raises:
        RangeError: The method is unknown, or there are no statistics.
    """
    chosen = method_named(method)
    if not statistics:
        raise RangeError("there are no statistics to calibrate from: collect some first")
    deciding, explicit_deciding = (
        _deciding(statistics, groups) for groups in (statistics.groups, statistics.explicit_groups)
    )
    needed = sorted(set().union(*deciding.values(), *explicit_deciding.values()))
    amax = {name: range_of(statistics[name], method).amax for name in needed}
    scales, explicit = (
        {name: _scale(max(amax[source] for source in sources)) for name, sources in chosen_by.items()}
        for chosen_by in (deciding, explicit_deciding)
    )
    sidecar = Sidecar.of(
        statistics.provenance,
        method=method,
        versions=installed_versions("trtcal", "onnxruntime", "numpy"),
        explicit={name: scale for name, scale in explicit.items() if scale != scales[name]},
    )
    return CalibrationCache(scales, algorithm=chosen.algorithm, version=version, sidecar=sidecar)


def _deciding(statistics: Statistics, groups: Iterable[ScaleGroup]) -> dict[str, list[str]]:
    """By tensor, those whose ranges decide its own: the sources of its group that the statistics hold, else itself."""
    sources = {member: group.sources for group in groups for member in group.members}
    return {name: [each for each in sources.get(name, ()) if each in statistics] or [name] for name in statistics}


def _scale(amax: float) -> float:
    """The step in float32, the type that a cache holds."""
    return float(np.float32(TENSORRT_INT8.symmetric_scale(amax)))
