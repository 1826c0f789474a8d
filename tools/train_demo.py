"""Train the demo's network on scikit-learn's handwritten digits and write it as `trtcal/demo/digits.onnx`.

Run from the root of a checkout, with the extras [train] and [demo] installed:

    python tools/train_demo.py [--output FILE.onnx]

Fixed seeds and a single thread make a run repeat to the last bit on one machine with one PyTorch. The network is small
but has what makes INT8 hard: depthwise convolutions, residual adds, ReLU6 and SiLU, two poolings concatenated. Batch
normalization is not folded.
"""

import argparse
import ast
import time
from collections import OrderedDict
from pathlib import Path

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
from torch.nn import functional

from calibrators.files import write_whole
from trtcal.demo import MODEL
from trtcal.demo.digits import SIZE, Digits, load_split

SEED = 1
EPOCHS = 60
BATCH = 50
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


class PooledConcat(nn.Module):
    """Maximum and average over 2x2, side by side: half the size, twice the channels."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2 C, H / 2, W / 2)."""
        return torch.cat([functional.max_pool2d(features, 2), functional.avg_pool2d(features, 2)], dim=1)


class DigitNet(nn.Module):
    """Images (N, 1, 32, 32) of values 0 to 1 to scores (N, 10).

    The stem is neither shifted nor normalized, so that blank paper stays 0. With batch normalization there, paper would
    be one value per channel wherever it is blank; those values outweigh all others in a histogram, and the entropy
    method then clips the strokes: 15 dB of SQNR after quantization instead of 28.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 16, 3, padding=1, bias=False), act=nn.ReLU6()))
        self.pool = PooledConcat()
        self.block1 = InvertedResidual(32, 32, nn.ReLU6)
        self.block2 = InvertedResidual(32, 48, nn.ReLU6, stride=2)
        self.block3 = InvertedResidual(48, 48, nn.SiLU)
        self.block4 = InvertedResidual(48, 64, nn.SiLU, stride=2)
        self.block5 = InvertedResidual(64, 64, nn.SiLU)
        self.head = ConvNormAct(64, 128, 1, nn.SiLU())
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before softmax."""
        features = self.block2(self.block1(self.pool(self.stem(image))))
        features = self.head(self.block5(self.block4(self.block3(features))))
        scores: Tensor = self.classifier(self.dropout(functional.avg_pool2d(features, 4).reshape(-1, 128)))
        return scores


def main() -> None:
    """Train, measure, export, check, write; print the figures."""
    parser = argparse.ArgumentParser(description="Train the demo's network and write it as ONNX.")
    parser.add_argument("--output", type=Path, default=MODEL, help="the ONNX file to write (default: the bundled one)")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    split = load_split()
    network = DigitNet()
    started = time.perf_counter()
    train(network, split.train, split.validation)
    elapsed = time.perf_counter() - started
    facts = {
        "data": "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits (CC BY 4.0), at 32x32",
        "split": f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test",
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
        "epochs": str(EPOCHS),
        "seed": str(SEED),
        "train_top1": f"{accuracy(network, split.train):.2f}",
        "validation_top1": f"{accuracy(network, split.validation):.2f}",
        "test_top1": f"{accuracy(network, split.test):.2f}",
    }
    model = export(network, facts)
    difference = check(model, network, split.test)
    write_whole(output, model.SerializeToString())
    for name, value in facts.items():
        print(f"{name:>16}: {value}")
    print(f"{'training':>16}: {elapsed:.0f} s on 1 thread, PyTorch {torch.__version__}")
    print(f"{'ONNX Runtime':>16}: scores within {difference:.1e} of PyTorch's on the test images")
    print(f"{'written':>16}: {output} ({output.stat().st_size / 1000:.0f} kB, opset {OPSET})")


