"""From statistics to ranges, and from a model's ranges to its encodings and to its calibration cache."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from calibrators.cache.sidecar import Sidecar, installed_versions
from calibrators.cache.text import NEWEST_VERSION, CalibrationCache
from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.best import best_range
from calibrators.methods.named import SINGLE
from calibrators.methods.names import DEFAULT, canonical, elsewhere
from calibrators.methods.percentile import percentile_range
from calibrators.range import Range
from calibrators.statistics.division import divided
from calibrators.statistics.file import ScaleGroup, Statistics
from calibrators.statistics.tensor import TensorStatistics


@dataclass(frozen=True, slots=True)
class Method:
    """A range method.

    Attributes:
        find: From a tensor's statistics, of one sample or more, and a grid to the range to represent; 0 to 0 for a
            tensor of zeros, as far below 0 as above it on a symmetric grid.
        algorithm: What TensorRT calls its nearest calibrator, for the header of a cache. TensorRT reads either header
            and has no names for the methods it does not know: those count as MinMaxCalibration, which promises
            nothing of how values are clipped.
    """

    find: Callable[[TensorStatistics, Grid], Range]
    algorithm: str = "MinMaxCalibration"


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "entropy": Method(SINGLE["entropy"], "EntropyCalibration2"),
        **{name: Method(find) for name, find in SINGLE.items() if name != "entropy"},
        "best": Method(best_range),
    }
)
"""By name; which names there are, `calibrators.methods.names` says."""

SEARCHERS = 2
"""Threads that search the ranges of a model's tensors: compiled loops run side by side, and what is between them, which
does not, is too much for more."""


def method_named(name: str) -> Method:
    """The method of that name: of `METHODS`, what other tools call it, or a percentile, as "percentile:99.9".

    Raises:
        RangeError: There is none, or the percentage is none to calibrate with.
    """
    known = canonical(name)
    family, _, percentage = known.partition(":")
    if family == "percentile" and percentage:
        return _percentile(name, percentage)
    if known not in METHODS:
        told = elsewhere(name) or f"choose among {', '.join(METHODS)} and percentile:99.9"
        raise RangeError(f"there is no range method {name!r}: {told}")
    return METHODS[known]


def _percentile(name: str, percentage: str) -> Method:
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{0,20})?", percentage) is None:  # `float` takes much more
        raise RangeError(f"there is no range method {name!r}: give a percentage, such as percentile:99.9")
    find = partial(percentile_range, percent=float(percentage))
    find(TensorStatistics.empty(), TENSORRT_INT8)  # refuses a percentage that is out of bounds
    return Method(find)


def range_of(statistics: TensorStatistics, method: str = DEFAULT, grid: Grid = TENSORRT_INT8) -> Range:
    """The range of a tensor that a method chooses for a grid; as far below 0 as above it where the grid is symmetric.

    Args:
        statistics: Of the tensor.
        method: A name that `method_named` knows.
        grid: The levels.

    Raises:
        RangeError: The method is unknown, or there are no samples.
    """
    if statistics.samples == 0:
        raise RangeError("the statistics hold no sample: calibrate on at least one")
    return method_named(method).find(statistics, grid)


def calibrate(statistics: Statistics, method: str = DEFAULT, *, version: int = NEWEST_VERSION) -> CalibrationCache:
    """The calibration cache of a model: one scale per tensor, shared where TensorRT shares it.

    A tensor of zeros gets scale 0, as TensorRT writes it. Tensors of a group (both sides of a pooling layer or a
    reshape, all of a concatenation) take the largest range of the group's sources. The cache's side-car says where it
    comes from, and has the scales that Q/DQ nodes want otherwise: theirs are groups of comparable ranges.

    Args:
        statistics: From `collect`.
        method: A name that `method_named` knows.
        version: The TensorRT version in the header, as TensorRT writes it: 8601, 101401.

    Raises:
        RangeError: The method is unknown, or there are no statistics.
    """
    chosen = method_named(method)
    if not statistics:
        raise RangeError("there are no statistics to calibrate from: collect some first")
    deciding = _deciding(statistics, statistics.groups)
    needed = {*_looked_at(statistics, statistics), *(name for sources in deciding.values() for name in sources)}
    ranges = _ranges(statistics, sorted(needed), method, TENSORRT_INT8)
    explicit_deciding = _deciding(statistics, _divided(statistics.explicit_groups, ranges))
    scales, explicit = (
        {name: _scale(max(ranges[source].amax for source in sources)) for name, sources in chosen_by.items()}
        for chosen_by in (deciding, explicit_deciding)
    )
    sidecar = Sidecar.of(
        statistics.provenance,
        method=canonical(method),
        versions=installed_versions("trtcal", "onnxruntime", "numpy"),
        explicit={name: scale for name, scale in explicit.items() if scale != scales[name]},
    )
    return CalibrationCache(scales, algorithm=chosen.algorithm, version=version, sidecar=sidecar)


def encodings(
    statistics: Statistics,
    method: str = DEFAULT,
    grid: Grid = TENSORRT_INT8,
    *,
    names: Collection[str] | None = None,
) -> dict[str, Encoding]:
    """The encodings of a model's tensors on any grid, by name; those of Q/DQ nodes.

    Tensors that share a scale between Q/DQ nodes take the range that holds those of their group's sources. A tensor of
    zeros is left out: it has no scale and stays in float.

    Args:
        statistics: From `collect`.
        method: A name that `method_named` knows.
        grid: The levels.
        names: Of the tensors; None for all that the statistics hold.

    Raises:
        RangeError: The method is unknown, or a range has no scale that float32 can hold.
    """
    wanted = [name for name in statistics if names is None or name in names]
    ranges = _ranges(statistics, sorted(_looked_at(statistics, wanted)), method, grid)
    deciding = _deciding(statistics, _divided(statistics.explicit_groups, ranges), wanted)
    held = {name: _holding(ranges[source] for source in sources) for name, sources in deciding.items()}
    return {name: Encoding.of_range(found, grid) for name, found in held.items() if found.amax > 0}


def _ranges(statistics: Statistics, names: Sequence[str], method: str, grid: Grid) -> dict[str, Range]:
    """The ranges of some tensors; what several names share, as both sides of a reshape do, is looked at once."""
    different = list({id(statistics[name]): statistics[name] for name in names}.values())

    def search(first: int) -> list[tuple[int, Range]]:
        return [(id(tensor), range_of(tensor, method, grid)) for tensor in different[first::SEARCHERS]]

    with ThreadPoolExecutor(SEARCHERS) as searchers:
        found = dict(pair for part in searchers.map(search, range(SEARCHERS)) for pair in part)
    return {name: found[id(statistics[name])] for name in names}


def _holding(ranges: Iterable[Range]) -> Range:
    """The smallest range that holds all of these."""
    each = list(ranges)
    return Range(min(one.minimum for one in each), max(one.maximum for one in each))


def _looked_at(statistics: Statistics, names: Iterable[str]) -> set[str]:
    """Tensors whose ranges may decide those of some between Q/DQ nodes: in their groups, all but concatenations."""
    parts = {
        member: part
        for group, part in ((each, _parts(statistics, each)) for each in statistics.explicit_groups)
        for member in group.members
    }
    return set[str]().union(*(parts.get(name) or [name] for name in names))


def _parts(statistics: Statistics, group: ScaleGroup) -> list[str]:
    """Those of a group that the statistics hold, without concatenations of which they hold all operands."""
    joined = {name for name, each in group.origins if len(each) > 1 and all(one in statistics for one in each)}
    chosen = group.members if group.origins else group.sources
    return [name for name in chosen if name in statistics and (name in group.sources or name not in joined)]


def _divided(groups: Iterable[ScaleGroup], ranges: Mapping[str, Range]) -> list[ScaleGroup]:
    amax = {name: found.amax for name, found in ranges.items()}
    return [part for group in groups for part in divided(group, amax)]


def _deciding(
    statistics: Statistics, groups: Iterable[ScaleGroup], names: Iterable[str] | None = None
) -> dict[str, list[str]]:
    """By tensor, those whose ranges decide its own: the sources of its group that the statistics hold, else itself."""
    sources = {member: group.sources for group in groups for member in group.members}
    wanted = statistics if names is None else names
    return {name: [each for each in sources.get(name, ()) if each in statistics] or [name] for name in wanted}


def _scale(amax: float) -> float:
    """The step in float32, the type that a cache holds."""
    return float(np.float32(TENSORRT_INT8.symmetric_scale(amax)))
