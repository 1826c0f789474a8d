"""Fake quantization with straight-through gradients, as the papers define them.

Throughout, x is a tensor of any shape, s a scale and b an offset of shape () or, with an axis, (channels,); n and p are
the lowest and highest level relative to that of 0, n <= 0 < p; round is half to even. Gradients of s and b are summed
over what shares them. What is narrower than float32 is computed in float32 and given back in its own type.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from calibrators.weights import SMALLEST_SCALE


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor | int, minimum: int, maximum: int, *, axis: int | None = None
) -> Tensor:
    """``(clip(round(x/s) + z, minimum, maximum) - z) * s``: what `calibrators.encoding.Encoding.fake_quantize` gives.

    dx = 1 where the level is not clipped, else 0; scale and zero point get no gradient.
    """
    wide = _wide(x)
    zero = torch.as_tensor(zero_point, dtype=wide.dtype, device=x.device)
    return _back(_Fixed.apply(wide, _along(scale, wide, axis), _along(zero, wide, axis), minimum, maximum), x)


def lsq(x: Tensor, scale: Tensor, n: int, p: int, *, axis: int | None = None, gradient_scale: float = 1.0) -> Tensor:
    """Learned step size (Esser et al. 2020, arXiv:1902.08153): ``round(clip(x/s, n, p)) * s``.

    ds = round(x/s) - x/s where n < x/s < p, n below and p above; dx = 1 where n < x/s < p, else 0.

    Args:
        x: The values.
        scale: s > 0. One below 0 counts as -s, with the gradient of that: see `magnitude`.
        n: The lowest level: -127 or -128 for signed 8 bits, 0 for unsigned.
        p: The highest level.
        axis: Of the channels.
        gradient_scale: ds is multiplied by it: see `lsq_gradient_scale`.
    """
    wide = _wide(x)
    return _back(_Lsq.apply(wide, _along(scale, wide, axis), n, p, gradient_scale), x)


def lsq_plus(
    x: Tensor,
    scale: Tensor,
    offset: Tensor,
    n: int,
    p: int,
    *,
    axis: int | None = None,
    gradient_scale: float = 1.0,
    on_levels: bool = False,
) -> Tensor:
    """LSQ with a learned offset (Bhalgat et al. 2020, arXiv:2004.09576): ``round(clip((x-b)/s, n, p)) * s + b``.

    With v = (x-b)/s: ds = round(v) - v where n < v < p, n below and p above; db = 0 where n < v < p, else 1; dx = 1
    where n < v < p, else 0.

    Args:
        x: The values.
        scale: s > 0.
        offset: b, the value of level 0.
        n: The lowest level.
        p: The highest level.
        axis: Of the channels.
        gradient_scale: ds is multiplied by it.
        on_levels: Compute with the multiple of s next to b for which the value 0 has a level, straight through. Then
            the result is that of an integer zero point, ``clip(round(-b/s), n, p)``, which ONNX has; the paper moves a
            float offset into the next layer's bias.
    """
    wide = _wide(x)
    shaped = _along(scale, wide, axis), _along(offset, wide, axis)
    return _back(_LsqPlus.apply(wide, *shaped, n, p, gradient_scale, on_levels), x)


def pact(x: Tensor, alpha: Tensor, n: int, p: int, *, axis: int | None = None) -> Tensor:
    """Parameterized clipping (Choi et al. 2018, arXiv:1805.06085): y = clip(x, 0, a) in steps of a/p.

    da = 1 where x >= a, else 0; dx = 1 where 0 <= x < a, else 0. That is the paper's form, with n = 0. On a signed grid
    the lower end is ``a n/p`` instead of 0, and below it da = n/p.

    Args:
        x: The values.
        alpha: a > 0.
        n: The lowest level.
        p: The highest level.
        axis: Of the channels.
    """
    wide = _wide(x)
    return _back(_Pact.apply(wide, _along(alpha, wide, axis), n, p), x)


def learned_range(
    x: Tensor,
    low: Tensor,
    high: Tensor,
    minimum: int,
    maximum: int,
    *,
    axis: int | None = None,
    zero_point: int | None = None,
) -> Tensor:
    """A learned range, as AIMET 2 trains it.

    ``s = (high - low) / (maximum - minimum)`` and ``z = minimum - round(low/s)``, both straight through. ds is
    round(x/s) - x/s where the level round(x/s) + z is on the grid, else the clipped level less z; dz = -s where it is
    not on the grid, else 0; dx = 1 where it is, else 0.

    Args:
        x: The values.
        low: At most 0, the same shape as `high`.
        high: At least 0.
        minimum: The lowest level.
        maximum: The highest level.
        axis: Of the channels.
        zero_point: z where it is fixed, as on a symmetric grid.
    """
    wide = _wide(x)
    low, high = _along(low, wide, axis), _along(high, wide, axis)
    scale = positive((high - low) / (maximum - minimum))
    if zero_point is None:
        zero = minimum - round_through(low / scale)
        # Not torch.clamp, whose gradient at its ends is 1 up to PyTorch 2.13 and 0 in 2.14: a range from 0 lies there.
        zero = torch.where((zero < minimum) | (zero > maximum), zero.detach().clamp(minimum, maximum), zero)
    else:
        zero = torch.full_like(scale, zero_point)
    return _back(_Affine.apply(wide, scale, zero, minimum, maximum), x)


def round_through(x: Tensor) -> Tensor:
    """round(x), with the gradient of x."""
    rounded: Tensor = _Through.apply(x, torch.round(x.detach()))
    return rounded


def positive(scale: Tensor) -> Tensor:
    """A scale not below the smallest one, with the gradient of the scale itself: training can raise it again."""
    kept: Tensor = _Through.apply(scale, scale.detach().clamp_min(SMALLEST_SCALE))
    return kept


def magnitude(step: Tensor) -> Tensor:
    """The scale that a learned step s stands for: ``|s|``, not below the smallest scale; ds = sign(s), and 1 at 0.

    An update may be larger than the step, as that of 8 bits is small. Held at 0, it would clip every value, and batch
    normalization would divide by the variance that is left, which multiplies gradients without bounds.
    """
    return positive(torch.where(step < 0, -step, step))


def linked(x: Tensor, *parameters: Tensor) -> Tensor:
    """Give x itself, and gradients of 0 for parameters that it does not use.

    So that they take part in every backward pass, which distributed training counts on.
    """
    result: Tensor = _Linked.apply(x, *parameters) if parameters else x
    return result


def lsq_gradient_scale(count: int, p: int) -> float:
    """``g = 1 / sqrt(N p)``, N the values that share a step: of a weight all, of an activation those of a sample."""
    return 1.0 / math.sqrt(max(1, count) * p)


def lsq_scale(x: Tensor, p: int, *, axis: int | None = None) -> Tensor:
    """LSQ's first scale: ``2 mean|x| / sqrt(p)``, shape () or (channels,)."""
    return 2.0 * mean(x.abs(), axis=axis) / math.sqrt(p)


