import errno
import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import (
    BuildError,
    CacheError,
    CacheMismatchError,
    MissingDependencyError,
    ModelError,
    OutputError,
)
from engines.backends import kernel_log
from engines.build.builder import build_engine
from engines.build.request import checked_order
from engines.graph.model import model_digest
from engines.inspection.engine_record import Engine, EngineRecord

pytestmark = pytest.mark.usefixtures("rtx")


@pytest.fixture
def quantized(convolutions: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(convolutions, tmp_path / "quantized.onnx")
    return tmp_path / "quantized.onnx"


@pytest.fixture
def plain(float_convolutions: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(float_convolutions, tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "plain.cache"
    CalibrationCache({"x": 0.03, "c1_out": 0.02, "c1_relu_out": 0.02, "c2_out": 0.01, "c2_relu_out": 0.01}).save(path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "model.engine"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left_alone(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_a_quantized_model_and_all_that_its_sidecar_says(quantized: Path, target: Path, rtx: Any) -> None:
    engine = build_engine(quantized, output=target, compute_capabilities=["86", "8.9", "8.6"])
    assert engine.path == target
    assert {path.name for path in target.parent.iterdir()} == {"model.engine", "model.engine.json"}
    record = json.loads(target.with_name("model.engine.json").read_text())
    assert record["engine"] == {"sha256": digest(target)}
    assert record["model"] == {"file": "quantized.onnx", "sha256": digest(quantized)}
    assert record["cache"] is None
    assert record["backend"] == "tensorrt-rtx"
    assert record["versions"]["tensorrt-rtx"] == rtx.__version__
    assert record["options"] == {
        "precision": "int8",
        "rest": "fp16",
        "shapes": {"x": {"min": [1, 16, 16, 16], "opt": [8, 16, 16, 16], "max": [32, 16, 16, 16]}},
        "compute_capabilities": ["8.6", "8.9"],
        "portable": "8.0, 8.6, 8.9, 12.0 and later",
    }
    assert record["inputs"] == [{"name": "x", "type": "FLOAT", "shape": [-1, 16, 16, 16]}]
    assert record["outputs"][0]["type"] == "FLOAT"
    assert record["operators_by_precision"] == {"INT8": 2}
    assert [operator["node"] for operator in record["operators"]] == ["c1", "c2"]
    assert record["kernels_by_precision"]["INT8"] == 2
    (convolution,) = [layer for layer in record["layers"] if layer["name"].startswith("c1_")]
    assert convolution["precision"] == "INT8"
    assert convolution["inputs"][0]["type"] == "Int8"
    assert record["layers_absent"] == ""
    assert any("dynamic batch" in note for note in record["notes"])
    assert Engine.load(target) == engine
    kernels = ", ".join(f"{count} {name}" for name, count in record["kernels_by_precision"].items())
    assert str(engine) == repr(engine) == f"<Engine {target}: int8, tensorrt-rtx, kernels: {kernels}>"
    assert EngineRecord.parse(engine.record.dumps()) == engine.record


@pytest.mark.parametrize(("precision", "operators"), [("fp32", {"FP32": 2}), ("fp16", {"FP16": 2})])
def test_a_float_model_in_float(plain: Path, target: Path, precision: Any, operators: dict[str, int]) -> None:
    record = build_engine(plain, output=target, precision=precision).record
    assert record.operators_by_precision == operators
    assert (record.precision, record.rest, record.cache_sha256) == (precision, None, None)
    assert record.findings == ()


@pytest.mark.parametrize(("rest", "other"), [("fp16", "FP16"), ("fp32", "FP32"), (None, "FP16")])
def test_a_float_model_with_its_cache(plain: Path, cache: Path, target: Path, rest: Any, other: str) -> None:
    record = build_engine(plain, output=target, cache=cache, rest=rest).record
    assert record.operators_by_precision == {"INT8": 2}
    assert (record.cache, record.cache_sha256) == ("plain.cache", digest(cache))
    assert record.rest == other.lower()
    assert record.model_sha256 == digest(plain)


def test_a_cache_in_memory_and_what_its_sidecar_says(plain: Path, cache: Path, target: Path) -> None:
    loaded = CalibrationCache.load(cache)
    loaded.sidecar = sidecar(model_digest(plain))
    record = build_engine(plain, output=target, cache=loaded).record
    assert (record.cache, record.cache_sha256) == (None, loaded.sha256)
    assert record.preprocess == {"scale": 0.5}


def sidecar(model_sha256: str) -> Sidecar:
    return Sidecar(
        model_sha256=model_sha256,
        method="entropy",
        tensors="all",
        image_sets=("0" * 64,),
        images=4,
        preprocess={"scale": 0.5},
    )


def test_a_cache_of_another_model_by_its_sidecar(plain: Path, cache: Path, target: Path) -> None:
    loaded = CalibrationCache.load(cache)
    loaded.sidecar = sidecar("1" * 64)
    loaded.save(cache)
    with pytest.raises(CacheMismatchError, match=r"made of another model .* than plain\.onnx") as raised:
        build_engine(plain, output=target, cache=cache)
    assert raised.value.exit_code == 1
    assert left_alone(target.parent)


def test_a_cache_of_another_model_by_its_names(plain: Path, cache: Path, target: Path) -> None:
    CalibrationCache({"something": 0.1}).save(cache)
    with pytest.raises(CacheError, match="another model"):
        build_engine(plain, output=target, cache=cache)
    assert left_alone(target.parent)


def test_tensors_without_a_usable_scale_are_listed(plain: Path, cache: Path, target: Path) -> None:
    CalibrationCache({"x": 0.03, "c1_relu_out": 0}).save(cache)
    record = build_engine(plain, output=target, cache=cache).record
    assert record.operators_by_precision == {"INT8": 1, "FP16": 1}
    assert any(note.startswith("c2 stays in float: ") for note in record.notes)


def test_a_quantized_model_hands_on_its_preprocessing(quantized: Path, target: Path) -> None:
    content = {"format": 1, "sha256": digest(quantized), "preprocess": {"scale": 2}}
    Path(f"{quantized}.json").write_text(json.dumps(content))
    assert build_engine(quantized, output=target).record.preprocess == {"scale": 2}
    Path(f"{quantized}.json").write_text(json.dumps({**content, "sha256": "0" * 64}))
    assert build_engine(quantized, output=target).record.preprocess is None


def test_shapes_by_text(quantized: Path, target: Path) -> None:
    record = build_engine(quantized, output=target, shapes="x:4x16x16x16").record
    assert record.shapes == {"x": {"min": [4, 16, 16, 16], "opt": [4, 16, 16, 16], "max": [4, 16, 16, 16]}}
    assert record.notes == ()


@pytest.mark.parametrize("name", ["", "same"])
def test_nodes_without_names_or_with_one_name(convolutions: onnx.ModelProto, target: Path, name: str) -> None:
    for node in convolutions.graph.node:
        node.name = name
    record = build_engine(convolutions, output=target).record
    assert record.operators_by_precision == {"INT8": 2}
    assert len({operator.node for operator in record.operators}) == 2
    assert all(node.name == name for node in convolutions.graph.node)
    assert (record.model, record.model_sha256) == ("", "")


def test_fp16_notes_reach_the_sidecar(network: Any, target: Path) -> None:
    built = network("N", 4)
    model = built.model(built.node("Mul", ["x", built.constant("large", np.full(4, 7e4, np.float32))], "stretch"))
    record = build_engine(model, output=target, precision="fp16").record
    assert any(note.startswith("Mul stretch stays in FP32") for note in record.notes)


def test_a_model_that_is_fp16_already_is_built_as_it_is(float_convolutions: onnx.ModelProto, target: Path) -> None:
    from engines.passes.half import to_half

    record = build_engine(to_half(float_convolutions).model, output=target, precision="fp16").record
    assert record.operators_by_precision == {"FP16": 2}
    assert any("FP16 tensors of its own" in note for note in record.notes)


def test_the_builders_log_is_kept_on_request(quantized: Path, target: Path) -> None:
    build_engine(quantized, output=target, log=target.with_name("build.log"))
    log = target.with_name("build.log").read_text()
    assert "[verbose] Layers:\nName: " in log


def test_the_log_of_a_failed_build_is_kept(network: Any, target: Path) -> None:
    built = network("N", 4)
    with pytest.raises(BuildError, match="Bernoulli coin"):
        build_engine(
            built.model(built.node("Bernoulli", ["x"], "coin")),
            output=target,
            precision="fp32",
            log=target.with_name("log"),
        )
    assert [path.name for path in target.parent.iterdir()] == ["log"]
    assert "[error]" in target.with_name("log").read_text()


def test_a_log_of_an_unknown_form_leaves_the_layers_unknown(
    quantized: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_log, "_LINE", kernel_log._NODE)
    record = build_engine(quantized, output=target).record
    assert record.kernels is None
    assert "reads differently" in record.kernels_absent
    assert record.operators == ()
    assert json.loads(Engine.load(target).sidecar.read_text())["layers"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "precision is int8, fp16 or fp32"),
        ({"precision": "fp32", "rest": "fp16"}, "--rest fp16 is for INT8 builds"),
        ({"precision": "fp16"}, "has Q/DQ nodes and is to be built in fp16: give the float model"),
        ({"precision": "fp32"}, "has Q/DQ nodes and is to be built in fp32"),
        ({"cache": "plain.cache"}, "the model has Q/DQ nodes already, so its ranges are in it: leave out the cache"),
        ({"shapes": "y:1x2"}, "shapes are given for y"),
        ({"shapes": "x:1x16x16x17"}, "do not fit the input"),
        ({"compute_capabilities": ["99"]}, r"does not build for compute capability 99: it knows 7.5, 8.0, 8.6"),
        ({"compute_capabilities": ["new"]}, "does not build for compute capability new"),
        ({"backend": "openvino"}, "there is no backend openvino"),
    ],
)
def test_what_does_not_go_together(
    quantized: Path, cache: Path, target: Path, options: dict[str, Any], said: str
) -> None:
    if "cache" in options:
        options["cache"] = cache
    with pytest.raises(BuildError, match=said) as raised:
        build_engine(quantized, output=target, **options)
    assert "\n" not in str(raised.value)
    assert left_alone(target.parent)


def test_a_float_model_without_ranges(plain: Path, target: Path) -> None:
    with pytest.raises(BuildError, match=r"needs ranges: .*\(--cache\).*\(--images\).*Q/DQ nodes"):
        build_engine(plain, output=target)


def test_a_cache_for_a_float_build(plain: Path, cache: Path, target: Path) -> None:
    with pytest.raises(BuildError, match="the build is in fp16: leave out the cache"):
        build_engine(plain, output=target, precision="fp16", cache=cache)


def test_tensorrt_is_not_installed(quantized: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r"needs tensorrt .*trtcal\[tensorrt\].*--backend tensorrt-rtx"):
        build_engine(quantized, output=target, backend="tensorrt")
    assert build_engine(quantized, output=target).record.backend == "tensorrt-rtx"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"neither .*trtcal\[tensorrt\].*trtcal\[rtx\]") as raised:
        build_engine(quantized, output=target)
    assert "\n" not in str(raised.value)


def test_a_model_that_tensorrt_would_misread(network: Any, target: Path) -> None:
    built = network("N", 16, 8, 8)
    pairs = [built.quantized("x", name, zero_point=np.uint8(0)) for name in ("first", "second")]
    with pytest.raises(BuildError, match=r"first_DQ \(x\) is UINT8.* \(1 more like this: trtcal inspect lists them\)"):
        build_engine(built.model(built.node("Add", pairs, "sum")), output=target)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x08\x07"])
def test_no_model(target: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        build_engine(path, output=target, precision="fp32")
    assert left_alone(target.parent)


def test_outputs_that_cannot_be_written(quantized: Path, target: Path) -> None:
    for path in (target.parent / "absent" / "model.engine", target.parent):
        with pytest.raises(OutputError):
            build_engine(quantized, output=path)


def test_outputs_that_would_overwrite_what_is_read(quantized: Path, plain: Path, cache: Path) -> None:
    before = [path.read_bytes() for path in (quantized, plain, cache)]
    link, new = plain.with_name("link.engine"), plain.with_name("m.engine")
    link.symlink_to(plain)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (quantized, {"output": quantized}, "it is read, and would be lost"),
        (plain, {"output": link}, "it is read, and would be lost"),
        (plain, {"output": cache, "cache": cache}, "it is read, and would be lost"),
        (plain, {"output": new, "log": plain}, "it is read, and would be lost"),
        (plain, {"output": new, "log": cache, "cache": cache}, "it is read, and would be lost"),
        (plain, {"output": new, "log": f"{new}.json"}, "two outputs would be this one file"),
    ]
    for model, options, said in cases:
        with pytest.raises(OutputError, match=f"cannot write .*: {said}"):
            build_engine(model, **options)
    assert [path.read_bytes() for path in (quantized, plain, cache)] == before


@pytest.mark.parametrize("which", ["engine", "sidecar"])
def test_a_full_disk_leaves_the_old_engine(
    quantized: Path, target: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    build_engine(quantized, output=target)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes" if which == "engine" else "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        build_engine(quantized, output=target, rest="fp32")
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def test_ctrl_c_leaves_the_old_engine(quantized: Path, target: Path) -> None:
    build_engine(quantized, output=target)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    pressed: list[int] = []

    def interrupt(step: int) -> None:
        pressed.append(step)
        if len(pressed) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(quantized, output=target, progress=interrupt, log=target.with_name("log"))
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def test_an_order_says_whether_it_needs_ranges(quantized: Path, plain: Path, target: Path) -> None:
    assert checked_order(plain, output=target).needs_ranges
    assert not checked_order(quantized, output=target).needs_ranges
    assert not checked_order(plain, output=target, precision="fp16").needs_ranges


def test_an_engine_without_its_sidecar(quantized: Path, target: Path) -> None:
    engine = build_engine(quantized, output=target)
    text = engine.sidecar.read_text()
    cases = {
        "gives away its layers only on a GPU": None,
        "SHA-256 differs": replace(engine.record, engine_sha256="0" * 64).dumps(),
        "is no side-car of an engine .it lacks 'format'": "{}",
        "is no side-car of an engine .it is no object": "[]",
        "is no side-car of an engine .Expecting property name": "{",
        "has format 2": text.replace('"format": 1', '"format": 2', 1),
    }
    for said, content in cases.items():
        engine.sidecar.unlink() if content is None else engine.sidecar.write_text(content)
        with pytest.raises(BuildError, match=said) as raised:
            Engine.load(target)
        assert "\n" not in str(raised.value)
    with pytest.raises(BuildError, match="no engine"):
        Engine.load(target.with_name("absent.engine"))


def test_an_order_says_why_it_needs_no_ranges(quantized: Path, plain: Path, target: Path) -> None:
    assert checked_order(plain, output=target).no_ranges_because == ""
    said = checked_order(quantized, output=target).no_ranges_because
    assert said == "the model has Q/DQ nodes already, so its ranges are in it"
    assert checked_order(plain, output=target, precision="fp16").no_ranges_because == "the build is in fp16"


def test_an_engine_of_unknown_kernels_is_one_line(quantized: Path, target: Path) -> None:
    engine = build_engine(quantized, output=target)
    unknown = Engine(target, replace(engine.record, kernels=None, kernels_absent="no list"))
    assert repr(unknown).endswith("tensorrt-rtx, kernels: unknown>")


@pytest.mark.parametrize("name", ["cifar10_resnet20", "mlperf_tiny_resnet8", "mlperf_tiny_kws_dscnn"])
def test_real_models_in_every_precision(shared_data: Path, target: Path, name: str) -> None:
    from engines.qdq.write import quantizable_tensors

    model = shared_data / "models" / f"{name}.onnx"
    cache = CalibrationCache(dict.fromkeys(quantizable_tensors(model), 0.05))
    count = {"cifar10_resnet20": 20, "mlperf_tiny_resnet8": 10, "mlperf_tiny_kws_dscnn": 10}[name]
    builds: dict[str, dict[str, Any]] = {
        "INT8": {"cache": cache},
        "FP16": {"precision": "fp16"},
        "FP32": {"precision": "fp32"},
    }
    for precision, options in builds.items():
        record = build_engine(model, output=target, **options).record
        assert record.operators_by_precision == {precision: count}
        assert record.warnings == ()
        assert not any(finding.rule == "float-despite-qdq" for finding in record.findings)
