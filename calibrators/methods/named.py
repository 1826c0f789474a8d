"""The methods that each look at a tensor in one way, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from calibrators.grid import Grid
from calibrators.methods.aciq import aciq_range
from calibrators.methods.emd import emd_moments_range, emd_range
from calibrators.methods.entropy import entropy_range
from calibrators.methods.lsq_scale import lsq_scale_range
from calibrators.methods.mean import mean_range
from calibrators.methods.minmax import minmax_range
from calibrators.methods.mse import mse_range
from calibrators.methods.percentile import percentile_range
from calibrators.methods.sqnr import sqnr_range
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

FindRange = Callable[[TensorStatistics, Grid], Range]


def once(name: str, find: FindRange) -> FindRange:
    """The same, which searches a tensor's statistics once for a grid: `best` looks at what all others found."""

    def found(statistics: TensorStatistics, grid: Grid) -> Range:
        known = statistics.found.get((name, grid))
        if known is None:
            known = statistics.found[name, grid] = find(statistics, grid)
        return known

    return found


_SEARCHES: Mapping[str, FindRange] = MappingProxyType(
    {
        "minmax": minmax_range,
        "mean": mean_range,
        "percentile": percentile_range,
        "entropy": entropy_range,
        "mse": mse_range,
        "emd": emd_range,
        "emd-moments": emd_moments_range,
        "aciq": aciq_range,
        "lsq-scale": lsq_scale_range,
        "sqnr": sqnr_range,
    }
)

SINGLE: Mapping[str, FindRange] = MappingProxyType({name: once(name, find) for name, find in _SEARCHES.items()})
"""All but the one that chooses among them."""