def lsq_plus_weight_scale(x: Tensor, bits: int, *, axis: int | None = None) -> Tensor:
    """LSQ+'s first scale of a weight: ``max(|mu - 3 sigma|, |mu + 3 sigma|) / 2^(bits-1)``, shape () or (channels,)."""
    wide = _wide(x)
    mu = mean(wide, axis=axis)
    sigma = mean((wide - _along(mu, wide, axis)) ** 2, axis=axis).sqrt()
    return torch.maximum((mu - 3 * sigma).abs(), (mu + 3 * sigma).abs()) / 2 ** (bits - 1)


def mean(x: Tensor, *, axis: int | None = None) -> Tensor:
    """The mean, shape () or (channels,)."""
    wide = _wide(x)
    if axis is None:
        return wide.mean()
    return wide.transpose(0, axis).flatten(1).mean(1) if wide.dim() > 1 else wide


def absmax(x: Tensor, *, axis: int | None = None) -> Tensor:
    """``max|x|``, shape () or (channels,)."""
    if axis is None:
        return _wide(x).abs().amax()
    return _wide(x).abs().amax(dim=[each for each in range(x.dim()) if each != axis % x.dim()])


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _back(y: Tensor, x: Tensor) -> Tensor:
    return y.to(x.dtype)


def _along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """A parameter in the shape that goes with x's; its gradient comes back in its own."""
    if axis is None or parameter.dim() == 0:
        return parameter
    return parameter.reshape([-1 if each == axis % x.dim() else 1 for each in range(x.dim())])


