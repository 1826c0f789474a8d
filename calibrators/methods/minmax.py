"""The whole range: nothing is clipped."""

from calibrators.statistics import TensorStatistics


def minmax_amax(statistics: TensorStatistics) -> float:
    """The largest magnitude seen, as TensorRT's MinMaxCalibration has it."""
    return statistics.amax
