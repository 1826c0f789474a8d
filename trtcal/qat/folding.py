"""Batch normalization folded into the weight before it, while it is still trained.

Krishnamoorthi 2018 (arXiv:1806.08342, "batch normalization correction and freezing"): with W and b the layer's weight
and bias, gamma and beta, mu and sigma those of the normalization, per output channel, the weight that is quantized is
``W gamma / sigma_running``: that of the model as it will be deployed, which does not jump from batch to batch. While
the statistics are those of batches, the product is multiplied by ``sigma_running / sigma_batch`` and the bias is
``beta - gamma mu_batch / sigma_batch``, so that the result is what batch normalization gives. A batch's statistics are
those of the product with the float weight, which is a second product. After a given number of steps, and in
evaluation, the running statistics take their place, and there is one product.
"""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from calibrators.errors import DataError
from trtcal.qat.functional import linked

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
        made.__dict__.update(
            {key: dict(value) if type(value) is dict else value for key, value in norm.__dict__.items()}
        )
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
        if self.frozen:
            weight = layer.weight_quantizer(self.scaled(layer.weight, layer.weight_axis))
            return layer.product(x, weight, self.shifted(layer.bias), *rest, **more)
        weight = layer.weight_quantizer(self.scaled(layer.weight, layer.weight_axis))
        deviation = torch.sqrt(self.running_var + self.eps)
        mean, variance = self._batch(layer, x, *rest, **more)
        raw = layer.product(x, weight, None, *rest, **more)
        product = raw.float()
        inverse = torch.rsqrt(variance + self.eps)
        correction = deviation * inverse
        shift = -mean * (inverse if self.weight is None else inverse * self.weight)
        if self.bias is not None:
            shift = shift + self.bias
        if layer.bias is not None:
            shift = linked(shift, layer.bias)  # the mean takes it away again
        rank = product.dim()
        return (product * _along(correction, rank, 1) + _along(shift, rank, 1)).to(raw.dtype)

    def get_extra_state(self) -> dict[str, Any]:
        """What a state dict holds of it beside what batch normalization has."""
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it over from a state dict."""
        self.steps = state["steps"]

    def _batch(self, layer: Layer, x: Tensor, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance of a batch's products without bias; the running statistics follow them."""
        product = layer.product(x, layer.weight, None, *rest, **more).float()
        dims = [axis for axis in range(product.dim()) if axis != 1]
        count = product.numel() // max(1, self.num_features)
        if count <= 1:
            raise DataError(
                f"batch normalization has one value per channel in a batch of shape {tuple(x.shape)}: train with "
                "larger batches, or freeze it (freeze_batch_norm_after=0)"
            )
        variance, mean = torch.var_mean(product, dim=dims, correction=0)
        with torch.no_grad():
            self.steps += 1
            self.num_batches_tracked += 1
            rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            whole = mean if layer.bias is None else mean + layer.bias
            self.running_mean.lerp_(whole.detach().to(self.running_mean.dtype), rate)
            self.running_var.lerp_((variance.detach() * (count / (count - 1))).to(self.running_var.dtype), rate)
        return mean, variance

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
