"""Quantization-aware training on handwritten digits, with so few bits that no range method is enough.

Usage: python examples/06_qat.py [FOLDER] [--epochs 30] [--seed 0]

Prints one table: a small residual network in float; with weights of 2 and activations of 4 bits, after training (PTQ,
the best range methods) and by training (QAT) with LSQ, LSQ+ and PACT; and trained for INT8, in PyTorch and, exported,
in ONNX Runtime, whose INT8 kernels round biases as well. Writes losses.png, digits.int8.onnx and test.npz into FOLDER
(qat). Needs the extra [train]; takes a GPU if there is one.
"""

import argparse
import sys
import time
from collections import OrderedDict
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

import trtcal
from calibrators.ranges import METHODS
from trtcal.demo.digits import load_split
from trtcal.qat import PTQ, QAT, Observer, WeightObserver, export_onnx, pact_penalty, require_finite

BATCH = 50
CALIBRATION = 300  # images
MOMENTUM = 0.05  # of batch normalization: weights of few levels jump, and with them a batch's statistics
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
QUANTIZERS = {"LSQ": ("lsq", "lsq"), "LSQ+": ("lsq+", "lsq+"), "PACT": ("pact", "lsq+")}  # of activations, of weights


def convolution(channels, out, size=3, stride=1):
    """A convolution and its normalization."""
    return [nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out, momentum=MOMENTUM)]


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.body = nn.Sequential(*convolution(channels, out, stride=stride), nn.ReLU(), *convolution(out, out))
        self.skip = nn.Identity() if stride == 1 else nn.Sequential(*convolution(channels, out, 1, stride))

    def forward(self, x):
        """(N, channels, H, W) to (N, out, H / stride, W / stride)."""
        return torch.relu(self.body(x) + self.skip(x))


def network():
    """Images (N, 1, 32, 32) to scores (N, 10)."""
    first, norm = convolution(1, 16, stride=2)
    blocks = nn.Sequential(Block(16, 16), Block(16, 32, 2), Block(32, 64, 2))
    end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = {"first": first, "norm": norm, "relu": nn.ReLU(), "blocks": blocks, "end": end, "last": nn.Linear(64, 10)}
    return nn.Sequential(OrderedDict(layers)).to(DEVICE)


def tensors(digits):
    """Images of values 0 to 1, and their classes."""
    images = torch.from_numpy(digits.images[:, None].astype(np.float32) / 255)
    return images.to(DEVICE), torch.from_numpy(digits.labels).to(DEVICE)


def shifted(images, generator):
    """Each image up to two pixels away from where it was."""
    moves = torch.randint(-2, 3, (2, len(images), 1), generator=generator)
    down, right = ((torch.arange(images.shape[-1]) + moves) % images.shape[-1]).to(DEVICE)
    each = torch.arange(len(images), device=DEVICE)[:, None, None]
    return images[each, 0, down[:, :, None], right[:, None, :]][:, None]


def train(model, data, epochs, rate, seed):
    """Fit a model; give the mean loss of each epoch."""
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    losses = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = shifted(images[chosen], generator)
            loss = functional.cross_entropy(model(batch), labels[chosen]) + 1e-5 * pact_penalty(model).to(DEVICE)
            optimizer.zero_grad()
            require_finite(loss, model, batch).backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
    return losses


@torch.no_grad()
def top1(model, data):
    """In per cent."""
    images, labels = data
    return float((model.eval()(images).argmax(1) == labels).float().mean() * 100)


def few_bits(activation=None, weight="absmax"):
    """Weights of 2 and activations of 4 bits, but 8 in the first and last layer, as the papers have it."""
    settings = trtcal.LayerSettings(
        activation=activation, weight=weight, activation_bits=4, weight_bits=2, symmetric=False
    )
    config = trtcal.QuantConfig(settings)
    for layer in ("first", "last"):
        config.add_name_config(layer, activation_bits=8, weight_bits=8)
    return config


@torch.no_grad()
def best_ptq(model, data, test):
    """Observe once, quantize by every method: the best one's top-1 on the test images, and its name."""
    observed = PTQ(few_bits()).quantize(model.eval())
    observed(data[0][:CALIBRATION])
    found = []
    for activation, weight in product(METHODS, ("absmax", "mse")):
        for module in observed.modules():
            if isinstance(module, Observer):
                module.method = activation
            elif isinstance(module, WeightObserver):
                module.method = weight
        found.append((top1(PTQ().convert(observed), test), f"{activation}, {weight}"))
    return max(found)


