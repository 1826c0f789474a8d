import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build.builder import build_engine
from engines.inspection.engine_record import Engine
from engines.qdq.write import quantize
from tests.engines.networks import classifier

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One convolution with Q/DQ nodes, one with weights in INT8 alone."""
    random = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "w1": random.integers(-127, 128, (16, 16, 3, 3), np.int8),
        "w2": random.integers(-127, 128, (16, 16, 3, 3), np.int8),
        "w_scales": np.full(16, 0.001, np.float32),
        "w_zeros": np.zeros(16, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"], name="x_Q"),
        helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["xd"], name="x_DQ"),
        helper.make_node("DequantizeLinear", ["w1", "w_scales", "w_zeros"], ["w1d"], name="w1_DQ", axis=0),
        helper.make_node("Conv", ["xd", "w1d"], ["a"], name="full"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("DequantizeLinear", ["w2", "w_scales", "w_zeros"], ["w2d"], name="w2_DQ", axis=0),
        helper.make_node("Conv", ["b", "w2d"], ["y"], name="half"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def engine(model: Path) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    return build_engine(model, output=model.with_suffix(".engine"), rest="fp32").path


def test_how_an_engine_was_built(command: Command, engine: Path) -> None:
    assert "quantization: explicit, by Q/DQ nodes\n" in command("inspect", engine)[1]
    sidecar = Path(f"{engine}.json")
    record = json.loads(sidecar.read_text())
    record |= {"quantization": "implicit", "gpu": {"name": "NVIDIA L4", "compute_capability": "8.9"}}
    record |= {"builder_options": {"optimization_level": 5, "timing_cache": "gpu.timing"}}
    sidecar.write_text(json.dumps(record))
    out = command("inspect", engine)[1]
    assert "built on: NVIDIA L4, compute capability 8.9\n" in out
    assert "quantization: implicit, by TensorRT from calibrated ranges\n" in out
    assert "builder options: optimization level 5, timing cache gpu.timing\n" in out


def test_an_engine(command: Command, engine: Path) -> None:
    code, out, err = command("inspect", engine)
    assert (code, err) == (0, "")
    assert f"{engine}: int8 from m.onnx, tensorrt-rtx " in out
    assert "input x: FP32 1x16x8x8..8x16x8x8..32x16x8x8" in out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert ["full", "Conv", "INT8", "INT8 Nx16x8x8 -> FP32 Nx16x6x6"] in rows
    assert ["half", "Conv", "FP32"] in [row[:3] for row in rows]
    assert out.index("findings: ") < out.index("Findings") < out.index("Weighted operators")
    assert "full_myl" not in out
    assert "Conv, ConvTranspose, Gemm, MatMul: 1 INT8, 1 FP32" in out
    assert "not in INT8: Conv half (FP32)" in out
    assert "float-despite-qdq" in out
    assert "w2_DQ are dequantized at every run" in " ".join(out.replace("│", " ").split())


def test_all_kernels_of_an_engine(command: Command, engine: Path) -> None:
    code, out, err = command("inspect", engine, "--kernels")
    assert (code, err) == (0, "")
    table = out[out.index("Kernels, in the order they run") :]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    kernels = [kernel for kernel in Engine.load(engine).record.kernels or () if kernel.inputs or kernel.outputs]
    assert [row[0] for row in rows] == [kernel.name for kernel in kernels]
    (row,) = [row for row in rows if row[0].startswith("full_myl")]
    assert row[2:4] == ["INT8", "INT8 Nx16x8x8 -> FP32 Nx16x6x6"]
    assert "Weighted operators" not in out


def test_kernels_of_a_model_are_refused(command: Command, model: Path) -> None:
    code, out, err = command("inspect", model, "--kernels")
    assert (code, out, err) == (
        2,
        "",
        f"trtcal: --kernels is for engines, and {model} is an ONNX model: leave it out, or build the model\n",
    )


def test_long_names_are_cut_in_a_narrow_terminal_and_whole_elsewhere(
    command: Command, model: Path, terminal: Callable[[int], None]
) -> None:
    changed, name = onnx.load(model), "/block" * 15 + "/conv"
    changed.graph.node[3].name = name
    onnx.save(changed, model)
    assert name in command("inspect", model)[1]
    terminal(80)
    code, out, _ = command("inspect", model)
    assert code == 0
    assert name not in out
    assert re.search("│ /block/block[^ ]*…[^ ]*conv +│", out)
    assert max(len(line) for line in out.splitlines() if "│" in line) <= 80


def test_an_engine_as_json(command: Command, engine: Path) -> None:
    code, out, _ = command("inspect", engine, "--json")
    value = json.loads(out)
    assert code == 0
    assert value["path"] == str(engine)
    assert {operator["node"]: operator["precision"] for operator in value["operators"]} == {
        "full": "INT8",
        "half": "FP32",
    }
    assert {"float-despite-qdq", "weights-dequantized"} <= {finding["rule"] for finding in value["findings"]}
    assert all(
        {"name", "kind", "nodes", "inputs", "constants", "outputs", "precision"} <= set(layer)
        for layer in value["layers"]
    )


def test_an_engine_whose_layers_are_unknown(command: Command, engine: Path) -> None:
    sidecar = Path(f"{engine}.json")
    value = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(value | {"layers": None, "layers_absent": "the builder's log has no list of layers"}))
    code, out, _ = command("inspect", engine)
    assert code == 0
    assert "what it runs is unknown: the builder's log has no list of layers" in out


def test_an_engine_without_its_own_sidecar(command: Command, engine: Path) -> None:
    engine.write_bytes(b"another")
    code, out, err = command("inspect", engine)
    assert (code, out) == (2, "")
    assert "belongs to another engine" in err
    Path(f"{engine}.json").unlink()
    code, _, err = command("inspect", engine)
    assert code == 2
    assert "gives away its layers only on a GPU" in err
    assert "build it again with trtcal build" in err
    engine.unlink()
    code, _, err = command("inspect", engine)
    assert code == 2
    assert f"no engine {engine}" in err


def test_a_quantized_model(command: Command, model: Path) -> None:
    code, out, err = command("inspect", model)
    assert (code, err) == (0, "")
    cells = [cell.strip() for line in out.splitlines() if "full" in line for cell in line.split("│")[1:-1]]
    assert cells == ["full", "Conv", "INT8 0.05", "INT8 per channel (16, axis 0)", "INT8"]
    assert f"{model}: 1 of 2 weighted operators quantized, 3 Q/DQ pairs" in out
    assert "Conv half runs in float: w2 is quantized, b is not" in out


def test_a_quantized_model_as_json(command: Command, model: Path) -> None:
    code, out, _ = command("inspect", model, "--json")
    value = json.loads(out)
    assert code == 0
    assert [(operator["node"], operator["quantized"]) for operator in value["operators"]] == [
        ("full", True),
        ("half", False),
    ]
    activation, weight = value["operators"][0]["inputs"]
    assert (activation["tensor"], activation["scales"]) == ("x", [pytest.approx(0.05)])
    assert (weight["axis"], len(weight["scales"])) == (0, 16)
    assert [finding["rule"] for finding in value["findings"]] == ["half-quantized"]


def test_a_float_model(command: Command, model: Path) -> None:
    changed = onnx.load(model)
    del changed.graph.node[:]
    changed.graph.node.append(helper.make_node("Relu", ["x"], ["y"], name="relu"))
    changed.graph.output[0].type.CopyFrom(changed.graph.input[0].type)
    onnx.save(changed, model)
    code, out, _ = command("inspect", model)
    assert code == 0
    assert "a float model: trtcal quantize writes Q/DQ nodes" in out


def test_no_model(command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"x")
    for name in ("broken.onnx", "absent.onnx"):
        code, out, err = command("inspect", tmp_path / name)
        assert (code, out) == (2, "")
        assert name in err
        assert err.count("\n") == 1


def test_why_layers_of_a_quantized_model_are_in_float(command: Command, tmp_path: Path) -> None:
    """The scores of four classes; of the float model, of which nothing is quantized yet, no reason is printed."""
    onnx.save(classifier(classes=4), tmp_path / "float.onnx")
    onnx.save(quantize(classifier(classes=4), {"image": 0.05, "a_relu": 0.05}).model, tmp_path / "int8.onnx")
    line = "left in float: scores/MatMul, for its constant operand has fewer than 16 rows or columns, where INT8"
    code, out, _ = command("inspect", tmp_path / "int8.onnx")
    assert code == 0 and line in out
    assert list(json.loads(command("inspect", tmp_path / "int8.onnx", "--json")[1])["left_float"]) == ["scores/MatMul"]
    assert "left in float" not in command("inspect", tmp_path / "float.onnx")[1]


def test_a_build_names_them_as_well(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    onnx.save(quantize(classifier(classes=4), {"image": 0.05, "a_relu": 0.05}).model, tmp_path / "int8.onnx")
    code, _, err = command("build", tmp_path / "int8.onnx", "-o", tmp_path / "int8.engine")
    assert code == 0
    assert "note: scores/MatMul stays in float: its constant operand has fewer than 16 rows or columns" in err
