"""`trtcal accuracy` and `trtcal benchmark` with engines beside ONNX models, as users meet them.

What the engines compute is ONNX Runtime's doing, behind doubles of TensorRT for RTX: see `tests.engine_double`.
"""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build.builder import build_engine
from tests.engine_double import EngineDouble, Tensor
from tests.engine_files import engine_files
from trtcal.data.preprocess import Preprocess


@pytest.fixture
def engine_of(monkeypatch, tmp_path):
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    return engine_files(rtx, monkeypatch, tmp_path)


def classifier(weights):
    """Scores = images of 3x4x4, flattened, @ weights."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def engine_from(model, *, smallest=1, largest=4, dtype="FLOAT", **options):
    """An engine that computes what the model does."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    sizes = tuple((size, 3, 4, 4) for size in (smallest, smallest, largest))
    return EngineDouble(
        [Tensor("image", "INPUT", (-1, 3, 4, 4), dtype, profiles=[sizes]), Tensor("scores", "OUTPUT", (-1, 5), dtype)],
        lambda feed: {"scores": session.run(None, {"image": feed["image"].astype(np.float32)})[0]},
        lambda shapes: {"scores": (shapes["image"][0], 5)},
        **options,
    )


@pytest.fixture
def weights():
    return np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)


@pytest.fixture
def model(weights, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(classifier(weights), path)
    return path


@pytest.fixture
def data(weights, tmp_path):
    """30 samples with the labels that the model gives them."""
    images = np.random.default_rng(1).standard_normal((30, 3, 4, 4)).astype(np.float32)
    path = tmp_path / "data.npz"
    np.savez(path, image=images, labels=(images.reshape(30, -1) @ weights).argmax(axis=1))
    return path


def one_line(err):
    return err.startswith("trtcal: ") and err.count("\n") == 1


class TestAccuracy:
    def test_an_engine_beside_its_model(self, command, engine_of, model, weights, data):
        """30 samples in batches of 8, of which the engine takes 4 at a time; in FP16 it differs a little."""
        double, path = engine_of(engine_from(classifier(weights), dtype="HALF"))
        code, out, _ = command("accuracy", model, path, "--images", data, "--json", "--preprocess", "none")
        assert code == 0
        value = json.loads(out)
        assert value["reference"] == "model.onnx"
        first, second = value["models"]
        assert second["name"] == "double.engine"
        assert first["top1"]["percent"] == 100
        assert second["samples"] == 30
        assert second["top1"]["percent"] >= 90
        assert 40 < second["sqnr_db"] < 90
        assert [shapes["image"][0] for shapes in double.enqueued] == [4, 4] * 3 + [4, 2]
        assert double.cuda.alive == []

    def test_two_engines_and_a_bound(self, command, engine_of, model, weights, data):
        engine_of(engine_from(classifier(weights)))
        rough = np.round(weights / 3) * 3
        _, path = engine_of(engine_from(classifier(rough)), "rough")
        engines = [path.with_name("double.engine"), path]
        code, out, err = command(
            "accuracy", *engines, "--reference", model, "--max-drop", "1", "--images", data, "--preprocess", "none"
        )
        assert code == 1
        assert "rough.engine drops top-1 by" in err
        assert "double.engine" in out
        assert "identical" in out

    def test_the_preprocessing_is_that_of_the_engines_side_car(self, command, engine_of, weights, data, tmp_path):
        preprocess = Preprocess.load("none").to_dict()
        _, path = engine_of(engine_from(classifier(weights)), preprocess=preprocess)
        code, out, err = command("accuracy", path, "--images", data, "--json")
        assert code == 0
        assert f"Preprocessing from {path}.json" in err
        assert json.loads(out)["models"][0]["top1"]["percent"] == 100

    def test_labels_alone(self, command, engine_of, weights, data):
        _, path = engine_of(engine_from(classifier(weights)))
        code, out, _ = command("accuracy", path, "--images", data, "--json", "--preprocess", "none")
        assert code == 0
        assert json.loads(out)["models"][0]["top1"]["percent"] == 100


class TestBenchmark:
    def test_json_of_engines(self, command, engine_of, weights):
        times = {"fp32": 4.0, "fp16": 2.0, "int8": 3.0}
        paths = []
        for name, time in times.items():
            double, path = engine_of(
                engine_from(classifier(weights), kernel_time=time, data=name.encode()), name, precision=name
            )
            paths.append(path)
        code, out, err = command("benchmark", *paths, "--duration", "0.05", "--batch-size", "2", "--json")
        assert code == 0
        value = json.loads(out)
        assert value["runtime"]["name"] == "tensorrt-rtx"
        assert value["threads"] is None
        assert value["gpu"]["name"] == "NVIDIA Test GPU"
        rows = value["models"]
        assert [each["precision"] for each in rows] == list(times)
        assert [each["median_ms"] for each in rows] == pytest.approx(list(times.values()))
        assert [each["speedup"] for each in rows] == pytest.approx([1, 2, 4 / 3])
        assert [each["quantized"] for each in rows] == [False, False, True]
        assert {each["device"] for each in rows} == {"gpu"}
        assert all(each["throughput"] > 0 and each["batch_size"] == 2 for each in rows)
        assert "warning: int8.engine is INT8, yet fp16.engine (FP16) is faster, 1.50 times" in err
        assert double.cuda.alive == []

    def test_the_table_states_what_was_measured(self, command, engine_of, weights):
        _, path = engine_of(engine_from(classifier(weights)))
        code, out, _ = command("benchmark", path, "--duration", "0.02", "--streams", "2", "--cuda-graph")
        assert code == 0
        assert "GPU time in ms, batch size 1: tensorrt-rtx" in out
        assert "on NVIDIA Test GPU, random inputs, CUDA graphs; samples/s with copies, 2 stream(s)" in out
        for heading in ("precision", "median", "p99", "latency", "H2D", "D2H", "enqueue", "samples/s", "speed-up"):
            assert heading in out

    def test_a_narrow_terminal_shows_the_main_figures_whole(self, command, engine_of, weights, terminal):
        _, path = engine_of(engine_from(classifier(weights)))
        terminal(80)
        code, out, _ = command("benchmark", path, "--duration", "0.02")
        assert code == 0
        (headings,) = [line for line in out.splitlines() if line.startswith("┃")]
        shown = [cell.strip() for cell in headings.split("┃")[1:-1]]
        assert shown == ["model", "precision", "median", "p99", "latency", "samples/s", "speed-up"]
        assert max(map(len, out.splitlines())) <= 80

    def test_models_on_both_are_told_apart(self, command, engine_of, model, weights):
        _, path = engine_of(engine_from(classifier(weights)))
        code, out, err = command("benchmark", model, path, "--duration", "0.02", "--threads", "1", "--json")
        assert code == 0
        value = json.loads(out)
        assert [each["device"] for each in value["models"]] == ["cpu", "gpu"]
        assert [each["runtime"]["name"] for each in value["models"]] == ["onnxruntime", "tensorrt-rtx"]
        assert [each["speedup"] for each in value["models"]] == [1, 1]
        assert value["threads"] == 1
        assert "ONNX models ran on the CPU and engines on the GPU: their times are not compared" in err
        code, out, _ = command("benchmark", path, model, "--duration", "0.02")
        assert code == 0
        assert "ONNX Runtime" in out
        assert "GPU time in ms" in out

    def test_no_graph_is_told(self, command, engine_of, weights):
        _, path = engine_of(engine_from(classifier(weights), capturable=False))
        code, out, err = command("benchmark", path, "--duration", "0.02", "--cuda-graph", "--json")
        assert code == 0
        assert not json.loads(out)["models"][0]["cuda_graph"]
        assert "warning: double.engine runs without a CUDA graph: TensorRT says" in err

    def test_a_batch_outside_the_profile(self, command, engine_of, weights):
        _, path = engine_of(engine_from(classifier(weights), smallest=2))
        for size in ("1", "5"):
            code, out, err = command("benchmark", path, "--batch-size", size)
            assert (code, out) == (2, "")
            assert one_line(err)
            assert f"was built for image:2x3x4x4..2x3x4x4..4x3x4x4, not image:{size}x3x4x4" in err
        assert command("benchmark", path, "--batch-size", "3", "--duration", "0.01", "--json")[0] == 0

    @pytest.mark.parametrize("option", [["--streams", "2"], ["--cuda-graph"], ["--no-cuda-graph"]])
    def test_options_of_engines_without_one(self, command, model, option):
        code, out, err = command("benchmark", model, *option)
        assert (code, out) == (2, "")
        assert one_line(err)
        assert "--streams and --cuda-graph are for engines, and there is none among the models" in err

    def test_threads_without_an_onnx_model(self, command, engine_of, weights, data):
        _, path = engine_of(engine_from(classifier(weights)))
        for arguments in (["accuracy", "--images", data], ["benchmark"]):
            code, out, err = command(arguments[0], path, *arguments[1:], "--threads", "2")
            assert (code, out) == (2, "")
            assert one_line(err)
            assert "--threads is for ONNX models, and there is none among the models: leave it out" in err

    def test_streams_that_mean_nothing(self, command, engine_of, weights):
        _, path = engine_of(engine_from(classifier(weights)))
        code, out, err = command("benchmark", path, "--streams", "0")
        assert (code, out) == (2, "")
        assert "the number of streams is from 1 to 64, not 0" in err


def test_a_real_engine_without_a_gpu_is_one_line(command, tmp_path, model, data, gpu_absent):
    build_engine(model, output=tmp_path / "real.engine", precision="fp32", backend="tensorrt-rtx")
    engine = tmp_path / "real.engine"
    for arguments in (["accuracy", model, engine, "--images", data], ["benchmark", engine]):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert one_line(err)
        assert "real.engine: TensorRT-RTX" in err
        assert "trtcal doctor" in err


class TestBenchmarkBesideAnEngineThatCannotRun:
    """The rest is measured; the engine is named with the reason, and the exit code is 1."""

    def test_on_the_terminal(self, command, tmp_path, model, gpu_absent):
        build_engine(model, output=tmp_path / "real.engine", precision="fp32", backend="tensorrt-rtx")
        code, out, err = command("benchmark", model, tmp_path / "real.engine", "--duration", "0.02", "--streams", "2")
        assert code == 1
        assert model.name in out
        assert "real.engine" not in out
        last = err.splitlines()[-1]
        assert last.startswith("trtcal: 1 of 2 models cannot run here and was not measured: real.engine: ")
        assert "TensorRT-RTX" in last and "trtcal doctor" in last

    def test_for_programs_whatever_the_reason(self, command, tmp_path, model):
        """Files that no TensorRT has written, of which one is even empty."""
        (tmp_path / "cut.engine").write_bytes(b"ftrt cut short")
        (tmp_path / "empty.plan").write_bytes(b"")
        paths = [tmp_path / "cut.engine", model, tmp_path / "empty.plan"]
        code, out, err = command("benchmark", *paths, "--duration", "0.02", "--json")
        assert code == 1
        said = json.loads(out)
        assert [each["name"] for each in said["models"]] == [model.name]
        assert [each["name"] for each in said["absent"]] == ["cut.engine", "empty.plan"]
        assert "empty.plan is an empty file" in said["absent"][1]["reason"]
        assert "2 of 3 models cannot run here and were not measured" in err.splitlines()[-1]

    def test_an_engine_that_is_not_there_is_bad_input(self, command, tmp_path, model):
        code, out, err = command("benchmark", model, tmp_path / "none.engine", "--duration", "0.02")
        assert (code, out) == (2, "")
        assert one_line(err)
        assert "there is no such file" in err


@pytest.fixture
def gpu_absent():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    from trtcal.machine.nvml import nvidia

    if nvidia().gpus:
        pytest.skip("there is a GPU here")
