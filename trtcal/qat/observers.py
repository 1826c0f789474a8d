"""Observers: they let a tensor pass and remember its statistics, from which any range method derives."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calibrators.encoding import Encoding
from calibrators.errors import DataError, RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.methods.names import DEFAULT
from calibrators.range import Range
from calibrators.ranges import method_named, range_of
from calibrators.statistics.histogram import Histogram
from calibrators.statistics.tensor import Accumulator, TensorStatistics
from calibrators.weights import WeightMethod, weight_encoding
from trtcal.qat.batches import SampleAxes
from trtcal.qat.faults import require_values


class Observer(nn.Module):
    """Gathers an activation's statistics sample by sample, as `trtcal.collect` does, from any device.

    Args:
        method: A range method, as `calibrators.ranges.method_named` knows them.
        grid: The levels.
        name: What it observes, for messages.
        axes: Of the model that it is in.

    Attributes:
        observing: Whether it counts.
    """

    def __init__(
        self,
        method: str = DEFAULT,
        grid: Grid = TENSORRT_INT8,
        *,
        name: str = "a tensor",
        axes: SampleAxes | None = None,
    ) -> None:
        super().__init__()
        method_named(method)
        self.method, self.grid, self.name = method, grid, name
        self.observing = True
        self._axes = axes or SampleAxes()
        self._gathered = TensorStatistics.empty()
        self._accumulator = Accumulator()
        self._run, self._call, self._batch, self._singles = -1, 0, -1, list[tuple[int, ...]]()

    def forward(self, x: Tensor) -> Tensor:
        """x, counted.

        Raises:
            DataError: It is no tensor of numbers.
        """
        require_values(x, self.name)
        if self.observing:
            self._observe(x.detach())
        return x

    def statistics(self) -> TensorStatistics:
        """What has been seen so far."""
        return self._gathered + self._accumulator.statistics()

    def range(self) -> Range:
        """The range that the method finds.

        Raises:
            DataError: Nothing was seen yet.
        """
        seen = self.statistics()
        if seen.samples == 0:
            raise DataError(f"{self.name} was not calibrated: run data through the model that reach it, or skip it")
        return range_of(seen, self.method, self.grid)

    def encoding(self) -> Encoding:
        """The encoding of that range.

        Raises:
            DataError: Nothing was seen yet.
            RangeError: All that was seen is 0.
        """
        return Encoding.of_range(self.range(), self.grid)

    def get_extra_state(self) -> dict[str, Any]:
        """Its statistics, for a state dict."""
        return {"statistics": packed(self.statistics()), "observing": self.observing}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over statistics from a state dict."""
        self._gathered, self._accumulator = unpacked(state["statistics"]), Accumulator()
        self.observing = state["observing"]

    def extra_repr(self) -> str:
        """Its method and levels."""
        return f"method={self.method!r}, bits={self.grid.bits}, samples={self.statistics().samples}"

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_gathered"], state["_accumulator"] = self.statistics(), None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._accumulator = Accumulator()

    def _observe(self, x: Tensor) -> None:
        if self._axes.run != self._run:
            self._run, self._call = self._axes.run, 0
            self._batch += not self._axes.alone
        if self._axes.alone:
            self._singles.append(tuple(x.shape))
            return
        single = self._singles[self._call] if self._call < len(self._singles) else None
        self._call += 1
        samples = self._axes.split(x.to("cpu", torch.float32), single) if x.numel() else ()
        for place, sample in enumerate(samples):
            if not bool(torch.isfinite(sample).all()):
                what = "NaN" if bool(sample.isnan().any()) else "infinite"
                raise DataError(
                    f"{self.name} is {what} for sample {place} of batch {self._batch} (from 0): mend the model or its "
                    "preprocessing, or leave the sample out, and calibrate again"
                )
        for sample in samples:  # none of them, if one is refused
            self._accumulator.add(_array(sample))


class WeightObserver(nn.Module):
    """Derives a weight's encoding when it is asked for.

    Args:
        method: Of `calibrators.weights.weight_encoding`.
        grid: The levels.
        axis: The output channels; None for one scale.
        name: Whose weight it is, for messages.
    """

    def __init__(
        self,
        method: WeightMethod = "absmax",
        grid: Grid = TENSORRT_WEIGHTS,
        *,
        axis: int | None = 0,
        name: str = "a weight",
    ) -> None:
        super().__init__()
        weight_encoding(np.zeros(1, np.float32), axis=None, grid=grid, method=method)  # refuses what is no method
        self.method: WeightMethod = method
        self.grid, self.axis, self.name = grid, axis, name

        self._last: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as it is."""
        self._last = weight.detach()
        return weight

    def encoding(self, weight: Tensor | None = None) -> Encoding:
        """The encoding of a weight; None for the one that passed last.

        Raises:
            DataError: The weight holds what is no number, or none has passed.
        """
        weight = self._last if weight is None else weight
        if weight is None:
            raise DataError(f"{self.name} was not seen yet: run data through the model before you convert it")
        values = _array(weight.detach())
        try:
            return weight_encoding(values, axis=self.axis, grid=self.grid, method=self.method)
        except RangeError as error:
            raise DataError(f"{self.name}: {error}") from None

    def extra_repr(self) -> str:
        """Its method, levels and axis."""
        return f"method={self.method!r}, bits={self.grid.bits}, axis={self.axis}"


def _array(x: Tensor) -> Any:
    return x.to("cpu", torch.float32).contiguous().numpy()


def packed(statistics: TensorStatistics) -> dict[str, Any]:
    """Statistics in what `torch.load` reads without trust: tensors, texts and lists."""
    sides = (statistics.positive, statistics.negative)
    sums = (statistics.highest_sum, statistics.lowest_sum, statistics.absmax_sum)
    return {
        "counts": torch.from_numpy(np.stack([side.counts for side in sides])),
        "exponents": [side.exponent for side in sides],
        "maxima": [side.maximum for side in sides],
        "numbers": [str(each) for each in (statistics.zeros, statistics.samples, *sums)],
    }


def unpacked(state: dict[str, Any]) -> TensorStatistics:
    """Undo `packed`."""
    counts = state["counts"].cpu().numpy()
    positive, negative = map(Histogram, counts, state["exponents"], state["maxima"])
    return TensorStatistics(positive, negative, *map(int, state["numbers"]))
