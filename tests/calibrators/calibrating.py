"""What tests of calibrators share: data, a calibrator without TensorRT, and a look into the GPU's memory."""

from pathlib import Path

import numpy as np

from calibrators.batches import Array, TensorSpec
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.tensorrt.calibrator import Calibrator
from tests.calibrators.device import FakeCuda

MODEL = "a" * 64
FLOAT = np.dtype(np.float32)
WRITTEN = b"TRT-101401-EntropyCalibration2\nx: 3c010a14\ny: 3d000000\n"


class Entropy(Calibrator):
    """As `calibrators.tensorrt.int8` makes it, without TensorRT's base class; tests/contract has those."""

    algorithm = "EntropyCalibration2"
    calibrates = True
    _tensorrt = "10.14.1.48"


def specs(size: int = 2) -> list[TensorSpec]:
    return [TensorSpec("x", (size, 3), FLOAT)]


def numbered(*sizes: int) -> list[Array]:
    samples = np.arange(sum(sizes) * 3, dtype=np.float32).reshape(-1, 3)
    return np.split(samples, np.cumsum(sizes)[:-1])


def existing(path: Path, header: str = "TRT-101401-EntropyCalibration2", model: str = MODEL) -> bytes:
    """A cache of the model, as TensorRT and we leave it."""
    cache = CalibrationCache.parse(f"{header}\nx: 3a000000\n")
    versions = {"tensorrt": "10.14.1"}
    cache.sidecar = Sidecar(model, "entropy", "all", ("b" * 64,), images=5, versions=versions)
    cache.save(path)
    return path.read_bytes()


class Reader:
    """Notes what the GPU holds at the addresses of each batch, in the order of the names."""

    def __init__(self, cuda: FakeCuda, sizes: dict[str, int]) -> None:
        self.cuda, self.sizes = cuda, sizes
        self.seen: list[list[bytes]] = []

    def __call__(self, names: list[str], addresses: list[int]) -> None:
        self.seen.append(
            [self.cuda.read(address, self.sizes[name]) for name, address in zip(names, addresses, strict=True)]
        )
