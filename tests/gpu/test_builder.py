"""Builds with the `tensorrt` that is installed, on a real GPU.

Nothing here was run on a GPU yet: tests/contract has the same builds against doubles of each version's classes.
"""

import numpy as np
import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError
from calibrators.ranges import calibrate
from calibrators.tensorrt import int8
from engines.backends.backend import BuildOptions
from engines.backends.tensorrt import TensorRT
from engines.build.builder import build_engine
from engines.build.request import open_backend
from engines.collection.collect import collect
from tests.engines.conftest import Network

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]


@pytest.fixture
def backend():
    pytest.importorskip("tensorrt", reason="tensorrt is not installed (pip install trtcal[tensorrt])")
    return TensorRT()


@pytest.fixture
def plain(tmp_path):
    """Two convolutions for inputs x of N,16,32,32."""
    built = Network("N", 16, 32, 32)
    first = built.conv("x", "c1", (16, 32), activations=False, weights=False)
    onnx.save(built.model(built.conv(first, "c2", (32, 32), activations=False, weights=False)), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def build(backend, plain, tmp_path):
    def built(**options):
        return build_engine(plain, output=tmp_path / "m.engine", backend="tensorrt", **options).record

    return built


def batches():
    random = np.random.default_rng(0)
    return [random.normal(0, 1, (4, 16, 32, 32)).astype(np.float32) for _ in range(4)]


def test_auto_takes_it(backend, gpu):
    found = open_backend()
    assert found.name == "tensorrt"
    assert found.gpu.compute_capability == gpu.device().compute_capability


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_builds(build, precision):
    assert build(precision=precision).precision == precision


def test_a_calibrator(build, backend, tmp_path):
    record = build(calibrator=int8.EntropyCalibrator2(batches(), cache=tmp_path / "m.cache"))
    assert record.quantization == ("implicit" if backend.calibrates else "explicit")
    cache = CalibrationCache.load(tmp_path / "m.cache")
    assert {"x", "c1_relu_out"} <= set(cache)
    again = build(cache=tmp_path / "m.cache")
    assert again.cache_sha256 == cache.sha256


@pytest.mark.parametrize("tensors", ["all", "quantizable"])
def test_a_cache_computed_without_tensorrt(build, backend, plain, tensors):
    cache = calibrate(collect(plain, batches(), tensors=tensors))
    record = build(cache=cache)
    assert record.quantization == ("implicit" if backend.calibrates and tensors == "all" else "explicit")


def test_layers_in_a_precision(build, backend):
    if backend.strongly_typed:
        pytest.skip("the model says the type of each layer")
    build(precision="fp16", options=BuildOptions(layer_precisions={"c1": "fp32"}))
    with pytest.raises(BuildError, match="no layer fits"):
        build(precision="fp16", options=BuildOptions(layer_precisions={"nothing*": "fp32"}))


def test_a_timing_cache(build, tmp_path):
    path = tmp_path / "times"
    build(precision="fp16", options=BuildOptions(timing_cache=path))
    first = path.read_bytes()
    build(precision="fp16", options=BuildOptions(timing_cache=path))
    assert len(path.read_bytes()) >= len(first) > 0
    path.write_bytes(b"no timing cache")
    with pytest.raises(BuildError, match=r"the timing cache .* is corrupt"):
        build(precision="fp16", options=BuildOptions(timing_cache=path))


def test_a_workspace_and_the_rest(build):
    options = BuildOptions(workspace=1 << 28, optimization_level=1, sparsity=True, hardware_compatibility="ampere+")
    assert build(precision="fp16", options=options).builder_options["workspace"] == 1 << 28
