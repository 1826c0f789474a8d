"""Train the demo's network on scikit-learn's handwritten digits and write it as `trtcal/demo/digits.onnx`.

Run from the root of a checkout, with the extras [train] and [demo] installed:

    python tools/train_demo.py [--output FILE.onnx]

Fixed seeds and a single thread make a run repeat to the last bit on one machine with one PyTorch. The network is small
but has what makes INT8 hard: depthwise convolutions, residual adds, ReLU6 and SiLU, two poolings concatenated. Batch
normalization is not folded.
"""

import argparse
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from networks import OPSET, ConvNormAct, InvertedResidual, check, export, tell
from torch import Tensor, nn
from torch.nn import functional

from calibrators.files import write_whole
from trtcal.demo import MODEL
from trtcal.demo.digits import SIZE, Digits, load_split

SEED = 1
EPOCHS = 60
BATCH = 50


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
    model = exported(network, facts)
    difference = check(model, network, tensors(split.test)[0])
    write_whole(output, model.SerializeToString())
    tell(
        facts,
        [
            ("training", f"{elapsed:.0f} s on 1 thread, PyTorch {torch.__version__}"),
            ("ONNX Runtime", f"scores within {difference:.1e} of PyTorch's on the test images"),
            ("written", f"{output} ({output.stat().st_size / 1000:.0f} kB, opset {OPSET})"),
        ],
    )


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


def exported(network: DigitNet, facts: dict[str, str]) -> onnx.ModelProto:
    """`network` as ONNX, with what it does and how it was made."""
    about = (
        "Handwritten digits of 32x32 pixels, values 0 (paper) to 1 (ink), to the scores of ten classes. "
        "Made by tools/train_demo.py of trtcal."
    )
    return export(network, torch.zeros(2, 1, SIZE, SIZE), output="scores", name="digits", about=about, facts=facts)


if __name__ == "__main__":
    main()
