"""Layers with quantized input and weight, made from float ones whose parameters, names and hooks they take over."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everyone calls it

from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from trtcal.qat.folding import FOLDABLE, FoldedBatchNorm, taken_over

Layer = TypeVar("Layer", bound="QuantizedLayer")


class QuantizedLayer(nn.Module):
    """What quantized layers have in common.

    Attributes:
        input_quantizer: What its input passes: an observer, a quantizer, or `nn.Identity` where it stays in float.
        weight_quantizer: What its weight passes.
        weight_axis: Of the weight's output channels.
        norm: The batch normalization behind it that is folded into its weight; it is a module elsewhere in the model.
    """

    weight_axis: ClassVar[int] = 0

    input_quantizer: nn.Module
    weight_quantizer: nn.Module

    @classmethod
    def from_float(
        cls: type[Layer], layer: nn.Module, *, input_quantizer: nn.Module, weight_quantizer: nn.Module
    ) -> Layer:
        """The quantized layer; it shares its parameters with the float one."""
        made = cls.__new__(cls)
        made.__dict__.update(taken_over(layer))
        made.input_quantizer, made.weight_quantizer = input_quantizer, weight_quantizer
        made.fold(None)
        return made

    def fold(self, norm: FoldedBatchNorm | None) -> None:
        """Have a batch normalization computed here; its own place in the model then passes what it is given."""
        self._norm = (norm,)  # in a tuple, so that it is not a module of this one as well

    @property
    def norm(self) -> FoldedBatchNorm | None:
        """The batch normalization that is folded into its weight."""
        return self._norm[0]

    def forward(self, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """What the float layer computes, of a quantized input and weight."""
        x = self.input_quantizer(x)
        if self.norm is not None:
            return self.norm.folded(self, x, *rest, **more)
        return self.product(x, self.weight_quantizer(self.folded_weight()), self.bias, *rest, **more)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **more: Any) -> Tensor:
        """What the float layer computes with another weight and bias."""
        raise NotImplementedError

    def folded_weight(self) -> Tensor:
        """The weight that is quantized: with the batch normalization in it, where one is folded.

        A layer that computes its weight from its parameters, as weight standardization does, says so here.
        """
        weight: Tensor = self.weight
        return weight if self.norm is None else self.norm.scaled(weight, self.weight_axis)

    def weight_encoding(self) -> Encoding:
        """The encoding of that weight."""
        found: Encoding = self.weight_quantizer.encoding(self.folded_weight().detach())
        return found


class _QuantizedConv(QuantizedLayer):
    @classmethod
    def from_float(
        cls: type[Layer], layer: nn.Module, *, input_quantizer: nn.Module, weight_quantizer: nn.Module
    ) -> Layer:
        """The quantized convolution; padding by a word is in numbers, as runtimes want it of dilated ones."""
        made = super().from_float(layer, input_quantizer=input_quantizer, weight_quantizer=weight_quantizer)
        if isinstance(layer.padding, str) and layer.padding_mode == "zeros":
            around = [a * (size - 1) for a, size in zip(layer.dilation, layer.kernel_size, strict=True)]
            if layer.padding == "valid":
                made.padding = (0,) * len(around)
            elif not any(each % 2 for each in around):
                made.padding = tuple(each // 2 for each in around)
        return made

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **more: Any) -> Tensor:
        """The convolution."""
        result: Tensor = self._conv_forward(x, weight, bias)
        return result


class QuantizedConv1d(_QuantizedConv, nn.Conv1d):
    """`nn.Conv1d`, quantized."""


class QuantizedConv2d(_QuantizedConv, nn.Conv2d):
    """`nn.Conv2d`, quantized."""


class QuantizedConv3d(_QuantizedConv, nn.Conv3d):
    """`nn.Conv3d`, quantized."""


class _QuantizedConvTranspose(QuantizedLayer):
    """A weight of shape (in, out / groups, ...): all groups share the scales along axis 1, as in ONNX."""

    weight_axis = 1
    dimensions: ClassVar[int]

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **more: Any) -> Tensor:
        """The transposed convolution; the rest may be the output's size."""
        size = rest[0] if rest else more.get("output_size")
        padding = self._output_padding(
            x, size, self.stride, self.padding, self.kernel_size, self.dimensions, self.dilation
        )
        compute = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.dimensions - 1]
        result: Tensor = compute(x, weight, bias, self.stride, self.padding, padding, self.groups, self.dilation)
        return result


class QuantizedConvTranspose1d(_QuantizedConvTranspose, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d`, quantized."""

    dimensions = 1


class QuantizedConvTranspose2d(_QuantizedConvTranspose, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`, quantized."""

    dimensions = 2


class QuantizedConvTranspose3d(_QuantizedConvTranspose, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d`, quantized."""

    dimensions = 3


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """`nn.Linear`, quantized."""

    flat = False
    """Whether a batch normalization was folded, which works on axis 1: of a matrix, those are the features."""

    def fold(self, norm: FoldedBatchNorm | None) -> None:
        """Have a batch normalization computed here."""
        super().fold(norm)
        self.flat = self.flat or norm is not None

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, **more: Any) -> Tensor:
        """The matrix product."""
        if self.flat and x.dim() != 2:
            raise ModelError(
                f"the batch normalization behind a linear layer is folded into it, but its input of shape "
                f"{tuple(x.shape)} is no matrix: put nn.Identity in between, so that it is left as it is"
            )
        return F.linear(x, weight, bias)


