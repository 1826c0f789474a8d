"""Train a VGG11 for images of 32x32 pixels and write it as ONNX, with images to calibrate on and to test with.

Run from the root of a checkout, with the extra [train] installed:

    python tools/train_vgg.py --output vgg [--data cifar-10-batches-bin]

CIFAR-10 is read in its published binary form; where it is absent, the network learns scikit-learn's digits, which takes
a minute or two on two cores. CIFAR-10 wants a GPU, which is taken where there is one. `examples/05_vgg11.py vgg` then
simulates its quantization.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibrators.files import whole_file, write_whole
from trtcal.data.preprocess import Preprocess
from trtcal.demo.cifar10 import CLASSES, FOLDER, Data, Pictures, load
from trtcal.demo.digits import SIZE

LAYERS: tuple[int | None, ...] = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)
"""Channels of each convolution of VGG11 (K. Simonyan and A. Zisserman, 2015, configuration A); None is a pooling."""

SEED = 1
BATCH = 50
RATE = 0.02
CALIBRATION = 500
OPSET = 18


class Vgg11(nn.Module):
    """Images (N, 3, 32, 32) to scores (N, 10): VGG11 with batch normalization and one fully connected layer.

    Args:
        width: The share of VGG11's channels that each convolution has.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        layers, channels = list[nn.Module](), 3
        for wanted in LAYERS:
            if wanted is None:
                layers.append(nn.MaxPool2d(2))
            else:
                out = max(1, round(wanted * width))
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before softmax."""
        scores: Tensor = self.classifier(self.features(image).flatten(1))
        return scores


def main() -> None:
    """Train, export, check, write; print the figures."""
    parser = argparse.ArgumentParser(description="Train a VGG11 for images of 32x32 pixels and write it as ONNX.")
    parser.add_argument("--output", type=Path, default=Path("vgg"), help="the folder to write to (default: vgg)")
    parser.add_argument("--data", type=Path, default=Path(FOLDER), help=f"CIFAR-10's binary files (default: {FOLDER})")
    parser.add_argument("--epochs", type=int, help="default: 3 for the digits, 60 for CIFAR-10")
    parser.add_argument("--width", type=float, default=1.0, help="share of VGG11's channels (default: 1)")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    data = load(options.data)
    epochs = options.epochs or (60 if data.name == "CIFAR-10" else 3)
    network = Vgg11(options.width)
    print(f"VGG11, {sum(each.numel() for each in network.parameters()):,} parameters, on {data.name}: ", end="")
    print(f"{len(data.train):,} images to train on, {len(data.test):,} to test with")
    started = time.perf_counter()
    train(network, data, epochs)
    print(f"trained in {time.perf_counter() - started:.0f} s, PyTorch {torch.__version__}")
    options.output.mkdir(parents=True, exist_ok=True)
    model = export(network)
    top1 = check(model, network, data.test)
    write_whole(options.output / "vgg11.onnx", model.SerializeToString())
    save(data.train, options.output / "calibration.npz", CALIBRATION)
    save(data.test, options.output / "test.npz")
    print(f"test accuracy {top1:.2f} %; written: vgg11.onnx, calibration.npz, test.npz in {options.output}")


def train(network: Vgg11, data: Data, epochs: int) -> None:
    """Fit `network` with SGD on a one-cycle schedule; print loss and test accuracy after each epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    images, labels = torch.from_numpy(preprocessed(data.train)), torch.from_numpy(data.train.labels)
    mirrored = data.name == "CIFAR-10"
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for epoch in range(epochs):
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(labels), generator=generator).split(BATCH):
            batch = augmented(images[chosen], generator, mirrored=mirrored).to(device)
            loss = functional.cross_entropy(network(batch), labels[chosen].to(device), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(labels):.3f}", flush=True)
    network.to("cpu").eval()


def augmented(images: Tensor, generator: torch.Generator, *, mirrored: bool) -> Tensor:
    """Images (N, 3, H, W) moved by up to 3 pixels, and half of them mirrored, which digits do not bear."""
    right, down = torch.randint(-3, 4, (2,), generator=generator).tolist()
    moved = functional.pad(images, (3, 3, 3, 3), mode="replicate")
    moved = moved[:, :, 3 + down : 3 + down + SIZE, 3 + right : 3 + right + SIZE]
    if not mirrored:
        return moved
    turned = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(turned, moved.flip(3), moved)


def preprocessed(pictures: Pictures) -> npt.NDArray[np.float32]:
    """What the network reads: the preset "cifar10", channels first."""
    preset = Preprocess.load("cifar10")
    mean, std = (np.asarray(values, np.float32) for values in (preset.mean, preset.std))
    values = (pictures.images.astype(np.float32) * np.float32(preset.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def export(network: Vgg11) -> onnx.ModelProto:
    """`network` as ONNX, with a free number of samples; batch normalization is kept."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells that torchvision, which is not needed, is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # among its own parts
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 3, SIZE, SIZE),),
            input_names=["image"],
            output_names=["scores"],
            dynamic_shapes={"image": {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # it would fold the batch normalization, which is the toolkit's job to show
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def check(model: onnx.ModelProto, network: Vgg11, test: Pictures) -> float:
    """The accuracy of the exported model in per cent.

    Raises:
        SystemExit: Its scores differ from PyTorch's by more than 1e-3.
    """
    import onnxruntime  # not earlier: importing trtcal switches its telemetry off

    images = preprocessed(test)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = np.concatenate([session.run(["scores"], {"image": each})[0] for each in np.array_split(images, 20)])
    with torch.no_grad():
        expected = network(torch.from_numpy(images[:50])).numpy()
    difference = float(np.abs(scores[:50] - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"ONNX Runtime's scores differ from PyTorch's by {difference:.1e}: the export is wrong")
    return float((scores.argmax(1) == test.labels).mean() * 100)


def save(pictures: Pictures, path: Path, count: int | None = None) -> None:
    """Write images and labels as arrays, the first `count` of them."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=pictures.images[:count], labels=pictures.labels[:count])


if __name__ == "__main__":
    main()
