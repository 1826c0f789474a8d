"""`trtcal build --config` with TensorRT-RTX: each layer runs in what the configuration has it in."""

import json

import pytest

import trtcal
from engines.inspection.engine_record import Engine

pytestmark = pytest.mark.usefixtures("needs_rtx")


@pytest.fixture
def needs_rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")


@pytest.fixture
def build(command, calibrated):
    """Builds by a configuration's text; gives code, output, messages and the engine's record."""

    def run(text, *options, model="model.onnx"):
        (calibrated / "quant.toml").write_text(text, encoding="utf-8")
        target = calibrated / "model.engine"
        target.unlink(missing_ok=True)
        result = command(
            "build", calibrated / model, "--config", calibrated / "quant.toml", "--backend", "tensorrt-rtx",
            *options, "-o", target,
        )  # fmt: skip
        return *result, Engine.load(target).record if target.exists() else None

    return run


def runs(record):
    return {each.node: each.precision for each in record.operators}


CONFIG = """\
[[layer]]
name = "b/Conv"
precision = "fp32"

[skip]
types = ["MatMul"]
"""

MEANT = {"a/Conv": "int8", "b/Conv": "fp32", "scores/MatMul": "float"}


@pytest.mark.parametrize(("rest", "others"), [("fp16", "FP16"), ("fp32", "FP32")])
def test_with_a_cache(build, calibrated, rest, others):
    code, _, err, record = build(CONFIG, "--cache", calibrated / "model.cache", "--rest", rest)
    assert code == 0, err
    assert runs(record) == {"a/Conv": "INT8", "b/Conv": "FP32", "scores/MatMul": others}
    assert record.configured == MEANT
    assert "note: by the configuration, 1 layer(s) are in FP32: b/Conv\n" in err
    assert "note: by the configuration, 1 layer(s) are in float, as what is not quantized: scores/MatMul\n" in err


def test_skips_of_the_command_line(build, command, calibrated):
    """With no file, with one that says more, and with images, whose --method counts beside them."""
    target = calibrated / "skipped.engine"
    start = ["build", calibrated / "model.onnx", "--backend", "tensorrt-rtx", "-o", target]
    for given in (
        ["--cache", calibrated / "model.cache"],
        ["--images", calibrated / "images", "--preprocess", "unit", "--method", "minmax"],
    ):
        code, _, err = command(*start, *given, "--skip", "types=MatMul", "--skip", "first-convolutions=1")
        assert code == 0, err
        record = Engine.load(target).record
        assert runs(record) == {"a/Conv": "FP16", "b/Conv": "INT8", "scores/MatMul": "FP16"}
        assert record.configured == {"a/Conv": "float", "b/Conv": "int8", "scores/MatMul": "float"}
    code, _, err, record = build(CONFIG, "--cache", calibrated / "model.cache", "--skip", "names=?/Conv")
    assert (code, record) == (2, None)
    assert "the configuration has no layer in INT8" in err


def test_scales_that_are_powers_of_two(build, command, calibrated):
    """The build from a cache and the Q/DQ model of quantize have the same layers; INT8 runs as such."""
    code, _, err, record = build("[default]\npower_of_two = true\n", "--cache", calibrated / "model.cache")
    assert code == 0, err
    assert set(runs(record).values()) == {"INT8"}


def test_an_fp16_layer_where_the_rest_is_fp32(build, calibrated):
    text = CONFIG.replace("fp32", "fp16")
    code, _, err, record = build(text, "--cache", calibrated / "model.cache", "--rest", "fp32")
    assert code == 0, err
    assert runs(record) == {"a/Conv": "INT8", "b/Conv": "FP16", "scores/MatMul": "FP32"}


def test_with_images_and_methods_of_layers(build, command, calibrated):
    text = CONFIG + '[[name]]\npattern = "a/*"\nactivation = "mse"\n'
    images = ["--images", calibrated / "images", "--preprocess", "unit"]
    code, out, err, record = build(text, *images, "--method", "minmax", "--json")
    assert code == 0, err
    assert json.loads(out)["configured"] == MEANT
    assert runs(record)["a/Conv"] == "INT8"
    code, _, err, again = build(text, "--statistics-from", calibrated / "model.npz", "--method", "minmax")
    assert code == 0, err
    assert again.kernels_by_precision == record.kernels_by_precision


