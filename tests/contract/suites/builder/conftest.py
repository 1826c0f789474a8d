"""What the suites about builds share: models, a GPU, a place for the engine."""

import onnx
import pytest

from tests.calibrators.device import FakeCuda
from tests.engines.conftest import Network


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """A GPU in the memory of the host."""
    cuda = FakeCuda()
    for module in ("calibrators.cuda.device", "calibrators.tensorrt.calibrator"):
        monkeypatch.setattr(f"{module}.open_cuda", lambda: cuda)
    yield cuda
    assert cuda.taken == cuda.pinned_taken == 0


@pytest.fixture
def plain(tmp_path):
    """Two float convolutions, c1 and c2, for inputs x of N,16,8,8."""
    built = Network("N", 16, 8, 8)
    first = built.conv("x", "c1", (16, 16), activations=False, weights=False)
    onnx.save(built.model(built.conv(first, "c2", (16, 16), activations=False, weights=False)), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


@pytest.fixture
def quantized(tmp_path):
    """The same with Q/DQ nodes."""
    built = Network("N", 16, 8, 8)
    onnx.save(built.model(built.conv(built.conv("x", "c1", (16, 16)), "c2", (16, 16))), tmp_path / "quantized.onnx")
    return tmp_path / "quantized.onnx"


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model.engine"


@pytest.fixture
def weak(trt):
    """Whether the builder chooses types and calibrates: TensorRT up to 10."""
    return hasattr(trt.BuilderFlag, "INT8")


@pytest.fixture
def only_weak(weak):
    if not weak:
        pytest.skip("this TensorRT has no calibrators and no precisions of layers")


@pytest.fixture
def only_strong(weak):
    if weak:
        pytest.skip("this TensorRT has calibrators and precisions of layers")
