import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError, CacheError, CacheMismatchError
from engines.backends import kernel_log
from engines.build.builder import build_engine
from engines.build.request import checked_request
from engines.graph.model import model_digest
from engines.inspection.engine_record import Engine, EngineRecord

pytestmark = pytest.mark.usefixtures("rtx")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    assert not list(target.parent.iterdir())


def test_a_cache_of_another_model_by_its_names(plain: Path, cache: Path, target: Path) -> None:
    CalibrationCache({"something": 0.1}).save(cache)
    with pytest.raises(CacheError, match="another model"):
        build_engine(plain, output=target, cache=cache)
    assert not list(target.parent.iterdir())


def test_tensors_without_a_usable_scale_are_listed(plain: Path, cache: Path, target: Path) -> None:
    CalibrationCache({"x": 0.03, "c1_relu_out": 0}).save(cache)
    record = build_engine(plain, output=target, cache=cache).record
    assert record.operators_by_precision == {"INT8": 1, "FP16": 1}
    assert any(note.startswith("c2 stays in float: ") for note in record.notes)


def test_layers_that_are_never_quantized_are_named(network: Any, target: Path) -> None:
    built = network("N", 16, 16, 16)
    operands = [built.conv("x", "c", (16, 16)), built.weights("k", (16, 16), quantized=False)]
    record = build_engine(
        built.model(built.node("Einsum", operands, "e", equation="nchw,dc->ndhw")), output=target
    ).record
    assert record.operators_by_precision == {"INT8": 1}
    assert any(note.startswith("e stays in float: its operator is Einsum") for note in record.notes)


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


def test_an_order_says_whether_it_needs_ranges(quantized: Path, plain: Path, target: Path) -> None:
    assert checked_request(plain, output=target).needs_ranges
    assert not checked_request(quantized, output=target).needs_ranges
    assert not checked_request(plain, output=target, precision="fp16").needs_ranges


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
    assert checked_request(plain, output=target).no_ranges_because == ""
    said = checked_request(quantized, output=target).no_ranges_because
    assert said == "the model has Q/DQ nodes already, so its ranges are in it"
    assert checked_request(plain, output=target, precision="fp16").no_ranges_because == "the build is in fp16"


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
        head = {"FP16": 1} if precision == "INT8" else {}  # the scores of ten or twelve classes
        assert record.operators_by_precision == {precision: count - len(head), **head}
        assert record.warnings == ()
        assert not any(finding.rule == "float-despite-qdq" for finding in record.findings)