QUANTIZED: Mapping[type[nn.Module], type[QuantizedLayer]] = MappingProxyType(
    {
        nn.Conv1d: QuantizedConv1d,
        nn.Conv2d: QuantizedConv2d,
        nn.Conv3d: QuantizedConv3d,
        nn.ConvTranspose1d: QuantizedConvTranspose1d,
        nn.ConvTranspose2d: QuantizedConvTranspose2d,
        nn.ConvTranspose3d: QuantizedConvTranspose3d,
        nn.Linear: QuantizedLinear,
    }
)
"""The quantized class of each float one."""


CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)

HARMLESS = (nn.Embedding, nn.EmbeddingBag, nn.PReLU, nn.LayerNorm)
"""Modules with parameters of several dimensions and no product to quantize."""

MAPPING = "map its class to a quantized one with add_qat_layer_mapping, or skip it"


def refusal(module: nn.Module) -> str | None:
    """Why a module cannot be quantized as a layer: "" where it can; None where there is nothing in it to quantize.

    A layer of a derived class can, if it computes what the class that is known computes.
    """
    kind = type(module)
    base = next((each for each in QUANTIZED if isinstance(module, each)), None)
    if base is not None:
        return _refusal_of_derived(module, base)
    if isinstance(module, (*CONTAINERS, *HARMLESS)) or not kind.__module__.startswith("torch.nn."):
        return None
    weighted = any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
    compound = any(True for _ in module.children())
    if compound:
        return f"what is in {kind.__name__} cannot be reached: write it with nn.Linear and matmul, or skip it"
    return f"{kind.__name__} is no layer that is known: {MAPPING}" if weighted else None


def _refusal_of_derived(module: nn.Module, base: type[nn.Module]) -> str:
    kind = type(module)
    if "parametrizations" in module._modules:
        return "its weight is computed from others: call torch.nn.utils.parametrize.remove_parametrizations first"
    computed = [name for name in ("weight", "bias") if name not in module._parameters]
    if computed:
        return (
            f"its {computed[0]} is computed before each call: call remove_weight_norm, prune.remove or the like first"
        )
    weight = module._parameters["weight"]  # as it is, also while torch.fx traces
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "it has no weight yet: run the model once first"
    if weight is None or not weight.is_floating_point():
        return f"its weight is of type {getattr(weight, 'dtype', None)}, not floating point"
    if any(getattr(kind, each, None) is not getattr(base, each, None) for each in ("forward", "_conv_forward")):
        return f"its class {kind.__name__} computes something else than {base.__name__}: {MAPPING}"
    return ""


def quantized_class(module: nn.Module) -> type[QuantizedLayer]:
    """The quantized class of a layer that can be quantized."""
    return next(made for base, made in QUANTIZED.items() if isinstance(module, base))


AFTER = ("_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
BEFORE = ("_forward_pre_hooks",)
"""Where a module has hooks that see what it gives, and what it is given."""


def foldable(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether a batch normalization can be folded into the layer before it.

    Not into a transposed convolution of several groups, whose weight has the channels of all groups on one axis; and
    not where hooks see the tensor between the two, which would be there no more.
    """
    if any(getattr(layer, each) for each in AFTER) or any(getattr(norm, each) for each in (*AFTER, *BEFORE)):
        return False
    if type(norm) not in FOLDABLE or norm.running_mean is None or refusal(layer) != "":
        return False
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) and layer.groups > 1:
        return False
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return bool(channels == norm.num_features)


def fold_norms(model: nn.Module, norms: Mapping[str, str], *, freeze_after: int | None = None) -> None:
    """Have quantized layers compute the batch normalizations behind them.

    Args:
        model: With the layers.
        norms: Path of each layer -> path of the normalization.
        freeze_after: Training steps after which the statistics stay as they are; None for never.
    """
    for path, norm_path in norms.items():
        layer = model.get_submodule(path)
        assert isinstance(layer, QuantizedLayer)
        norm = FoldedBatchNorm.from_float(model.get_submodule(norm_path), freeze_after=freeze_after)
        layer.fold(norm)
        replaced(model, norm_path, norm)


def bake_norms(model: nn.Module) -> None:
    """Put batch normalizations for good into the weights that they are folded into; nothing is left of them."""
    paths = {module: path for path, module in model.named_modules()}
    for layer in list(model.modules()):
        if not isinstance(layer, QuantizedLayer) or layer.norm is None:
            continue
        norm = layer.norm
        with torch.no_grad():
            weight, bias = layer.folded_weight(), norm.shifted(layer.bias)
            # A new one: others may share the old one.
            layer.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
            layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=layer.weight.requires_grad)
        layer.fold(None)
        replaced(model, paths[norm], nn.Identity())


def replaced(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """A model with another module wherever the one at a path is; the module itself for the path ""."""
    if not path:
        return module
    old = model.get_submodule(path)
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = module
    return model