def trained(model, qat, data, epochs, rate, seed):
    """Quantization-aware training, and its losses."""
    quantized = qat.quantize(model.train())
    losses = train(quantized, data, epochs, rate, seed)
    return qat.convert(quantized), losses


def exported(model, split, folder):
    """The model in ONNX and what goes with it; its top-1 in ONNX Runtime, and how far its scores are from PyTorch's.

    The top-1 of literal arithmetic, which is PyTorch's, and that of INT8 kernels, which `trtcal accuracy` measures.
    """
    images, labels = (each.cpu() for each in tensors(split.test))
    names = {"input_names": ["image"], "output_names": ["scores"]}
    written = export_onnx(model, images[:2], folder / "digits.int8.onnx", preprocess="unit", **names)
    np.savez(folder / "test.npz", images=split.test.images, labels=split.test.labels)
    scores = []
    for arithmetic in ("literal", "int8"):
        with trtcal.OnnxRuntimeSession(written.model, arithmetic=arithmetic) as session:
            scores.append(session.run({"image": images.numpy()})["scores"])
    with torch.no_grad():
        expected = model.cpu()(images).numpy()
    steps = np.abs(scores[0] - expected).max() / (np.abs(expected).max() / 127)
    return [float((each.argmax(1) == labels.numpy()).mean() * 100) for each in scores], steps


def draw(curves, path):
    """The losses as a picture."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, losses in curves.items():
        axes.plot(range(1, len(losses) + 1), losses, marker=".", label=name)
    axes.set(xlabel="epoch", ylabel="mean loss in training", yscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main():
    """The table, the picture, the model."""
    parser = argparse.ArgumentParser(description="FP32, PTQ and QAT on handwritten digits, in one table.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("qat"))
    parser.add_argument("--epochs", type=int, default=30, help="of training, in float and with few bits")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the same figures on any number of cores; more are hardly faster
    began = since = time.perf_counter()
    curves = {}

    def row(name, width, accuracy, losses=()):
        nonlocal since
        if losses:
            curves[name] = losses
        last = f"{losses[-1]:.4f}" if losses else ""
        now = time.perf_counter()
        sys.stdout.write(f"{name:<26}{width:>5}{accuracy:>12.2f}{last:>11}{now - since:>9.0f}\n")
        sys.stdout.flush()
        since = now

    sys.stdout.write("{:<26}{:>5}{:>12}{:>11}{:>9}\n".format("", "", "test top-1", "last loss", "seconds"))
    split = load_split()
    data, test = tensors(split.train), tensors(split.test)
    torch.manual_seed(given.seed)
    model = network()
    losses = train(model, data, given.epochs, 0.1, given.seed)
    row("FP32", "32", top1(model, test), losses)
    accuracy, name = best_ptq(model, data, test)
    row(f"PTQ, {name}", "W2A4", accuracy)
    for name, chosen in QUANTIZERS.items():
        qat = QAT(few_bits(*chosen), fold_batch_norm=False)
        quantized, losses = trained(model, qat, data, given.epochs, 0.05, given.seed)
        row(f"QAT, {name}", "W2A4", top1(quantized, test), losses)
    config = trtcal.QuantConfig(trtcal.LayerSettings(activation="lsq", weight="lsq"))
    int8, losses = trained(model, QAT(config), data, max(1, given.epochs // 6), 2e-3, given.seed)
    row("QAT, LSQ, for TensorRT", "INT8", top1(int8, test), losses)
    (literal, rounded), steps = exported(int8, split, given.folder)
    row("the same in ONNX Runtime", "INT8", literal)
    row("the same, biases rounded", "INT8", rounded)
    draw(curves, given.folder / "losses.png")
    path = given.folder / "digits.int8"
    sys.stdout.write(
        f"\nseed {given.seed}, {given.epochs} epochs, PyTorch {torch.__version__} on {DEVICE}: "
        f"{time.perf_counter() - began:.0f} s; PTQ by the best of {2 * len(METHODS)} methods on the test images\n"
        f"scores in ONNX Runtime: at most {steps:.3f} of a quantization step from PyTorch's, before its INT8 kernels "
        "round biases to INT32; trtcal accuracy uses these, and prints the table's last row\n"
        f"losses: {given.folder / 'losses.png'}\n\n"
        f"trtcal accuracy {path}.onnx --images {given.folder / 'test.npz'}\n"
        f"trtcal build {path}.onnx -o {path}.engine\n"
        f"trtcal inspect {path}.engine\n"
    )


if __name__ == "__main__":
    main()
