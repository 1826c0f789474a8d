"""Sessions, with real models and with small ones made here."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.batches import IMAGE, Batch
from calibrators.errors import DataError, EngineError, ModelError
from engines.graph.cores import usable_cores
from engines.sessions import onnxruntime as sessions
from engines.sessions.onnxruntime import OnnxRuntimeSession, open_session


def model_of(nodes, inputs, outputs, initializers=()):
    """A model from nodes, (name, element type, shape) of inputs and outputs, and arrays by name."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in dict(initializers).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def doubling(batch="N", element=TensorProto.FLOAT):
    """y = x + x for x of shape (batch, 3)."""
    return model_of(
        [helper.make_node("Add", ["x", "x"], ["y"])], [("x", element, [batch, 3])], [("y", element, [batch, 3])]
    )


def with_external_data(folder: Path) -> Path:
    """A model x @ w whose weights lie in `w.data` beside it."""
    weights = np.arange(1024, dtype=np.float32).reshape(32, 32)
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["N", 32])],
        [("y", TensorProto.FLOAT, ["N", 32])],
        {"w": weights},
    )
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path


def test_runs_a_file_and_a_model_in_memory_alike(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(doubling(), path)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for model in (path, str(path), doubling()):
        with OnnxRuntimeSession(model) as session:
            assert [str(spec) for spec in session.inputs] == ["x:Nx3"]
            assert [str(spec) for spec in session.outputs] == ["y:Nx3"]
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
            np.testing.assert_array_equal(session.run({IMAGE: x})["y"], 2 * x)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("samples", [1, 2, 3, 7, 8])
def test_a_fixed_batch_takes_any_number_of_samples(size, samples):
    with OnnxRuntimeSession(doubling(batch=size)) as session:
        assert session.fixed_batch == size
        x = np.random.default_rng(0).standard_normal((samples, 3)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)


@pytest.mark.parametrize("batch", [-1, None, "batch"])
def test_an_open_batch_however_it_is_written(batch):
    with OnnxRuntimeSession(doubling(batch=batch)) as session:
        assert session.fixed_batch is None
        assert session.run({"x": np.ones((5, 3), np.float32)})["y"].shape == (5, 3)


def test_real_models_with_a_fixed_batch(shared_data):
    """A batch gives what its samples give one by one; ultraface lists 244 initializers among its inputs."""
    rng = np.random.default_rng(0)
    for name, key, shape in (("mnist_cnn", "Input3", (1, 28, 28)), ("ultraface_rfb_320", "input", (3, 240, 320))):
        path = shared_data / "models" / f"{name}.onnx"
        with OnnxRuntimeSession(path) as session:
            assert [spec.name for spec in session.inputs] == [key]
            batch = rng.standard_normal((3, *shape)).astype(np.float32)
            together = session.run({key: batch})
            for output, values in together.items():
                alone = np.concatenate([session.run({key: sample[None]})[output] for sample in batch])
                np.testing.assert_array_equal(values, alone)


def test_a_fixed_batch_with_an_output_that_has_no_samples():
    model = model_of(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [("x", TensorProto.FLOAT, [2, 3])],
        [("y", TensorProto.FLOAT, [])],
    )
    with OnnxRuntimeSession(model) as session:
        assert session.run({"x": np.ones((2, 3), np.float32)})["y"] == 6
        with pytest.raises(ModelError, match=r"output y .* no axis of samples .* run it with a batch size of 2"):
            session.run({"x": np.ones((4, 3), np.float32)})


@pytest.mark.parametrize(
    ("element", "given", "wanted"),
    [
        (TensorProto.FLOAT16, np.float32, np.float16),
        (TensorProto.DOUBLE, np.float32, np.float64),
        (TensorProto.INT32, np.int64, np.int32),
        (TensorProto.FLOAT, np.float64, np.float32),
    ],
)
def test_numbers_are_converted_to_the_precision_of_the_input(element, given, wanted):
    with OnnxRuntimeSession(doubling(element=element)) as session:
        result = session.run({"x": np.array([[1, 2, 3]], given)})["y"]
        assert result.dtype == wanted
        np.testing.assert_array_equal(result, [[2, 4, 6]])


def test_two_inputs_by_name():
    model = model_of(
        [helper.make_node("Sub", ["a", "b"], ["c"])],
        [("a", TensorProto.FLOAT, [1, 2]), ("b", TensorProto.FLOAT, [1, 2])],
        [("c", TensorProto.FLOAT, [1, 2])],
    )
    with OnnxRuntimeSession(model) as session:
        a, b = np.ones((3, 2), np.float32), np.full((3, 2), 5, np.float32)
        np.testing.assert_array_equal(session.run(Batch({"b": b, "a": a}))["c"], a - b)
        with pytest.raises(DataError, match="as many for every input, not 3 for a, 2 for b"):
            session.run({"a": a, "b": b[:2]})


def test_external_data_lies_beside_the_file_wherever_the_process_is(tmp_path, monkeypatch):
    path = with_external_data(tmp_path)
    monkeypatch.chdir("/")
    x = np.eye(32, dtype=np.float32)
    with OnnxRuntimeSession(path) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.arange(1024).reshape(32, 32))
    bare = onnx.load(path, load_external_data=False)
    with pytest.raises(ModelError, match="the data of w is in another file"):
        OnnxRuntimeSession(bare)


