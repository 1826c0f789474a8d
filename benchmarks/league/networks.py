"""The networks of the league: those that come with trtcal, some made from seeds, and real ones of a folder of data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.images import MEAN, STD, synthetic_image
from benchmarks.league.drawn import lines_of_text, parts_of_photographs
from benchmarks.league.encoder import embeddings, encoder
from benchmarks.models import mobilenet_v2

Samples = npt.NDArray[np.float32]
CIFAR10 = (MEAN.reshape(3), STD.reshape(3))
"""What the ResNet-20 was trained with, although they are ImageNet's."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples a network is calibrated on, and how many it is judged by; and the seed of their choice."""

    calibration: int
    test: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """A float model, and samples as it takes them; none to judge by is calibrated on."""

    model: onnx.ModelProto
    calibration: Samples
    test: Samples

    @property
    def input(self) -> str:
        """The name of its only input."""
        constants = {each.name for each in self.model.graph.initializer}
        return next(each.name for each in self.model.graph.input if each.name not in constants)


Made = Callable[[Path, Counts], Network]
"""From the folder of data, and how many samples."""


def _resnet20(data: Path, counts: Counts) -> Network:
    mean, std = CIFAR10
    taken = _cifar10(data, counts)
    calibration, test = (((part / 255 - mean) / std).transpose(0, 3, 1, 2) for part in taken)
    return _real(data, "cifar10_resnet20", calibration, test)


def _resnet8(data: Path, counts: Counts) -> Network:
    return _real(data, "mlperf_tiny_resnet8", *(part.transpose(0, 3, 1, 2) for part in _cifar10(data, counts)))


def _cifar10(data: Path, counts: Counts) -> tuple[Samples, Samples]:
    return _drawn(_images(data, "cifar10_train_512"), _images(data, "cifar10_test_2000"), counts)


def _keywords(data: Path, counts: Counts) -> Network:
    features = _images(data, "kws01_1000", "features").reshape(-1, 1, 49, 10)
    order = np.random.default_rng(counts.seed).permutation(len(features))
    mixed = features[order]
    half = len(mixed) // 2
    return _real(data, "mlperf_tiny_kws_dscnn", mixed[:half][: counts.calibration], mixed[half:][: counts.test])


def _mnist(name: str, scale: float, data: Path, counts: Counts) -> Network:
    parts = _drawn(_images(data, "mnist_train_1000"), _images(data, "mnist_test_2000"), counts)
    return _real(data, name, *(part.reshape(-1, 1, 28, 28) * np.float32(scale) for part in parts))


def _faces(data: Path, counts: Counts) -> Network:
    total = counts.calibration + counts.test
    pixels = parts_of_photographs(data / "images" / "faces", total, 240, 320, seed=counts.seed)
    return _real(data, "ultraface_rfb_320", *_cut((pixels - 127) / 128, counts))


def _text(name: str, height: int, width: int, turned: bool, data: Path, counts: Counts) -> Network:
    pixels = lines_of_text(counts.calibration + counts.test, height, width, seed=counts.seed, turned=turned)
    return _real(data, name, *_cut(pixels / 127.5 - 1, counts))


def _digits(_: Path, counts: Counts) -> Network:
    from trtcal.demo.digits import load_split

    split = load_split()
    parts = _drawn(split.train.images, split.test.images, counts)
    return _bundled("digits", *(part[:, None] / np.float32(255) for part in parts))


def _scenes(name: str, _: Path, counts: Counts) -> Network:
    from trtcal.demo.digits import load_split
    from trtcal.demo.scenes import make_scenes

    split = load_split()
    parts = [
        np.stack([scene.image for scene in make_scenes(digits, count, seed=counts.seed + 100)])
        for digits, count in ((split.train, counts.calibration), (split.test, counts.test))
    ]
    return _bundled(name, *(part.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255) for part in parts))


def _encoder(seed: int, gain: float, _: Path, counts: Counts) -> Network:
    samples = embeddings(counts.calibration + counts.test, seed=counts.seed)
    return Network(encoder(seed=seed, gain=gain), *_cut(samples, counts))


def _mobilenet_v2(_: Path, counts: Counts) -> Network:
    total = counts.calibration + counts.test
    images = [synthetic_image(np.random.default_rng([counts.seed, number])) for number in range(total)]
    return Network(mobilenet_v2(), *_cut(np.stack(images), counts))


BUNDLED: Mapping[str, Made] = MappingProxyType(
    {
        "digits": _digits,
        "scenes": partial(_scenes, "scenes"),
        "scenes_segment": partial(_scenes, "scenes_segment"),
        "mobilenetv2": _mobilenet_v2,
        "encoder-20": partial(_encoder, 1, 20.0),
        "encoder-60": partial(_encoder, 2, 60.0),
    }
)
"""Those that need no data of others; the digits and scenes need scikit-learn."""

REAL: Mapping[str, Made] = MappingProxyType(
    {
        "resnet20": _resnet20,
        "resnet8": _resnet8,
        "keywords": _keywords,
        "mnist": partial(_mnist, "mnist_cnn", 1.0),
        "lenet": partial(_mnist, "lenet_mnist", 1 / 255),
        "ultraface": _faces,
        "text-detector": partial(_text, "ppocr_v4_det", 160, 320, False),
        "text-direction": partial(_text, "ppocr_v2_cls", 48, 192, True),
    }
)
"""Those of a folder of data, which holds `models/` and `images/`."""


def _images(data: Path, name: str, key: str = "images") -> npt.NDArray[np.uint8]:
    with np.load(data / "images" / f"{name}.npz") as arrays:
        values: npt.NDArray[np.uint8] = arrays[key]
    return values


def _drawn(train: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8], counts: Counts) -> tuple[Samples, Samples]:
    """Samples of each, by the seed."""
    rng = np.random.default_rng(counts.seed)
    first, second = rng.permutation(len(train))[: counts.calibration], rng.permutation(len(test))[: counts.test]
    return train[first].astype(np.float32), test[second].astype(np.float32)


def _cut(samples: npt.NDArray[np.float32], counts: Counts) -> tuple[Samples, Samples]:
    return samples[: counts.calibration], samples[counts.calibration :]


def _real(data: Path, name: str, calibration: Samples, test: Samples) -> Network:
    return Network(onnx.load(data / "models" / f"{name}.onnx"), calibration, test)


def _bundled(name: str, calibration: Samples, test: Samples) -> Network:
    import trtcal.demo

    return Network(onnx.load(Path(trtcal.demo.__file__).with_name(f"{name}.onnx")), calibration, test)