def _summed(gradient: Tensor, like: Tensor) -> Tensor:
    return gradient.sum_to_size(like.shape)


_zero_outside = torch.ops.aten.hardtanh_backward.default  # in one pass, without a mask


def _clipped(gradient: Tensor, v: Tensor, n: int, p: int) -> tuple[Tensor, Tensor]:
    """Where n < v < p: `gradient`, and ``round(v) - v``; elsewhere 0, and the end that v is at. v is overwritten.

    In few passes over the tensors: beside the products, these are what a step costs. PyTorch's kernels for learned
    scales have other gradients, where a value rounds to an end, and other ties, as they multiply by ``1/s``.
    """
    of_x = _zero_outside(gradient, v, n, p)
    inside = _zero_outside(v, v, n, p)
    return of_x, v.clamp_(n, p).round_().sub_(inside)


class _Fixed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, minimum: int, maximum: int) -> Tensor:
        levels = torch.round(x / scale) + zero
        ctx.save_for_backward((levels >= minimum) & (levels <= maximum))
        return (levels.clamp(minimum, maximum) - zero) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None


class _Lsq(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, n: int, p: int, gradient_scale: float) -> Tensor:
        scale = step.abs().clamp_min_(SMALLEST_SCALE)
        ctx.save_for_backward(x, scale, step < 0)
        ctx.constants = n, p, gradient_scale
        return (x / scale).clamp_(n, p).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, scale, negative = ctx.saved_tensors
        n, p, gradient_scale = ctx.constants
        of_x, slope = _clipped(gradient, x / scale, n, p)
        of_scale = _summed(slope.mul_(gradient), scale).mul_(gradient_scale)
        return of_x, torch.where(negative, -of_scale, of_scale), None, None, None


class _LsqPlus(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, n: int, p: int, gradient_scale: float, on_levels: bool
    ) -> Tensor:
        ctx.save_for_backward(x, scale, offset)
        ctx.constants = n, p, gradient_scale, on_levels
        if on_levels:
            zero = torch.round(-offset / scale).clamp(n, p)
            return ((torch.round(x / scale) + zero).clamp(n, p) - zero) * scale
        return torch.round(((x - offset) / scale).clamp(n, p)) * scale + offset

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, scale, offset = ctx.saved_tensors
        n, p, gradient_scale, on_levels = ctx.constants
        v = x / scale + torch.round(-offset / scale).clamp(n, p) if on_levels else (x - offset) / scale
        of_x, slope = _clipped(gradient, v, n, p)
        of_scale = _summed(slope.mul_(gradient), scale) * gradient_scale
        return of_x, of_scale, _summed(gradient - of_x, offset), None, None, None, None


class _Pact(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, n: int, p: int) -> Tensor:
        ctx.save_for_backward(x, alpha)
        ctx.constants = n, p
        step = alpha / p
        return torch.round((x / step).clamp(n, p)) * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, alpha = ctx.saved_tensors
        n, p = ctx.constants
        above, below = x >= alpha, x < alpha * (n / p)
        of_alpha = _summed(gradient * above + gradient * below * (n / p), alpha)
        return gradient * ~(above | below), of_alpha, None, None


class _Affine(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, minimum: int, maximum: int) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        ctx.bounds = minimum, maximum
        return ((torch.round(x / scale) + zero).clamp(minimum, maximum) - zero) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, scale, zero = ctx.saved_tensors
        v = x / scale
        levels = torch.round(v) + zero
        clipped = levels.clamp(*ctx.bounds)
        inside = levels == clipped
        slope = clipped - zero - torch.where(inside, v, 0.0)
        of_zero = _summed(gradient * ~inside * -scale, zero)
        return gradient * inside, _summed(gradient * slope, scale), of_zero, None, None


class _Through(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient, None


class _Linked(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.like = parameters
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient, *(torch.zeros_like(each) for each in ctx.like)
