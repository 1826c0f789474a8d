"""The VGG11 that a script trains, and the example that simulates its quantization: narrow, and for one epoch or two."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", "2.8", reason="PyTorch 2.8 is not installed (extra [train])")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "train_vgg.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_vgg", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_vgg11(script: ModuleType) -> None:
    network = script.Vgg11()
    convolutions = [each for each in network.modules() if type(each).__name__ == "Conv2d"]
    assert [each.out_channels for each in convolutions] == [64, 128, 256, 256, 512, 512, 512, 512]
    assert sum(each.numel() for each in network.parameters()) == 9_228_362


def test_moved_images_keep_shape_and_range(script: ModuleType) -> None:
    images = torch.rand(7, 3, 32, 32)
    for mirrored in (True, False):
        augmented = script.augmented(images, torch.Generator().manual_seed(0), mirrored=mirrored)
        assert augmented.shape == images.shape
        assert float(augmented.min()) >= float(images.min()) and float(augmented.max()) <= float(images.max())


@pytest.mark.slow
def test_from_training_to_encodings(tmp_path: Path) -> None:
    trained = run(tmp_path, str(SCRIPT), "--output", "vgg", "--width", "0.125", "--epochs", "2")
    assert "digits" in trained and "1,000 images to train on, 600 to test with" in trained
    shown = run(tmp_path, str(ROOT / "examples" / "05_vgg11.py"), "vgg")
    accuracy = {
        name: float(top1) for name, top1 in re.findall(r"^(FP32|simulated): top-1 ([0-9.]+) % of 600", shown, re.M)
    }
    assert f"test accuracy {accuracy['FP32']:.2f} %" in trained
    assert accuracy["FP32"] > 60
    assert abs(accuracy["FP32"] - accuracy["simulated"]) <= 1.5
    names = sorted(path.name for path in (tmp_path / "vgg").iterdir())
    assert {"vgg11.simulated.encodings", "vgg11.simulated.onnx", "vgg11.simulated.qdq.onnx"} <= set(names)


@pytest.mark.slow
def test_it_reads_cifar10(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = {}
    for name, count in (("data_batch_1.bin", 100), ("test_batch.bin", 20)):
        records[name] = random.integers(0, 256, (count, 3073), np.uint8)
        records[name][:, 0] %= 10
        (folder / name).write_bytes(records[name].tobytes())
    shown = run(tmp_path, str(SCRIPT), "--width", "0.125", "--epochs", "1")
    assert "on CIFAR-10: 100 images to train on, 20 to test with" in shown
    with np.load(tmp_path / "vgg" / "test.npz") as test:
        assert test["labels"].tolist() == records["test_batch.bin"][:, 0].tolist()
        assert test["images"][3, 2, 1].tolist() == records["test_batch.bin"][3, 1 + 2 * 32 + 1 :: 1024].tolist()