def train(network: DigitNet, digits: Digits, validation: Digits) -> None:
    """Fit `network` with AdamW on a one-cycle schedule; print the loss and the validation accuracy every ten epochs."""
    images, labels = tensors(digits)
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(digits) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(digits), generator=generator).split(BATCH):
            scores = network(augmented(images[chosen], generator))
            loss = functional.cross_entropy(scores, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if epoch % 10 == 9:
            mean, top1 = total / len(digits), accuracy(network, validation)
            print(f"epoch {epoch + 1}: loss {mean:.3f}, validation {top1:.2f} %", flush=True)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, 1, H, W), each turned by up to 12 degrees, scaled by up to 12 %, moved by up to 2.5 pixels."""
    angle, scale, right, down = (torch.rand(4, len(images), generator=generator) * 2 - 1) * torch.tensor(
        [[np.deg2rad(12)], [0.12], [5 / SIZE], [5 / SIZE]], dtype=torch.float32
    )
    cosine, sine = torch.cos(angle) * (1 + scale), torch.sin(angle) * (1 + scale)
    transform = torch.stack([torch.stack([cosine, -sine, right], -1), torch.stack([sine, cosine, down], -1)], 1)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


@torch.no_grad()
def accuracy(network: DigitNet, digits: Digits) -> float:
    """Top-1 in per cent."""
    network.eval()
    images, labels = tensors(digits)
    return float((network(images).argmax(1) == labels).float().mean() * 100)


def tensors(digits: Digits) -> tuple[Tensor, Tensor]:
    """Images as float32 (N, 1, 32, 32) of values 0 to 1, labels as int64."""
    return torch.from_numpy(digits.images[:, None].astype(np.float32) / 255), torch.from_numpy(digits.labels)


def export(network: DigitNet, facts: dict[str, str]) -> onnx.ModelProto:
    """`network` as ONNX: dynamic batch, batch normalization kept, constants folded, no word about this machine."""
    program = torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 1, SIZE, SIZE),),
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes={"image": {0: torch.export.Dim("N")}},
        opset_version=OPSET,
        dynamo=True,
        optimize=False,  # it would fold the batch normalization, which is the toolkit's job to show
    )
    assert program is not None
    model = program.model
    fold_constants(model)
    for node in model.graph:
        if node.op_type == "Conv":
            node.resize_inputs(2)  # the exporter writes zeros as the bias of a convolution that has none
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    DeduplicateInitializersPass()(model)
    RemoveUnusedNodesPass()(model)
    name_by_module(model.graph)
    ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = "digits"
    model.producer_name, model.producer_version = "PyTorch", torch.__version__
    model.doc_string = (
        "Handwritten digits of 32x32 pixels, values 0 (paper) to 1 (ink), to the scores of ten classes. "
        "Made by tools/train_demo.py of trtcal."
    )
    model.metadata_props.clear()
    model.metadata_props.update(facts)
    return ir.to_proto(model)


def name_by_module(graph: ir.Graph) -> None:
    """Name each node and the tensor that it makes after its PyTorch module: ``block1.widen.conv``.

    The last node of a module takes the module's name, because its tensor is the module's output; the nodes before it
    add their kind, as in ``block3.widen.act.Sigmoid``.
    """
    last: dict[str, ir.Node] = {}
    for node in graph:
        last[module_of(node)] = node
    for node in graph:
        module = module_of(node)
        node.name = module if last[module] is node and module else f"{module}.{node.op_type}".lstrip(".")
        (value,) = node.outputs
        if not value.is_graph_output():
            value.name = node.name


def module_of(node: ir.Node) -> str:
    """The dotted path of the module that a node was traced in, empty for the network itself."""
    *_, module, _ = ast.literal_eval(node.metadata_props["pkg.torch.onnx.name_scopes"])
    return str(module)


def check(model: onnx.ModelProto, network: DigitNet, digits: Digits) -> float:
    """The largest difference between ONNX Runtime's scores and PyTorch's.

    Raises:
        SystemExit: The model is not valid, or the scores differ by more than 1e-4.
    """
    import onnxruntime  # not earlier: importing trtcal switches its telemetry off

    onnx.checker.check_model(model, full_check=True)
    images, _ = tensors(digits)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": images.numpy()})
    with torch.no_grad():
        difference = float(np.abs(scores - network(images).numpy()).max())
    if difference > 1e-4:
        raise SystemExit(f"ONNX Runtime's scores differ from PyTorch's by {difference:.1e}: the export is wrong")
    return difference


if __name__ == "__main__":
    main()
