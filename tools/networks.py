"""What the networks of these scripts are made of, and how they become ONNX files."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

OPSET = 18


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch normalization, activation."""

    def __init__(
        self, channels: int, width: int, size: int, activation: nn.Module, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen by 1x1, depthwise 3x3, narrow by 1x1; added to its input where the shapes allow it."""

    def __init__(
        self, channels: int, out: int, activation: type[nn.Module], *, widen: int = 2, stride: int = 1
    ) -> None:
        super().__init__()
        width = channels * widen
        self.widen = ConvNormAct(channels, width, 1, activation())
        self.depthwise = ConvNormAct(width, width, 3, activation(), stride=stride, groups=width)
        self.narrow = ConvNormAct(width, out, 1, nn.Identity())
        self.residual = stride == 1 and channels == out

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, out, H / stride, W / stride)."""
        result: Tensor = self.narrow(self.depthwise(self.widen(features)))
        return features + result if self.residual else result


class Separable(nn.Sequential):
    """MobileNet's block: depthwise 3x3, then 1x1, each with batch normalization and SiLU."""

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(channels, channels, 3, nn.SiLU(), stride=stride, groups=channels)
        self.pointwise = ConvNormAct(channels, out, 1, nn.SiLU())


class Backbone(nn.Module):
    """Images to features of a fourth, an eighth, ... of their size."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        stem = widths[0]
        self.stem = ConvNormAct(3, stem, 3, nn.SiLU(), stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Separable(before, width, stride=2)
                if before == stem
                else InvertedResidual(before, width, nn.SiLU, stride=2),
                *([] if width == widths[-1] else [InvertedResidual(width, width, nn.SiLU)]),
            )
            for before, width in pairwise(widths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the stem's features (H / 2) and those of each stage (H / 4, H / 8, ...)."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class Fuse(nn.Module):
    """Coarse features beside finer ones: resized, concatenated, and brought to a width."""

    def __init__(self, coarse: int, fine: int, width: int) -> None:
        super().__init__()
        self.resize = nn.Upsample(scale_factor=2)
        self.merge = ConvNormAct(coarse + fine, width, 1, nn.SiLU())
        self.mix = Separable(width, width)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, H / 2, W / 2) and (N, fine, H, W) to (N, width, H, W)."""
        mixed: Tensor = self.mix(self.merge(torch.cat([self.resize(coarse), fine], 1)))
        return mixed


class Level:
    """Keeps the channels that a network's depthwise convolutions read at one size, and without far outliers.

    A tensor has one INT8 scale for all its channels. Where one channel has 15 times the range of the others, these keep
    4 of 8 bits; a depthwise convolution does not mix the channels, and the next normalization makes them alike again,
    with the noise. Measured on the detector without this: 5.5 points of mAP 50-95 lost in INT8 by `entropy`, 32 by
    `minmax`, and most of it by the one convolution behind the stem. So normalizations of other convolutions, before
    SiLU, have no factor of their own, and what they make beyond `BOUND` is a loss.
    """

    BOUND = 4.0
    """Standard deviations of a channel."""

    def __init__(self, network: nn.Module) -> None:
        self._excess: list[Tensor] = []
        for each in network.modules():
            if isinstance(each, ConvNormAct) and each.conv.groups == 1 and isinstance(each.act, nn.SiLU):
                each.norm.weight.requires_grad_(False)
                each.norm.register_forward_hook(self._note)

    def loss(self) -> Tensor:
        """Of what was made since the last call."""
        total = torch.stack(self._excess).sum()
        self._excess.clear()
        return total

    def _note(self, norm: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if norm.training:
            self._excess.append((made.abs() - self.BOUND).clamp(min=0).square().mean())


@contextmanager
def rounded(network: nn.Module) -> Iterator[None]:
    """Round what each convolution reads to INT8, as long as the block lasts; gradients pass as if it did not.

    A network that has seen this noise in its last epochs is a float network still, and loses less in INT8. It is the
    rounding of quantization-aware training (Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877), with the range
    of each batch; no range is exported.
    """
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_pre_hook(_rounded) for each in convolutions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _rounded(convolution: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (features,) = given
    with torch.no_grad():
        scale = features.abs().amax().clamp(min=1e-6) / 127
        noise = (features / scale).round_().mul_(scale).sub_(features)
    return (features + noise,)


def export(
    network: nn.Module, image: Tensor, *, output: str, name: str, about: str, facts: Mapping[str, str]
) -> onnx.ModelProto:
    """`network` as ONNX: dynamic batch, batch normalization kept, constants folded, no word about this machine.

    Args:
        network: From the input `image` to one output.
        image: Such as its input; more than one sample.
        output: The output's name.
        name: The graph's.
        about: What the model does, for its `doc_string`.
        facts: For its metadata.
    """
    program = torch.onnx.export(
        network.eval(),
        (image,),
        input_names=["image"],
        output_names=[output],
        dynamic_shapes={"image": {0: torch.export.Dim("N")}},
        opset_version=OPSET,
        dynamo=True,
        optimize=False,  # it would fold the batch normalization, which is the toolkit's job to show
    )
    assert program is not None
    model = program.model
    fold_constants(model)
    for node in model.graph:
        if node.op_type == "Conv" and not _bias(node).any():
            node.resize_inputs(2)  # the exporter writes zeros as the bias of a convolution that has none
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    DeduplicateInitializersPass()(model)
    RemoveUnusedNodesPass()(model)
    name_by_module(model.graph)
    ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = name
    model.producer_name, model.producer_version = "PyTorch", torch.__version__
    model.doc_string = about
    model.metadata_props.clear()
    model.metadata_props.update(facts)
    return ir.to_proto(model)


def name_by_module(graph: ir.Graph) -> None:
    """Name each node and the tensor that it makes after its PyTorch module: ``block1.widen.conv``.

    The last node of a module takes the module's name, because its tensor is the module's output; the nodes before it
    add their kind, as in ``block3.widen.act.Sigmoid``, and a number from the second of a kind on.
    """
    last: dict[str, ir.Node] = {}
    for node in graph:
        last[module_of(node)] = node
    taken: dict[str, int] = {}
    for node in graph:
        module = module_of(node)
        name = module if last[module] is node and module else f"{module}.{node.op_type}".lstrip(".")
        taken[name] = taken.get(name, 0) + 1
        node.name = name if taken[name] == 1 else f"{name}{taken[name]}"
        for at, value in enumerate(node.outputs):
            if not value.is_graph_output():
                value.name = node.name if at == 0 else f"{node.name}.{at}"


def module_of(node: ir.Node) -> str:
    """The dotted path of the module that a node was traced in, empty for the network itself."""
    *_, module, _ = ast.literal_eval(node.metadata_props["pkg.torch.onnx.name_scopes"])
    return str(module)


def check(model: onnx.ModelProto, network: nn.Module, images: Tensor, *, within: float = 1e-4) -> float:
    """The largest difference between ONNX Runtime's output and PyTorch's.

    Raises:
        SystemExit: The model is not valid, or the outputs differ by more than `within`.
    """
    import onnxruntime  # not earlier: importing trtcal switches its telemetry off

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        difference = float(np.abs(found - network.eval()(images).numpy()).max())
    if difference > within:
        raise SystemExit(f"ONNX Runtime's outputs differ from PyTorch's by {difference:.1e}: the export is wrong")
    return difference


def tell(facts: Mapping[str, str], lines: Sequence[tuple[str, str]]) -> None:
    """Print what was trained, measured and written, a fact a line."""
    for name, value in (*facts.items(), *lines):
        print(f"{name:>16}: {value}")


def _bias(node: ir.Node) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Of a convolution; nothing where it has none."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(0)
    assert value.const_value is not None
    return value.const_value.numpy()
