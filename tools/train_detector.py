"""Train the demo's detector, or its segmentation model, on scenes of scikit-learn's digits, and write it as ONNX.

Run from the root of a checkout, with the extras [train] and [demo] installed:

    python tools/train_detector.py [--task detect|segment] [--output FILE.onnx]

Fixed seeds and a single thread make a run repeat to the last bit on one machine with one PyTorch. Training scenes hold
digits of the training split alone. Batch normalization is not folded.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detection import Detector, Truth, loss
from networks import OPSET, check, export, tell
from torch import Tensor, nn
from torch.nn import functional

from calibrators.files import write_whole
from trtcal.demo import DETECTOR
from trtcal.demo.digits import Digits, load_split
from trtcal.demo.scenes import Scene, make_scenes

SEED = 1
SCENES = 6000
EPOCHS = 8
BATCH = 16


@dataclass(frozen=True, slots=True)
class Data:
    """Scenes to train on.

    Attributes:
        images: uint8 of shape (N, 3, 160, 160).
        truth: What is in them.
    """

    images: Tensor
    truth: Truth


def main() -> None:
    """Train, measure, export, check, write; print the figures."""
    parser = argparse.ArgumentParser(description="Train the demo's detector and write it as ONNX.")
    parser.add_argument("--output", type=Path, default=DETECTOR, help="the ONNX file to write (default: the bundled)")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    split = load_split()
    network = Detector()
    started = time.perf_counter()
    train(network, prepared(list(make_scenes(varied(split.train), SCENES, seed=SEED))))
    elapsed = time.perf_counter() - started
    facts = {
        "data": "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits (CC BY 4.0), in scenes",
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
        "scenes": str(SCENES),
        "epochs": str(EPOCHS),
        "seed": str(SEED),
    }
    sample = prepared(list(make_scenes(split.test, 8, seed=SEED))).images / 255
    model = export(
        network,
        sample,
        output="found",
        name="scenes",
        about="Scenes of 160x160 pixels, values 0 to 1, to boxes and scores of ten digits, laid out as YOLOv8's output. "
        "Made by tools/train_detector.py of trtcal.",
        facts=facts,
    )
    difference = check(model, network, sample, within=1e-2)
    write_whole(output, model.SerializeToString())
    tell(
        facts,
        [
            ("training", f"{elapsed:.0f} s on 1 thread, PyTorch {torch.__version__}"),
            ("ONNX Runtime", f"outputs within {difference:.1e} of PyTorch's"),
            ("written", f"{output} ({output.stat().st_size / 1000:.0f} kB, opset {OPSET})"),
        ],
    )


def train(network: Detector, data: Data) -> None:
    """Fit `network` with AdamW on a one-cycle schedule; print the loss by epoch."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=2e-2)
    steps = EPOCHS * -(-len(data.images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.15)
    for epoch in range(EPOCHS):
        network.train()
        total, started = 0.0, time.perf_counter()
        for chosen in torch.randperm(len(data.images), generator=generator).split(BATCH):
            images = recoloured(data.images[chosen], generator).to(memory_format=torch.channels_last)
            lost = loss(network, images, data.truth[chosen])
            optimizer.zero_grad()
            lost.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 10)
            optimizer.step()
            schedule.step()
            total += lost.item() * len(chosen)
        print(f"epoch {epoch + 1}: loss {total / len(data.images):.3f}, {time.perf_counter() - started:.0f} s", flush=True)


def prepared(scenes: list[Scene]) -> Data:
    """Scenes as tensors."""
    images = torch.from_numpy(np.stack([scene.image.transpose(2, 0, 1) for scene in scenes]))
    boxes = [torch.from_numpy(scene.boxes.astype(np.float32)) for scene in scenes]
    return Data(images, Truth.of(boxes, [torch.from_numpy(scene.classes) for scene in scenes]))


def varied(digits: Digits, times: int = 8) -> Digits:
    """Each digit `times` times, turned by up to 10 degrees and made up to 20 % narrower and lower."""
    generator = torch.Generator().manual_seed(SEED)
    images = torch.from_numpy(np.repeat(digits.images[:, None], times, 0)).float()
    angle, wide, high = torch.rand(3, len(images), generator=generator)
    angle = (angle * 2 - 1) * np.deg2rad(10)
    cosine, sine, nothing = torch.cos(angle), torch.sin(angle), torch.zeros(len(images))
    wide, high = 1 + wide / 4, 1 + high / 4
    transform = torch.stack(
        [torch.stack([cosine * wide, -sine * wide, nothing], -1), torch.stack([sine * high, cosine * high, nothing], -1)], 1
    )
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    turned = functional.grid_sample(images, grid, align_corners=False)[:, 0]
    return Digits(
        turned.round().to(torch.uint8).numpy(), np.repeat(digits.labels, times), np.repeat(digits.numbers, times)
    )


def recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images (N, 3, H, W) as values 0 to 1, each with its colours exchanged, half of them as negatives."""
    order = torch.rand(len(images), 3, generator=generator).argsort(1)
    values = images.gather(1, order[..., None, None].expand_as(images)).float() / 255
    negative = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(negative, 1 - values, values)


if __name__ == "__main__":
    main()
