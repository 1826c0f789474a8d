import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import trtcal
from calibrators.cache.text import CalibrationCache
from engines.inspection.engine_record import Engine

Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("needs_rtx")


@pytest.fixture
def needs_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two convolutions for inputs of N,3,8,8."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(0, 0.2, shape).astype(np.float32), name)
        for name, shape in (("w1", (8, 3, 3, 3)), ("w2", (4, 8, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["y"], name="second"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 4, 4])
    graph = helper.make_graph(nodes, "g", [image], [result], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    CalibrationCache({"image": 0.01, "a": 0.02, "b": 0.02, "y": 0.02}).save(tmp_path / "m.cache")
    return tmp_path / "m.cache"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels)
    return tmp_path / "images.npz"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "m.engine"


def test_from_a_cache(command: Command, model: Path, cache: Path, target: Path) -> None:
    code, out, err = command("build", model, "--cache", cache, "-o", target)
    assert code == 0
    first, operators, kernels = out.splitlines()
    assert first.startswith(f"{target}: tensorrt-rtx ")
    assert first.endswith("compute capability 8.0, 8.6, 8.9, 12.0 and later")
    assert operators == "Conv, ConvTranspose, Gemm, MatMul: 2 INT8"
    assert kernels.startswith("kernels: 2 INT8, ")
    assert "note: input image:Nx3x8x8 has a dynamic batch: built for 1x3x8x8..8x3x8x8..32x3x8x8" in err
    assert Engine.load(target).record.operators_by_precision == {"INT8": 2}


def test_from_images(command: Command, model: Path, images: Path, target: Path) -> None:
    code, out, _ = command(
        "build", model, "--images", images, "--preprocess", "unit", "--count", 4, "--json", "-o", target
    )
    assert code == 0
    value = json.loads(out)
    assert value["output"] == str(target)
    assert value["sidecar"] == f"{target}.json"
    assert value["operators_by_precision"] == {"INT8": 2}
    assert "layers" not in value
    assert value["preprocess"]["scale"] == pytest.approx(1 / 255)
    assert value["cache"]["file"] is None
    assert len(value["cache"]["sha256"]) == 64


def test_images_and_their_cache_give_the_same_engine(command: Command, model: Path, images: Path, target: Path) -> None:
    calibration = ["--images", images, "--preprocess", "unit"]
    cache = target.with_name("m.cache")
    assert command("calibrate", model, *calibration, "--tensors", "quantizable", "-o", cache)[0] == 0
    values = []
    for options in (calibration, ["--cache", cache]):
        code, out, _ = command("build", model, *options, "-o", target, "--json")
        assert code == 0
        values.append(json.loads(out))
    assert values[0]["cache"]["sha256"] == values[1]["cache"]["sha256"]
    assert values[0]["preprocess"] == values[1]["preprocess"]
    assert [value["cache"]["file"] for value in values] == [None, "m.cache"]


def test_every_option(command: Command, model: Path, cache: Path, target: Path) -> None:
    code, out, err = command(
        "build", model, "--cache", cache, "--rest", "fp32", "--backend", "tensorrt-rtx", "--shapes", "image:2x3x8x8",
        "--compute-capability", "86", "--compute-capability", "12.0", "--log", target.with_name("m.log"), "-o", target,
    )  # fmt: skip
    assert code == 0
    assert "compute capability 8.6, 12.0" in out
    line, how, larger = err.splitlines()
    assert re.match(r"warning: the INT8 engine has 0.\d\d MB, an FP32 one of the same model 0.\d\d MB: ", larger)
    assert how == "note: TensorRT-RTX has no calibrators: Q/DQ nodes were written into the model"
    assert re.match(r"note: 2 of the \d FP32 kernels finish INT8 convolutions and products, which write FP32", line)
    assert line.endswith("must be measured on the GPU")
    assert Engine.load(target).record.rest == "fp32"
    assert "[verbose] Layers:" in target.with_name("m.log").read_text()


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_in_float(command: Command, model: Path, target: Path, precision: str) -> None:
    code, out, err = command("build", model, "--precision", precision, "-o", target)
    assert code == 0
    assert f"Conv, ConvTranspose, Gemm, MatMul: 2 {precision.upper()}" in out
    assert "finish INT8" not in err


@pytest.mark.parametrize("kind", ["cache", "images"])
def test_a_quantized_model_has_its_ranges(
    command: Command, model: Path, cache: Path, images: Path, target: Path, kind: str
) -> None:
    trtcal.quantize(model, cache, output=model.with_name("int8.onnx"))
    given = {"cache": cache, "images": images}[kind]
    code, _, err = command("build", model.with_name("int8.onnx"), f"--{kind}", given, "-o", target)
    assert code == 2
    assert f"and the model has Q/DQ nodes already, so its ranges are in it: leave out the {kind}" in err
    assert err.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize("name", ["model", "cache", "images"])
def test_what_is_read_is_not_overwritten(command: Command, model: Path, cache: Path, images: Path, name: str) -> None:
    given = ["--images", images] if name == "images" else ["--cache", cache]
    read = {"model": model, "cache": cache, "images": images}[name]
    before = read.read_bytes()
    code, _, err = command("build", model, *given, "-o", read)
    assert (code, err.count("\n")) == (2, 1)
    assert f"cannot write {read}: it is read, and would be lost; choose another name" in err
    assert read.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "an INT8 build of a float model needs ranges"),
        (["--cache", "CACHE", "--images", "IMAGES"], "give either --cache or --images"),
        (["--images", "IMAGES", "--precision", "fp16"], "float models, and the build is in fp16: leave out the images"),
        (["--cache", "CACHE", "--count", "3"], "--count goes with --images"),
        (["--precision", "fp32", "--seed", "3"], "--seed goes with --images"),
        (["--cache", "CACHE", "--timing-cache", "t"], "--timing-cache is of no use to TensorRT-RTX"),
        (["--cache", "CACHE", "--backend", "tensorrt"], "TensorRT-RTX builds without a GPU: --backend tensorrt-rtx"),
        (["--cache", "CACHE", "--shapes", "image:1x3"], "do not fit the input image:Nx3x8x8"),
        (["--cache", "CACHE", "--shapes", "image"], "cannot read the shapes 'image'"),
        (
            ["--cache", "CACHE", "--compute-capability", "70"],
            "does not build for compute capability 70: it knows 7.5, 8.0",
        ),
        (["--precision", "fp32", "--rest", "fp16"], "--rest fp16 is for INT8 builds"),
        (["--cache", "absent.cache"], "absent.cache"),
        (["--images", "absent"], "absent"),
        (["--images", "IMAGES", "--method", "guess"], "guess"),
        (
            ["--images", "IMAGES", "--method", "minmax", "--task", "detect"],
            "--task goes with --method auto, which judges methods by a task",
        ),
        (["--images", "IMAGES", "--task", "detect"], "no adapter of task detect fits"),
        (["--images", "IMAGES", "--method", "auto", "--task", "detect"], "no adapter of task detect fits"),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(
    command: Command, model: Path, cache: Path, images: Path, target: Path, *, options: list[str], said: str
) -> None:
    places = {"CACHE": str(cache), "IMAGES": str(images)}
    code, out, err = command("build", model, *(places.get(option, option) for option in options), "-o", target)
    assert code == 2
    assert out == ""
    assert err.startswith("trtcal: ")
    assert said in err
    assert err.count("\n") == 1
    assert not list(target.parent.iterdir())


