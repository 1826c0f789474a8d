"""`trtcal benchmark` as users meet it."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.graph.cores import usable_cores
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.speed.benchmark import random_batch


def small(path, nodes, shape=("N", 3)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def relu(tmp_path):
    return small(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])])


@pytest.fixture
def rounding(tmp_path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    return small(tmp_path / "rounding.int8.onnx", nodes)


def test_json_of_real_models(command, shared_data):
    paths = [shared_data / "models" / f"{name}.onnx" for name in ("cifar10_resnet20", "mlperf_tiny_resnet8")]
    code, out, err = command("benchmark", *paths, "--duration", "0.1", "--threads", "1", "--batch-size", "2", "--json")
    assert code == 0
    value = json.loads(out)
    assert (value["threads"], value["duration_s"], value["percentiles"]) == (1, 0.1, "linear")
    assert value["runtime"]["name"] == "onnxruntime"
    first, second = value["models"]
    assert [first["name"], second["name"]] == [path.name for path in paths]
    assert first["speedup"] == 1
    assert second["speedup"] == pytest.approx(first["median_ms"] / second["median_ms"])
    assert first["batch_size"] == second["batch_size"] == 2
    assert first["minimum_ms"] <= first["median_ms"] <= first["p90_ms"] <= first["p99_ms"] <= first["maximum_ms"]
    assert first["throughput"] == pytest.approx(2000 / first["median_ms"])
    assert "Measuring 2 model(s)" in err
    assert all(note in err for note in value["notes"])


def test_repeats_are_in_the_table_and_in_json(command, relu, rounding):
    code, out, err = command("benchmark", relu, rounding, "--runs", 4, "--repeat", 3)
    assert code == 0, err
    assert "Measuring 2 model(s) for 3 x 4 runs each, after a warm-up" in err
    heading, *rows = [line[1:-1].split(line[0]) for line in out.splitlines() if line[:1] in "│┃"]
    cells = [dict(zip((each.strip() for each in heading), (each.strip() for each in row), strict=True)) for row in rows]
    assert [each["runs"] for each in cells] == ["12", "12"]
    assert all(len(each["means of repeats"].split(", ")) == 3 for each in cells)
    value = json.loads(command("benchmark", relu, "--runs", 4, "--repeat", 3, "--json")[1])
    assert (value["runs"], value["repeat"], value["models"][0]["runs"]) == (4, 3, 12)
    means = value["models"][0]["repeat_means_ms"]
    assert sum(means) / 3 == pytest.approx(value["models"][0]["mean_ms"])
    assert "means of repeats" not in command("benchmark", relu, "--runs", 4)[1]


def test_table_states_what_was_measured(command, relu, rounding):
    code, out, err = command("benchmark", relu, rounding, "--duration", "0.05", "--threads", "2")
    assert code == 0
    assert "batch size 1: ONNX Runtime" in out
    assert "2 thread(s), random inputs; samples/s at the median" in out
    for heading in ("median", "p90", "p95", "p99", "mean", "min", "max", "variation", "samples/s", "speed-up"):
        assert heading in out
    assert "1.00x" in out
    assert "says nothing about TensorRT on a GPU" in err


def test_a_narrow_terminal_shows_the_main_figures_whole(command, relu, rounding, terminal):
    terminal(80)
    code, out, _ = command("benchmark", relu, rounding, "--duration", "0.02")
    assert code == 0
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    (headings,) = [line for line in out.splitlines() if line.startswith("┃")]
    assert [cell.strip() for cell in headings.split("┃")[1:-1]] == ["model", "median", "p99", "samples/s", "speed-up"]
    assert [row[0].strip() for row in rows] == ["relu.onnx", "rounding.int8.onnx"]
    assert all(float(cell.strip().removesuffix("x")) > 0 for row in rows for cell in row[1:])
    assert max(map(len, out.splitlines())) <= 80


def test_one_model_twice_is_told_apart(command, relu):
    _, out, _ = command("benchmark", relu, relu, "--duration", "0.02", "--json")
    assert [each["name"] for each in json.loads(out)["models"]] == ["relu.onnx", "relu.onnx #2"]


def test_quantized_models_are_marked(command, relu, rounding):
    _, out, _ = command("benchmark", relu, rounding, "--duration", "0.02", "--json")
    value = json.loads(out)
    assert [each["quantized"] for each in value["models"]] == [False, True]
    assert sum("Q/DQ model on a CPU says nothing about TensorRT" in note for note in value["notes"]) == 1


def test_open_sizes_need_a_shape(command, tmp_path):
    path = small(tmp_path / "open.onnx", [helper.make_node("Relu", ["x"], ["y"])], ("N", 3, "height", "width"))
    code, out, err = command("benchmark", path)
    assert (code, out) == (2, "")
    assert "open.onnx leaves height, width of its input x:Nx3xheightxwidth open" in err
    assert "--shapes x:1x3xSIZExSIZE" in err
    code, out, _ = command("benchmark", path, "--shapes", "x:1x3x8x8..4x3x8x8..9x3x8x8", "--duration", "0.02", "--json")
    assert code == 0
    assert json.loads(out)["models"][0]["batch_size"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "the batch size must be 1 or more, not 0"),
        (["--duration", "0"], "the duration must be a number of seconds greater than 0, not 0"),
        (["--duration", "nan"], "the duration must be a number of seconds greater than 0, not nan"),
        (["--duration", "-1"], "the duration must be a number of seconds greater than 0, not -1"),
        (["--duration", "inf"], "the duration must be a number of seconds greater than 0, not inf"),
        (["--seed", "-1"], "the seed must be 0 or more, not -1"),
        (["--repeat", "3"], "give --runs N beside --repeat"),
        (["--runs", "9", "--duration", "1"], "--duration and --runs both say how long to measure"),
        (["--runs", "0"], "Invalid value for '--runs'"),
        (["--runs", "10000000", "--repeat", "2"], "10000000 in all at most"),
        (["--batch-size", "1000000000000000"], "relu.onnx, input x: 1000000000000000x3 does not fit in memory"),
        (["--batch-size", "9000000000000000000"], "relu.onnx, input x: 9000000000000000000x3 does not fit in memory"),
        (["--threads", "100000"], f"100000 threads are too many for {usable_cores()} core(s): give "),
        (["--threads", "0"], "a session needs at least 1 thread, not 0"),
        (["--shapes", "x=1x3"], "cannot read the shapes 'x=1x3'"),
        (["--shapes", "z:1x3"], "no model has an input z: the inputs are x"),
        (["--shapes", "x:1x4"], "relu.onnx takes x:Nx3, not 1x4"),
        (["--shapes", "x:4x3", "--batch-size", "2"], "the batch sizes differ: --batch-size 2, --shapes x 4"),
    ],
)
def test_bad_options_are_one_line(command, relu, arguments, message):
    code, out, err = command("benchmark", relu, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("trtcal: ")
    assert err.count("\n") == 1


def test_a_model_that_cannot_run_is_one_line(command, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value_float=1.0)],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "c.onnx")
    code, out, err = command("benchmark", tmp_path / "c.onnx")
    assert (code, out) == (2, "")
    assert err.startswith("trtcal: ")
    assert err.count("\n") == 1
    assert "takes one or more samples, as many for every input, not none" in err


def test_models_that_are_none(command, relu, tmp_path):
    (tmp_path / "corrupt.onnx").write_bytes(b"nothing")
    for name, message in (
        ("missing.onnx", "there is no such file"),
        ("corrupt.onnx", "ONNX Runtime cannot open"),
        ("model.engine", "there is no such file; give an engine"),
    ):
        code, out, err = command("benchmark", relu, tmp_path / name)
        assert (code, out) == (2, "")
        assert err.startswith("trtcal: ")
        assert err.count("\n") == 1
        assert message in err
        assert name in err


def test_a_fixed_batch_is_not_stretched(command, shared_data):
    code, _, err = command("benchmark", shared_data / "models" / "mnist_cnn.onnx", "--batch-size", "8")
    assert code == 2
    assert "the batch sizes differ: --batch-size 8, mnist_cnn.onnx (fixed) 1" in err


def test_inputs_are_the_same_for_every_model(command, shared_data):
    """The same seed and shape give the same numbers, so no model is timed on easier data."""
    models = [
        OnnxRuntimeSession(shared_data / "models" / f"{n}.onnx") for n in ("cifar10_resnet20", "mlperf_tiny_resnet8")
    ]
    one, other = (next(iter(random_batch("m", model.inputs, 2, {}, 0).values())) for model in models)
    np.testing.assert_array_equal(one, other)
