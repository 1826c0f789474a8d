"""Calibrators on a real GPU: what arrives in its memory, and whole builds where TensorRT 8.6 to 10 is installed.

The copies were run through PyCUDA 2026.1 and cuda.bindings 12.8 on a driver in the host's memory
(tests/calibrators/cuda/driver.c), and with cuda.bindings 13.3 on an H100; the builds were not run on a GPU yet.
"""

import numpy as np
import pytest

import trtcal
from calibrators.batches import TensorSpec
from calibrators.tensorrt.calibrator import Calibrator
from tests.calibrators.builder import Builder

pytestmark = pytest.mark.gpu

FLOAT = np.dtype(np.float32)


class Entropy(Calibrator):
    """Without TensorRT's base class, which is not needed for what is tested here."""

    algorithm = "EntropyCalibration2"
    calibrates = True
    _tensorrt = "10.14.1"


def held(cuda, address, size):
    """What the GPU has at an address."""
    with cuda.pinned(size) as pinned, cuda.stream() as stream:
        cuda.copy_out(pinned, address, size, stream)
        stream.synchronize()
        return pinned.array.tobytes()


@pytest.mark.parametrize("size", [1, 4, 16])
@pytest.mark.parametrize("edge", [1, 33, 224])
def test_every_batch_is_whole_on_the_gpu(gpu, size, edge):
    random = np.random.default_rng(edge)
    images = random.normal(size=(48, 3, edge, edge)).astype(np.float32)
    words = random.integers(-9, 9, (48, 5), np.int32)
    batches = [{"words": words[start : start + 7], "images": images[start : start + 7]} for start in range(0, 48, 7)]
    specs = [TensorSpec("images", (size, 3, edge, edge), FLOAT), TensorSpec("words", (size, 5), np.dtype(np.int32))]
    seen = {"words": [], "images": []}
    sizes = {"words": size * 20, "images": size * 3 * edge * edge * 4}

    def taken(names, addresses):
        for name, address in zip(names, addresses, strict=True):
            seen[name].append(held(gpu, address, sizes[name]))

    calibrator = Entropy(batches, cuda=gpu)
    calibrator.prepare(specs)
    Builder(names=["words", "images"], taken=taken).calibrate(calibrator)
    calibrator.finish()
    assert b"".join(seen["images"]) == images.tobytes()
    assert b"".join(seen["words"]) == words.tobytes()


def test_memory_comes_back(gpu):
    batches = [np.zeros((8, 1 << 20), np.float32)] * 4
    free = []
    for _ in range(3):
        calibrator = Entropy(batches, cuda=gpu)
        calibrator.prepare([TensorSpec("x", (8, 1 << 20), FLOAT)])
        Builder(names=["x"]).calibrate(calibrator)
        calibrator.finish()
        free.append(gpu.device().memory_free)
    assert max(free) - min(free) < 8 << 22  # one batch


@pytest.mark.parametrize("name", ["EntropyCalibrator2", "MinMaxCalibrator"])
def test_a_build_calibrates_and_the_next_reads_the_cache(gpu, name, job):
    kind = getattr(trtcal, name)
    if not kind.calibrates:
        pytest.skip(f"no calibrators here: {kind._tensorrt}")
    loader = trtcal.ImageLoader(job / "images", batch_size=4)
    for served in (3, 0):
        calibrator = kind(loader, cache=job / "model.cache")
        trtcal.build_engine(
            job / "model.onnx", backend="tensorrt", calibrator=calibrator, output=job / f"{served}.engine"
        )
        assert calibrator.served == served
    cache = trtcal.CalibrationCache.load(job / "model.cache")
    assert cache.algorithm == kind.algorithm and cache.sidecar is not None and cache.sidecar.images == 12
    assert all(scale > 0 for scale in cache.values())