def test_missing_external_data_is_named(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "w.data").unlink()
    with pytest.raises(ModelError, match=r"cannot open .*model\.onnx.*w\.data"):
        OnnxRuntimeSession(path)


def test_a_model_too_large_for_protobuf_goes_through_a_file(tmp_path):
    """The road of models over 2 GB, with a small one; the model in memory stays as it was."""
    model = onnx.load(with_external_data(tmp_path))
    before = model.SerializeToString()
    runtime = sessions._through_a_file(model, 1, "int8")
    (result,) = runtime.run(None, {"x": np.eye(32, dtype=np.float32)})
    np.testing.assert_array_equal(result, np.arange(1024, dtype=np.float32).reshape(32, 32))
    assert model.SerializeToString() == before


def test_threads_are_stated():
    assert OnnxRuntimeSession(doubling()).threads == usable_cores() >= 1
    assert OnnxRuntimeSession(doubling(), threads=1).threads == 1
    with pytest.raises(ModelError, match="at least 1 thread, not 0"):
        OnnxRuntimeSession(doubling(), threads=0)


def test_a_closed_session_says_so():
    with OnnxRuntimeSession(doubling()) as session:
        pass
    with pytest.raises(ModelError, match="is closed"):
        session.run({"x": np.zeros((1, 3), np.float32)})


