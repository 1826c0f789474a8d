"""Train the demo's detector, or its segmentation model, on scenes of scikit-learn's digits, and write it as ONNX.

Run from the root of a checkout, with the extras [train] and [demo] installed:

    python tools/train_detector.py [--task segment] [--output FILE.onnx]

Fixed seeds and a single thread make a run repeat to the last bit on one machine with one PyTorch. Training scenes hold
digits of the training split alone. Batch normalization is not folded.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import detection
import numpy as np
import onnx
import segmentation
import torch
from networks import OPSET, Level, check, export, rounded, tell
from torch import Tensor, nn
from torch.nn import functional

from calibrators.files import write_whole
from trtcal.demo import DETECTOR, SEGMENTER
from trtcal.demo.digits import Digits, load_split
from trtcal.demo.scenes import Scene, make_scenes

SEED = 1
SCENES = 6000
BATCH = 16


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained, and how.

    Attributes:
        network: Makes it.
        truth: Of scenes, all that the loss compares with; indexed by scene.
        loss: Of the network, images (N, 3, H, W) and their truth.
        epochs: Passes over the scenes.
        rounded: How many of them, the last ones, are with the noise of INT8.
        window: Side of the part of a scene that is looked at in each of them, in pixels; None for all of it.
        rate: The highest learning rate.
        path: The bundled file.
        output: Name of the output.
        about: What the model does.
    """

    network: Callable[[], nn.Module]
    truth: Callable[[list[Scene]], Any]
    loss: Callable[[Any, Tensor, Any], Tensor]
    epochs: int
    rounded: int
    window: int | None
    rate: float
    path: Path
    output: str
    about: str


def main() -> None:
    """Train, export, check, write; print the figures."""
    parser = argparse.ArgumentParser(description="Train the demo's detector or segmentation model, and write its ONNX.")
    parser.add_argument("--task", choices=JOBS, default="detect")
    parser.add_argument("--output", type=Path, help="the ONNX file to write (default: the bundled one)")
    arguments = parser.parse_args()
    job, output = JOBS[arguments.task], arguments.output or JOBS[arguments.task].path
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    split = load_split()
    network = job.network()
    started = time.perf_counter()
    scenes = list(make_scenes(varied(split.train), SCENES, seed=SEED))
    train(network, job, images_of(scenes), job.truth(scenes))
    elapsed = time.perf_counter() - started
    facts = {
        "data": "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits (CC BY 4.0), in scenes",
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
        "scenes": str(SCENES),
        "epochs": str(job.epochs),
        "seed": str(SEED),
    }
    model = exported(network, job, facts)
    test = images_of(list(make_scenes(split.test, 8, seed=SEED))).float() / 255
    difference = check(model, network, test, within=1e-3)
    write_whole(output, model.SerializeToString())
    tell(
        facts,
        [
            ("training", f"{elapsed:.0f} s on 1 thread, PyTorch {torch.__version__}"),
            ("ONNX Runtime", f"outputs within {difference:.1e} of PyTorch's"),
            ("written", f"{output} ({output.stat().st_size / 1000:.0f} kB, opset {OPSET})"),
        ],
    )


def train(network: nn.Module, job: Job, images: Tensor, truth: Any) -> None:
    """Fit `network` with AdamW on a one-cycle schedule; print the loss by epoch."""
    generator = torch.Generator().manual_seed(SEED)
    level = Level(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=2e-2)
    steps = job.epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=job.rate, total_steps=steps, pct_start=0.15)
    for epoch in range(job.epochs):
        network.train()
        total, started = 0.0, time.perf_counter()
        with rounded(network) if epoch >= job.epochs - job.rounded else nullcontext():
            for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
                scenes, known = images[chosen], truth[chosen]
                if job.window is not None:
                    top, left = torch.randint(images.shape[-1] - job.window + 1, (2,), generator=generator).tolist()
                    rows, columns = slice(top, top + job.window), slice(left, left + job.window)
                    scenes, known = scenes[..., rows, columns], known[..., rows, columns]
                batch = recoloured(scenes, generator).to(memory_format=torch.channels_last)
                loss = job.loss(network, batch, known) + 0.03 * level.loss()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 10)
                optimizer.step()
                schedule.step()
                total += loss.item() * len(chosen)
        took = time.perf_counter() - started
        print(f"epoch {epoch + 1}: loss {total / len(images):.3f}, {took:.0f} s", flush=True)


def exported(network: nn.Module, job: Job, facts: dict[str, str]) -> onnx.ModelProto:
    """`network` as ONNX, with what it does and how it was made."""
    name = job.path.stem
    about = f"{job.about} Made by tools/train_detector.py of trtcal."
    return export(network, torch.rand(2, 3, 160, 160), output=job.output, name=name, about=about, facts=facts)


def images_of(scenes: list[Scene]) -> Tensor:
    """The scenes' images as uint8 (N, 3, 160, 160)."""
    return torch.from_numpy(np.stack([scene.image.transpose(2, 0, 1) for scene in scenes]))


def objects_of(scenes: list[Scene]) -> detection.Truth:
    """The scenes' boxes and classes."""
    boxes = [torch.from_numpy(scene.boxes.astype(np.float32)) for scene in scenes]
    return detection.Truth.of(boxes, [torch.from_numpy(scene.classes) for scene in scenes])


def maps_of(scenes: list[Scene]) -> Tensor:
    """The scenes' class maps as uint8 (N, 160, 160)."""
    return torch.from_numpy(np.stack([scene.class_map for scene in scenes]))


def varied(digits: Digits, times: int = 8) -> Digits:
    """Each digit `times` times, turned by up to 10 degrees and made up to a fifth narrower and lower."""
    generator = torch.Generator().manual_seed(SEED)
    images = torch.from_numpy(np.repeat(digits.images[:, None], times, 0)).float()
    angle, wide, high = torch.rand(3, len(images), generator=generator)
    angle = (angle * 2 - 1) * np.deg2rad(10)
    cosine, sine, centre = torch.cos(angle), torch.sin(angle), torch.zeros(len(images))
    across = torch.stack([cosine, -sine, centre], -1) * (1 + wide / 4)[:, None]
    down = torch.stack([sine, cosine, centre], -1) * (1 + high / 4)[:, None]
    grid = functional.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    turned = functional.grid_sample(images, grid, align_corners=False)[:, 0].round().to(torch.uint8)
    return Digits(turned.numpy(), np.repeat(digits.labels, times), np.repeat(digits.numbers, times))


def recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images (N, 3, H, W) as values 0 to 1, each with its colours exchanged, half of them as negatives."""
    order = torch.rand(len(images), 3, generator=generator).argsort(1)
    values = images.gather(1, order[..., None, None].expand_as(images)).float() / 255
    negative = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(negative, 1 - values, values)


JOBS = {
    "detect": Job(
        network=detection.Detector,
        truth=objects_of,
        loss=detection.loss,
        epochs=8,
        rounded=2,
        window=None,
        rate=4e-3,
        path=DETECTOR,
        output="found",
        about="Scenes of 160x160 pixels, 0 to 1, to boxes and scores of ten digits, as YOLOv8 has them.",
    ),
    "segment": Job(
        network=segmentation.Segmenter,
        truth=maps_of,
        loss=segmentation.loss,
        epochs=8,
        rounded=1,
        window=96,
        rate=8e-3,
        path=SEGMENTER,
        output="scores",
        about="Scenes of 160x160 pixels, 0 to 1, to scores of ground and ten digits, by pixel.",
    ),
}
"""By `--task`."""


if __name__ == "__main__":
    main()
