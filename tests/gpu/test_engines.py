"""Real engines on a real GPU, built here by TensorRT for RTX: what they compute, and how they are timed.

Each is compared with ONNX Runtime running the same model: FP32 kernels may use TF32 (10 bits of mantissa, about 60 dB),
FP16 has as many, and an INT8 engine may round a product to the neighbouring level.
"""

import json
import threading

import numpy as np
import pytest

from calibrators.errors import EngineError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.sessions.tensorrt import TensorRTSession

pytestmark = pytest.mark.gpu

PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def folder(gpu, tmp_path_factory, shared_data):
    """resnet8 as engines, and its Q/DQ model: `fp32.engine`, `fp16.engine`, `int8.engine`, `int8.onnx`."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    import trtcal
    from engines.build.builder import build_engine

    place = tmp_path_factory.mktemp("engines")
    model = shared_data / "models" / "mlperf_tiny_resnet8.onnx"
    images = shared_data / "images" / "cifar10_train_512.npz"
    loader = trtcal.ImageLoader(images, preprocess="raw", batch_size=32, count=256, seed=0)
    cache = trtcal.calibrate(trtcal.collect(model, loader), method="entropy")
    trtcal.quantize(model, cache, output=place / "int8.onnx")
    for precision in PRECISIONS:
        source = place / "int8.onnx" if precision == "int8" else model
        build_engine(
            source,
            output=place / f"{precision}.engine",
            precision=precision,
            backend="tensorrt-rtx",
            shapes="input_1:1x3x32x32..16x3x32x32..64x3x32x32",
        )
    return place


@pytest.fixture(scope="module")
def model(shared_data):
    return shared_data / "models" / "mlperf_tiny_resnet8.onnx"


@pytest.fixture(scope="module")
def images(shared_data):
    return shared_data / "images" / "cifar10_test_2000.npz"


def batch_of(session, count):
    (spec,) = session.inputs
    shape = (count, *(size or 1 for size in spec.shape[1:]))
    return {spec.name: np.random.default_rng(count).uniform(0, 255, shape).astype(spec.dtype)}


def sqnr(expected, given):
    """In dB; infinite where the two are the same."""
    expected, given = expected.astype(np.float64), given.astype(np.float64)
    with np.errstate(divide="ignore"):
        return 10 * np.log10((expected**2).sum() / ((expected - given) ** 2).sum())


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 40), ("fp16", 35), ("int8", 15)])
def test_an_engine_computes_what_the_model_does(folder, model, precision, bound):
    reference = folder / "int8.onnx" if precision == "int8" else model
    with TensorRTSession(folder / f"{precision}.engine") as engine, OnnxRuntimeSession(reference) as runtime:
        batch = batch_of(engine, 64)
        (given,), (expected,) = (list(session.run(batch).values()) for session in (engine, runtime))
        assert given.shape == expected.shape
        assert sqnr(expected, given) > bound


def test_accuracy_beside_the_model(folder, command, model, images):
    engines = [folder / f"{precision}.engine" for precision in PRECISIONS]
    code, out, _ = command("accuracy", model, *engines, "--images", images, "--preprocess", "raw", "--json")
    assert code == 0
    first, fp32, fp16, int8 = json.loads(out)["models"]
    assert first["top1"]["percent"] == pytest.approx(86.80)
    assert abs(fp32["drop"]["points"]) <= 0.5
    assert abs(fp16["drop"]["points"]) <= 0.5
    assert int8["drop"]["points"] <= 2
    assert int8["agreement"]["percent"] >= 93


@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_number_of_samples(folder, precision):
    """Samples mean the same whatever they run beside: in chunks, filled or whole."""
    with TensorRTSession(folder / f"{precision}.engine") as session:
        batch = batch_of(session, 150)
        (whole,) = session.run(batch).values()
        assert len(whole) == 150
        for start, stop in ((0, 1), (5, 12), (140, 150)):
            (part,) = session.run({name: array[start:stop] for name, array in batch.items()}).values()
            assert sqnr(whole[start:stop], part) > 20  # another batch may run another kernel, which rounds otherwise


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_cuda_graph_gives_the_same_bits(folder, precision):
    path = folder / f"{precision}.engine"
    with TensorRTSession(path) as plain, TensorRTSession(path, cuda_graph=True) as graphed:
        for count in (4, 4, 7, 4):
            batch = batch_of(plain, count)
            for expected, given in zip(plain.run(batch).values(), graphed.run(batch).values(), strict=True):
                np.testing.assert_array_equal(given, expected)
        with graphed.execution(cuda_graph=True) as way:
            batch = batch_of(graphed, 4)
            way.run(batch, graphed.profile_for(batch))
            assert way.no_graph == ""


def test_streams_do_not_mix(folder):
    with TensorRTSession(folder / "fp32.engine") as session:
        batches = [batch_of(session, count) for count in (1, 2, 3, 4)]
        alone = [session.run(batch) for batch in batches]
        found = {}

        def work(index):
            with session.execution() as way:
                profile = session.profile_for(batches[index])
                found[index] = [way.run(batches[index], profile) for _ in range(50)]

        workers = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for index, expected in enumerate(alone):
        assert len(found[index]) == 50
        for given in found[index]:
            for name, value in expected.items():
                np.testing.assert_array_equal(given[name], value)


def test_closing_gives_the_memory_back(folder, gpu):
    with TensorRTSession(folder / "fp32.engine") as session:  # what CUDA and TensorRT keep for good
        session.run(batch_of(session, 64))
    before = gpu.device().memory_free
    for _ in range(5):
        with TensorRTSession(folder / "fp32.engine") as session:
            session.run(batch_of(session, 64))
            with session.execution(cuda_graph=True) as way:
                way.run(batch_of(session, 8), 0)
    assert gpu.device().memory_free >= before - 32 * 2**20


def test_a_batch_outside_the_profile(folder):
    with TensorRTSession(folder / "fp32.engine") as session, pytest.raises(EngineError, match="was built for"):
        session.profile_for(batch_of(session, 1000))


@pytest.mark.parametrize("option", ["--cuda-graph", "--no-cuda-graph"])
def test_benchmark_of_every_precision(folder, command, option):
    engines = [folder / f"{precision}.engine" for precision in PRECISIONS]
    arguments = ["--batch-size", "16", "--duration", "0.5", "--streams", "2", option, "--json"]
    code, out, err = command("benchmark", *engines, *arguments)
    assert code == 0
    value = json.loads(out)
    assert value["gpu"]["name"]
    for row in value["models"]:
        parts = [row[part]["median_ms"] for part in ("copy_in", "copy_out")]
        assert 0 < row["median_ms"] < row["latency"]["median_ms"]
        assert row["latency"]["median_ms"] == pytest.approx(row["median_ms"] + sum(parts), rel=0.25)
        assert row["throughput"] > 0
        assert row["cuda_graph"] == (option == "--cuda-graph"), row["no_cuda_graph"]
    fastest = min(value["models"], key=lambda row: row["median_ms"])
    assert ("yet" in err) == (fastest["precision"] != "int8")