def test_concurrent_runs_do_not_mix(shared_data):
    path = shared_data / "models" / "mlperf_tiny_resnet8.onnx"
    batches = [np.full((2, 3, 32, 32), value, np.float32) for value in (0, 80, 160, 240)]
    with OnnxRuntimeSession(path, threads=1) as session:
        alone = [session.run({IMAGE: batch})["Identity"] for batch in batches]
        together: dict[int, np.ndarray] = {}
        workers = [
            threading.Thread(target=lambda i=i: together.update({i: session.run({IMAGE: batches[i]})["Identity"]}))
            for i in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for index, expected in enumerate(alone):
        np.testing.assert_array_equal(together[index], expected)


@pytest.mark.parametrize("content", [b"", b"no model at all" * 20, None])
def test_a_corrupt_model_is_one_line_and_no_noise(tmp_path, shared_data, content):
    path = tmp_path / "corrupt.onnx"
    whole = (shared_data / "models" / "cifar10_resnet20.onnx").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    program = (
        "import sys; from engines.sessions.onnxruntime import open_session\n"
        "try: open_session(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"ModelError ONNX Runtime cannot open {path}: ")
    assert done.stdout.count("\n") == 1
    assert "corrupt" not in done.stderr
    assert "E:onnxruntime" not in done.stderr


def test_a_missing_model_and_a_folder(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.onnx: there is no such file; give an ONNX file"):
        open_session(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelError, match="it is a folder; give an ONNX file"):
        open_session(tmp_path)


@pytest.mark.parametrize("name", ["model.engine", "model.PLAN"])
def test_an_engine_is_told_by_its_name(tmp_path, name):
    with pytest.raises(EngineError, match=f"{name}: there is no such file; give an engine that trtcal build wrote"):
        open_session(tmp_path / name)


def test_what_does_not_fit_is_explained():
    with OnnxRuntimeSession(doubling()) as session:
        with pytest.raises(DataError, match="the model takes x:Nx3, not 2x4"):
            session.run({"x": np.zeros((2, 4), np.float32)})
        with pytest.raises(DataError, match="takes one or more samples"):
            session.run({"x": np.zeros((0, 3), np.float32)})
        with pytest.raises(DataError, match="takes float32, not int64"):
            session.run({"x": np.zeros((2, 3), np.int64)})


def test_a_model_that_fails_while_running():
    model = model_of(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ["N", 3])],
        [("y", TensorProto.FLOAT, [1, 3])],
        {"shape": np.array([1, 3], np.int64)},
    )
    with (
        OnnxRuntimeSession(model) as session,
        pytest.raises(ModelError, match=r"fails on an input of x:2x3: .*Reshape") as caught,
    ):
        session.run({"x": np.zeros((2, 3), np.float32)})
    assert "\n" not in str(caught.value)


def test_inputs_that_no_session_can_feed():
    scalar = model_of(
        [helper.make_node("Add", ["x", "s"], ["y"])],
        [("x", TensorProto.FLOAT, ["N", 3]), ("s", TensorProto.FLOAT, [])],
        [("y", TensorProto.FLOAT, ["N", 3])],
    )
    with pytest.raises(ModelError, match="input s has no axis of samples"):
        OnnxRuntimeSession(scalar)
    uneven = model_of(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        [("a", TensorProto.FLOAT, [2, 3]), ("b", TensorProto.FLOAT, [3, 2])],
        [("c", TensorProto.FLOAT, [2, 2])],
    )
    with pytest.raises(ModelError, match="different batch sizes on their first axis: a:2x3, b:3x2"):
        OnnxRuntimeSession(uneven)
    text = model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.STRING, ["N"])],
        [("y", TensorProto.STRING, ["N"])],
    )
    with pytest.raises(ModelError, match=r"input x is a tensor\(string\), which trtcal cannot handle"):
        OnnxRuntimeSession(text)


def test_importing_the_module_loads_no_runtime():
    program = "import engines.sessions.onnxruntime, sys; print(sorted({'onnx', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert onnxruntime.__version__


@pytest.mark.parametrize("weights", ["float", "integers"])
def test_the_numbers_as_they_are_written(weights):
    """ONNX Runtime rounds a quantized convolution's bias, and even a float weight, unless it is told not to."""
    random = np.random.default_rng(0)
    scales = {"s": np.float32(0.03), "z": np.int8(0), "big": np.float32(0.2), "t": np.float32(0.3)}
    weight = np.clip(random.standard_normal((8, 8, 3, 3)) * 5, -7, 7)
    integers = {"q": weight.astype(np.int8)} if weights == "integers" else {"w": weight.astype(np.float32)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        *([helper.make_node("DequantizeLinear", ["q", "t", "z"], ["w"])] if weights == "integers" else []),
        helper.make_node("Conv", ["b", "w", "bias"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "big", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "big", "z"], ["y"]),
    ]
    bias = {"bias": random.standard_normal(8).astype(np.float32)}
    model = model_of(
        nodes, [("x", TensorProto.FLOAT, ["N", 8, 8, 8])], [("y", TensorProto.FLOAT, None)], scales | integers | bias
    )
    x = {"x": random.standard_normal((4, 8, 8, 8)).astype(np.float32)}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    plain = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(None, x)
    with OnnxRuntimeSession(model, arithmetic="literal") as exact, OnnxRuntimeSession(model) as default:
        off = [np.mean(session.run(x)["y"] != expected) for session in (exact, default)]
    assert off[0] < 1e-3  # a sum in another order may fall on the other side of half a step
    assert off[1] > 10 * max(off[0], 1e-3)