def test_a_model_that_was_quantized_with_it(build, command, calibrated):
    (calibrated / "quant.toml").write_text(CONFIG)
    code, _, err = command(
        "quantize", calibrated / "model.onnx", "--cache", calibrated / "model.cache",
        "--config", calibrated / "quant.toml", "-o", calibrated / "int8.onnx",
    )  # fmt: skip
    assert code == 0, err
    code, _, err, record = build(CONFIG, model="int8.onnx")
    assert code == 0, err
    assert runs(record) == {"a/Conv": "INT8", "b/Conv": "FP32", "scores/MatMul": "FP16"}
    assert record.configured == MEANT
    code, _, err, record = build("", model="int8.onnx")
    assert code == 0, err
    assert "warning: Conv b/Conv is to run in INT8 by the configuration, and runs in FP16 (kernel" in err
    assert "it has no Q/DQ nodes" in err
    code, _, err, record = build("[default]\nprecision = 'fp16'\n", model="int8.onnx")
    assert (code, err.count("\n"), record) == (2, 1, None)
    assert "the configuration has a/Conv in fp16, and the model has Q/DQ nodes there: quantize the float model" in err


def test_a_float_build_with_some_layers_in_fp32(build):
    text = "[default]\nprecision = 'float'\n[[name]]\npattern = 'b/*'\nprecision = 'fp32'\n"
    code, _, err, record = build(text, "--precision", "fp16")
    assert code == 0, err
    assert runs(record) == {"a/Conv": "FP16", "b/Conv": "FP32", "scores/MatMul": "FP16"}


def test_a_builder_that_chose_otherwise_is_told(monkeypatch, build, calibrated):
    """As TensorRT-RTX does where nothing keeps it from dropping casts: the pass does not get to know the layer."""
    from engines.build import layer_types

    monkeypatch.setattr(layer_types, "to_half", lambda graph, **_: to_half(graph))
    from engines.passes.half import to_half

    code, _, err, record = build(CONFIG, "--cache", calibrated / "model.cache")
    assert code == 0, err
    (finding,) = (each for each in record.findings if each.rule == "not-as-configured")
    assert finding.message.startswith("Conv b/Conv is to run in FP32 by the configuration, and runs in FP16 (kernel ")
    assert "warning: Conv b/Conv is to run in FP32 by the configuration" in err


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        ("", ["--precision", "fp16"], "scores/MatMul in INT8, and the build is in fp16: leave out"),
        ("[skip]\nnames = ['*']\n", ["--cache", "model.cache"], "the configuration has no layer in INT8: build with "),
        ("[default]\nactivation_bits = 16\n", ["--cache", "model.cache"], "activation_bits of a/Conv, b/Conv, scores/"),
        (
            "[[type]]\ntype = 'MatMul'\ngranularity = 'block:8'\n",
            ["--cache", "model.cache"],
            "has no INT8 weights by blocks",
        ),
        ("[default]\nactivation = 'mse'\n", ["--cache", "model.cache"], "model.cache holds those of entropy"),
        (
            "[default]\nactivation = 'mse'\n",
            ["--statistics-from", "model.npz", "--method", "minmax"],
            "--method says minmax, and ",
        ),
        ("", ["--statistics-from", "model.npz", "--cache", "model.cache"], "give either --cache or --statistics-from"),
        ("", ["--statistics-from", "model.npz", "--count", "3"], "--count goes with --images"),
        ("", ["--statistics-from", "model.npz", "--task", "classify"], "--task goes with --images"),
        ("", [], "an INT8 build of a float model needs ranges"),
        ("[default]\nweigth = 'mse'\n", ["--cache", "model.cache"], "unknown key 'weigth' (did you mean 'weight'?)"),
    ],
)
def test_what_does_not_go_together_is_one_line(build, calibrated, text, options, why):
    options = [calibrated / each if each.startswith("model.") else each for each in options]
    code, out, err, record = build(text, *options)
    assert (code, out, err.count("\n"), record) == (2, "", 1, None), err
    assert why in err


def test_what_is_wrong_is_said_before_images_are_read(build, calibrated):
    for path in (calibrated / "images").rglob("*.png"):
        path.write_bytes(b"no image")
    code, _, err, _ = build("[default]\nweight_bits = 9\n", "--images", calibrated / "images")
    assert (code, err.count("\n")) == (2, 1)
    assert "weight_bits of a/Conv" in err


def test_the_same_in_python(build, calibrated):
    config = trtcal.QuantConfig().add_layer_config("b/Conv", precision="fp32").skip(types="MatMul")
    engine = trtcal.build_engine(
        calibrated / "model.onnx", cache=calibrated / "model.cache", config=config, backend="tensorrt-rtx",
        output=calibrated / "python.engine",
    )  # fmt: skip
    assert engine.record.configured == MEANT
    assert runs(engine.record) == runs(build(CONFIG, "--cache", calibrated / "model.cache")[3])
    assert Engine.load(calibrated / "python.engine").record == engine.record
