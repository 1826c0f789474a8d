"""Batch normalization folded into the weight before it, while it is still trained.

Krishnamoorthi 2018 (arXiv:1806.08342, "batch normalization correction and freezing"): with W and b the layer's weight
and bias, gamma and beta, mu and sigma those of the normalization, per output channel, the weight that is quantized is
``W gamma / sigma_running``: that of the model as it will be deployed, which does not jump from batch to batch. While
the statistics are those of batches, the product is that of the quantized weight times ``sigma_running / gamma``, and
batch normalization follows: its statistics are those of the quantized product, as in torch.ao (the paper takes those of
a second product, with the float weight, for twice the time). A channel whose quantized weight is 0 throughout, as for
gamma = 0, has no such statistics: it takes the float weight. After a given number of steps, and in evaluation, the
running statistics take their place.
"""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812  # as everyone calls it

from calibrators.errors import DataError

FOLDABLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""The exact types that are folded."""


class Layer(Protocol):
    """What a normalization is folded into: a `trtcal.qat.layers.QuantizedLayer`."""

    weight: Any
    bias: Any
    weight_axis: Any
    weight_quantizer: Any

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **more: Any) -> Tensor:
        """What the layer computes with another weight and bias."""
        ...


class FoldedBatchNorm(nn.Module):
    """A batch normalization that the layer before it computes; here, tensors pass as they are.

    Its parameters and buffers are the batch normalization's own, of the same names.

    Attributes:
        freeze_after: Training steps after which it keeps its statistics; None for never.
        steps: Training steps so far.
    """

    freeze_after: int | None
    steps: int

    @classmethod
    def from_float(cls, norm: nn.Module, *, freeze_after: int | None = None) -> "FoldedBatchNorm":
        """The folded one; it shares its parameters with the one that it is made from."""
        made = cls.__new__(cls)
        made.__dict__.update(taken_over(norm))
        made.freeze_after, made.steps = freeze_after, 0
        return made

    @property
    def frozen(self) -> bool:
        """Whether its statistics stay as they are."""
        return not self.training or (self.freeze_after is not None and self.steps >= self.freeze_after)

    def forward(self, x: Tensor) -> Tensor:
        """x: it is normalized already."""
        return x

    def factor(self) -> Tensor:
        """``gamma / sigma_running``, shape (channels,)."""
        inverse: Tensor = torch.rsqrt(self.running_var + self.eps)
        return inverse if self.weight is None else inverse * self.weight

    def scaled(self, weight: Tensor, axis: int) -> Tensor:
        """``W gamma / sigma_running``."""
        return weight * _along(self.factor(), weight.dim(), axis)

    def shifted(self, bias: Tensor | None) -> Tensor:
        """``beta + (b - mu_running) gamma / sigma_running``."""
        centred = -self.running_mean if bias is None else bias - self.running_mean
        shift: Tensor = centred * self.factor()
        return shift if self.bias is None else shift + self.bias

    def folded(self, layer: Layer, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """What the layer and this normalization compute of a quantized input, of a quantized weight with this in it."""
        factor = _along(self.factor(), layer.weight.dim(), layer.weight_axis)
        weight = layer.weight_quantizer(layer.weight * factor)
        if self.frozen:
            return layer.product(x, weight, self.shifted(layer.bias), *rest, **more)
        weight = _Unscaled.apply(weight, factor, layer.weight)
        return self._normalized(layer.product(x, weight, layer.bias, *rest, **more), tuple(x.shape))

    def get_extra_state(self) -> dict[str, Any]:
        """What a state dict holds of it beside what batch normalization has."""
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it over from a state dict."""
        self.steps = state["steps"]

    def _normalized(self, product: Tensor, batch: tuple[int, ...]) -> Tensor:
        """Batch normalization of a batch's products; the running statistics follow them."""
        if product.numel() <= product.shape[1]:
            raise DataError(
                f"batch normalization has one value per channel in a batch of shape {batch}: train with "
                "larger batches, or freeze it (freeze_batch_norm_after=0)"
            )
        self.steps += 1
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        return F.batch_norm(product, self.running_mean, self.running_var, self.weight, self.bias, True, rate, self.eps)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """A batch normalization's own state dict has no steps, which is no error: they begin anew."""
        missing, key = rest[2], f"{prefix}_extra_state"
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if key in missing:
            missing.remove(key)
            self.steps = 0


def taken_over(module: nn.Module) -> dict[str, Any]:
    """A module's attributes, for one that takes its place: the same parameters, buffers and hooks."""
    return {key: copy.copy(value) if isinstance(value, dict) else value for key, value in module.__dict__.items()}


def _along(values: Tensor, rank: int, axis: int) -> Tensor:
    return values.reshape([-1 if each == axis else 1 for each in range(rank)])


class _Unscaled(Function):
    """A quantized weight by the factor that the float one was scaled with; that one where all of a channel is 0."""

    @staticmethod
    def forward(ctx: Any, quantized: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
        others = [axis for axis, length in enumerate(factor.shape) if length == 1]
        lost = quantized.abs().amax(dim=others, keepdim=True) == 0
        result = torch.where(lost, weight, quantized / factor)
        ctx.save_for_backward(result, factor, lost)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        result, factor, lost = ctx.saved_tensors
        of_quantized = torch.where(lost, 0.0, gradient / factor)
        of_factor = -(of_quantized * result).sum_to_size(factor.shape)
        return of_quantized, of_factor, torch.where(lost, gradient, 0.0)