def test_a_model_that_is_none(command: Command, tmp_path: Path, target: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    for name in ("broken.onnx", "absent.onnx"):
        code, _, err = command("build", tmp_path / name, "--precision", "fp32", "-o", target)
        assert code == 2
        assert name in err
        assert err.count("\n") == 1


def test_an_output_that_cannot_be_written_is_refused_before_calibrating(
    command: Command, model: Path, images: Path, tmp_path: Path
) -> None:
    code, _, err = command("build", model, "--images", images, "-o", tmp_path / "absent" / "m.engine")
    assert code == 2
    assert "the folder" in err
    assert "does not exist" in err


def test_a_cache_of_another_model(command: Command, model: Path, images: Path, target: Path, tmp_path: Path) -> None:
    assert command("calibrate", model, "--images", images, "--preprocess", "unit", "-o", tmp_path / "own.cache")[0] == 0
    other = onnx.load(model)
    other.producer_name = "another"
    onnx.save(other, tmp_path / "other.onnx")
    code, _, err = command("build", tmp_path / "other.onnx", "--cache", tmp_path / "own.cache", "-o", target)
    assert code == 1
    assert "made of another model" in err
    assert not list(target.parent.iterdir())


def test_an_operator_that_tensorrt_does_not_have(command: Command, model: Path, target: Path) -> None:
    changed = onnx.load(model)
    changed.graph.node[1].op_type = "Bernoulli"
    onnx.save(changed, model)
    code, _, err = command("build", model, "--precision", "fp32", "-o", target)
    assert code == 2
    assert "cannot take an operator of the model: Bernoulli relu" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc to see how far the process is")
def test_ctrl_c_in_a_real_process(model: Path, target: Path) -> None:
    """A deep model keeps the builder busy; the signal comes when its library has been loaded."""
    wide = onnx.load(model)
    del wide.graph.node[:], wide.graph.initializer[:]
    for index in range(150):
        channels = (3 if index == 0 else 64, 64)
        wide.graph.initializer.append(
            numpy_helper.from_array(np.full((channels[1], channels[0], 1, 1), 0.01, np.float32), f"w{index}")
        )
        source = "image" if index == 0 else f"t{index - 1}"
        wide.graph.node.append(helper.make_node("Conv", [source, f"w{index}"], [f"t{index}"], name=f"c{index}"))
    wide.graph.node.append(helper.make_node("ReduceMean", ["t149"], ["y"], axes=[1], keepdims=1, name="mean"))
    wide.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 1, 8, 8]))
    onnx.save(wide, model)
    arguments: list[Any] = [sys.executable, "-c", "from trtcal.cli import main; main()", "build", model]
    process = subprocess.Popen(
        [*map(str, arguments), "--precision", "fp16", "-o", str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    deadline = time.monotonic() + 60
    while "tensorrt" not in Path(f"/proc/{process.pid}/maps").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "trtcal: interrupted; no file is half-written\n"
    assert not list(target.parent.iterdir())
