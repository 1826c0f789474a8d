"""Quantizers for training, by name: the papers' learnable ones, and two that follow what they see."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.ranges import range_of
from calibrators.statistics.tensor import TensorStatistics
from trtcal.qat import functional
from trtcal.qat.distributed import largest_over_ranks, mean_over_ranks, merged_over_ranks
from trtcal.qat.functional import magnitude, positive
from trtcal.qat.observers import packed, unpacked
from trtcal.qat.quantizer import Quantizer


class LSQ(Quantizer):
    """Learned step size (`functional.lsq`).

    The first step is ``2 mean|x| / sqrt(p)``, its gradient is multiplied by ``1 / sqrt(N p)``.
    """

    def __init__(self, grid: Grid = TENSORRT_INT8, **options: Any) -> None:
        super().__init__(grid, **options)
        self.step = nn.Parameter(torch.zeros(self.shape))

    def begin(self, x: Tensor) -> None:
        """The paper's first step."""
        p = self.levels[1]
        if self.of == "weight":
            self._fill(self.step, functional.lsq_scale(x, p, axis=self.axis))
        else:
            total = x.abs().sum(dtype=torch.float64)
            self._fill(self.step, 2 * mean_over_ranks(total, x.numel()) / p**0.5)

    def quantized(self, x: Tensor) -> Tensor:
        """x, quantized and back."""
        n, p = self.levels
        scale = functional.lsq_gradient_scale(self._sharing(x), p)
        return functional.lsq(x, self.step, n, p, axis=self.axis, gradient_scale=scale)

    def scale(self) -> Tensor:
        """``|step|``."""
        return magnitude(self.step)

    def _sharing(self, x: Tensor) -> int:
        """The values that share a step: of a weight all, of an activation those of a sample."""
        if self.of == "weight":
            return int(x.numel() // max(1, self.step.numel()))
        return int(x.numel() // max(1, len(x))) if x.dim() else 1


class LSQPlus(LSQ):
    """LSQ+ (`functional.lsq_plus`).

    A weight's first step is ``max(|mu - 3 sigma|, |mu + 3 sigma|) / 2^(bits-1)``. An activation's step and, on an
    asymmetric grid, its offset begin where the first batches have the least squared error; the offset is kept on a
    multiple of the step, so that 0 is a level.
    """

    first_batches = 4

    def __init__(self, grid: Grid = TENSORRT_INT8, **options: Any) -> None:
        super().__init__(grid, **options)
        affine = not grid.symmetric and self.of == "activation"
        self.offset = nn.Parameter(torch.zeros(self.shape)) if affine else None
        self._seen = TensorStatistics.empty()

    def begin(self, x: Tensor) -> None:
        """The paper's first step and offset."""
        if self.of == "weight":
            self._fill(self.step, functional.lsq_plus_weight_scale(x, self.grid.bits, axis=self.axis))
            return
        self._fill(self.step, x.abs().amax().float())  # refuses NaN
        self._seen = self._seen + merged_over_ranks(TensorStatistics.of(x.float().cpu().numpy()))
        found = range_of(self._seen, "mse", self.grid)
        if self._batches + 1 >= self.first_batches and found.amax > 0:
            self._seen = TensorStatistics.empty()
        if self.offset is None:
            self.step.fill_(self.grid.symmetric_scale(found.amax))
        else:
            self.step.fill_((found.maximum - found.minimum) / (self.grid.maximum - self.grid.minimum))
            self.offset.copy_(found.minimum - self.step * self.grid.minimum)

    def quantized(self, x: Tensor) -> Tensor:
        """x, quantized and back."""
        if self.offset is None:
            return super().quantized(x)
        minimum, maximum = self.grid.minimum, self.grid.maximum
        scale = functional.lsq_gradient_scale(self._sharing(x), maximum - minimum)
        offset = self.offset.clone()  # a further reader of the same batch may set it anew before the backward pass
        return functional.lsq_plus(x, self.scale(), offset, minimum, maximum, gradient_scale=scale, on_levels=True)

    def zero_points(self) -> Tensor | int:
        """``round(-offset / step)``, on the grid."""
        if self.offset is None:
            return self.zero_point
        return torch.round(-self.offset / self.scale()).clamp(self.grid.minimum, self.grid.maximum).int()

    def get_extra_state(self) -> dict[str, Any]:
        """Also the statistics of the first batches, until they are complete."""
        state = super().get_extra_state()
        return {**state, "seen": packed(self._seen)} if self._seen.samples else state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it over from a state dict."""
        super().set_extra_state(state)
        self._seen = unpacked(state["seen"]) if "seen" in state else TensorStatistics.empty()

    def _blank(self) -> bool:
        return bool((self.step == 0).any())


class PACT(Quantizer):
    """Parameterized clipping (`functional.pact`).

    Alpha begins at the largest magnitude of the first batch, where nothing is clipped, or at `alpha` (the paper has
    10). Add `pact_penalty(model)` to the loss, times a small factor: without it alpha hardly shrinks.
    """

    def __init__(self, grid: Grid = TENSORRT_INT8, *, alpha: float | None = None, **options: Any) -> None:
        super().__init__(grid, **options)
        self.first = alpha
        self.alpha = nn.Parameter(torch.zeros(self.shape))

    def begin(self, x: Tensor) -> None:
        """The largest magnitude."""
        found = functional.absmax(x, axis=self.axis)
        if self.first is not None:
            found = torch.full_like(found, self.first)
        self._fill(self.alpha, largest_over_ranks(found) if self.of == "activation" else found)

    def quantized(self, x: Tensor) -> Tensor:
        """x, quantized and back."""
        n, p = self.levels
        return functional.pact(x, magnitude(self.alpha), n, p, axis=self.axis)

    def scale(self) -> Tensor:
        """``|alpha| / p``."""
        return magnitude(self.alpha) / self.levels[1]

    def penalty(self) -> Tensor:
        """``sum(alpha^2)``, the paper's L2 regularization."""
        return (self.alpha**2).sum()


class LearnedRange(Quantizer):
    """Learned minimum and maximum (`functional.learned_range`), at first those of the weight or the first batch."""

    def __init__(self, grid: Grid = TENSORRT_INT8, **options: Any) -> None:
        super().__init__(grid, **options)
        self.low = nn.Parameter(torch.zeros(self.shape))
        self.high = nn.Parameter(torch.zeros(self.shape))

    def begin(self, x: Tensor) -> None:
        """The whole range; as far below 0 as above it, in levels, on a symmetric grid."""
        high, low = (self._largest(sign * x.float()) for sign in (1, -1))
        if self.grid.symmetric:
            n, p = self.levels
            high = torch.maximum(high, low)
            low = high * (-n / p)
        self._fill(self.high, high)
        self._fill(self.low, -low)

    def quantized(self, x: Tensor) -> Tensor:
        """x, quantized and back."""
        fixed = self.zero_point if self.grid.symmetric else None
        minimum, maximum = self.grid.minimum, self.grid.maximum
        return functional.learned_range(x, self.low, self.high, minimum, maximum, axis=self.axis, zero_point=fixed)

    def scale(self) -> Tensor:
        """``(high - low) / (maximum - minimum)``."""
        return positive((self.high - self.low) / (self.grid.maximum - self.grid.minimum))

    def zero_points(self) -> Tensor | int:
        """``minimum - round(low / scale)``, on the grid."""
        if self.grid.symmetric:
            return self.zero_point
        minimum, maximum = self.grid.minimum, self.grid.maximum
        return (minimum - torch.round(self.low / self.scale())).clamp(minimum, maximum).int()

    def _largest(self, x: Tensor) -> Tensor:
        dims = [each for each in range(x.dim()) if self.axis is None or each != self.axis % x.dim()]
        found = (x.amax(dim=dims) if dims else x).clamp_min(0.0)
        return largest_over_ranks(found) if self.of == "activation" else found

    def _blank(self) -> bool:
        return bool((self.high == self.low).any())


class MovingAverageAbsmax(Quantizer):
    """The moving average of the batches' largest magnitudes: ``sum(r^i amax_i) / sum(r^i)``, i batches ago."""

    def __init__(self, grid: Grid = TENSORRT_INT8, *, rate: float = 0.9, **options: Any) -> None:
        super().__init__(grid, **options)
        self.rate = rate
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def observe(self, x: Tensor) -> None:
        """Follow a batch."""
        self.follow(x)

    def begin(self, x: Tensor) -> None:
        """Follow a batch."""
        largest = torch.zeros_like(self.total)
        self._fill(largest, largest_over_ranks(functional.absmax(x).float()))
        self.total.mul_(self.rate).add_(largest)
        self.weight.mul_(self.rate).add_(1.0)

    def scale(self) -> Tensor:
        """``amax / p``."""
        return positive(self.total / self.weight / self.levels[1])

    def _blank(self) -> bool:
        return bool(self.total == 0)


class Absmax(Quantizer):
    """The largest magnitude of a weight as it is now, per channel or of all."""

    def __init__(self, grid: Grid = TENSORRT_INT8, **options: Any) -> None:
        super().__init__(grid, **options)
        self.register_buffer("amax", torch.zeros(self.shape))

    def observe(self, x: Tensor) -> None:
        """Look at the weight."""
        self.amax.copy_(functional.absmax(x, axis=self.axis))
        self.started = True

    def scale(self) -> Tensor:
        """``amax / p``."""
        return positive(self.amax / self.levels[1])


ACTIVATION_QUANTIZERS: Mapping[str, Callable[..., Quantizer]] = MappingProxyType(
    {
        "lsq": LSQ,
        "lsq+": LSQPlus,
        "pact": PACT,
        "learned-range": LearnedRange,
        "moving-average-absmax": MovingAverageAbsmax,
    }
)
WEIGHT_QUANTIZERS: Mapping[str, Callable[..., Quantizer]] = MappingProxyType(
    {"absmax": Absmax, "lsq": LSQ, "lsq+": LSQPlus, "learned-range": LearnedRange}
)
