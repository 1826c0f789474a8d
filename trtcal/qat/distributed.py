"""What processes that train together must agree on: the same numbers on every rank."""

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from calibrators.statistics.tensor import TensorStatistics


def ranks() -> int:
    """The number of processes that train together; 1 where `torch.distributed` is not in use."""
    return int(_group().get_world_size()) if _together() else 1


def mean_over_ranks(total: Tensor, count: int) -> Tensor:
    """A mean over the values of all ranks.

    Args:
        total: This rank's sum, of any shape.
        count: This rank's number of values in each.
    """
    if not _together():
        return total / count
    both = torch.cat([total.reshape(-1).double(), torch.tensor([float(count)], device=total.device).double()])
    _group().all_reduce(both)
    return (both[:-1] / both[-1]).reshape(total.shape).to(total.dtype)


def largest_over_ranks(value: Tensor) -> Tensor:
    """The largest of all ranks' values."""
    if not _together():
        return value
    largest = value.clone()
    _group().all_reduce(largest, op=_group().ReduceOp.MAX)
    return largest


def merged_over_ranks(statistics: TensorStatistics) -> TensorStatistics:
    """The statistics of all ranks' samples."""
    if not _together():
        return statistics
    gathered = [statistics] * ranks()
    _group().all_gather_object(gathered, statistics)
    return reduce(TensorStatistics.__add__, gathered)


def _group() -> Any:
    return torch.distributed


def _together() -> bool:
    return bool(_group().is_available() and _group().is_initialized() and _group().get_world_size() > 1)
