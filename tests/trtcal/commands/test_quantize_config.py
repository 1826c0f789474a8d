"""`trtcal quantize --config`: layers quantized otherwise, or not at all."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import trtcal
from calibrators.cache.text import CalibrationCache
from calibrators.ranges import calibrate
from calibrators.statistics.file import merged_files
from engines.graph.model import load_model
from tests.engines.networks import classifier

LAYERS = ["a/Conv", "b/Conv", "scores/MatMul"]


@pytest.fixture
def quantize(command, calibrated):
    """Quantizes the job's model by a configuration's text; gives code, output, messages and the side-car."""

    def run(text, *options, ranges="--cache"):
        (calibrated / "quant.toml").write_text(text, encoding="utf-8")
        given = [ranges, calibrated / ("model.cache" if ranges == "--cache" else "model.npz")] if ranges else []
        sidecar = calibrated / "int8.onnx.json"
        sidecar.unlink(missing_ok=True)
        result = command(
            "quantize", calibrated / "model.onnx", *given, "--config", calibrated / "quant.toml",
            "-o", calibrated / "int8.onnx", *options,
        )  # fmt: skip
        return *result, json.loads(sidecar.read_text()) if sidecar.exists() else None

    return run


def inputs_quantized(path):
    """Names of the operators that read something dequantized."""
    graph = load_model(path).graph
    given = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return [node.name for node in graph.node if given & set(node.input)]


def test_an_empty_configuration_changes_nothing(quantize, command, calibrated):
    assert quantize("")[0] == 0
    with_it = (calibrated / "int8.onnx").read_bytes()
    options = ["--cache", calibrated / "model.cache", "-o", calibrated / "int8.onnx"]
    assert command("quantize", calibrated / "model.onnx", *options)[0] == 0
    assert (calibrated / "int8.onnx").read_bytes() == with_it


def test_layers_in_float(quantize, calibrated):
    text = '[[layer]]\nname = "b/Conv"\nprecision = "fp16"\n[skip]\nfirst_convolutions = 1\n'
    code, out, err, record = quantize(text, "--json")
    assert code == 0
    assert inputs_quantized(calibrated / "int8.onnx") == ["scores/MatMul"]
    assert "left in float: a/Conv, for the configuration has it in float\n" in err
    assert "left in float: b/Conv, for the configuration has it in fp16\n" in err
    assert "note: the type of b/Conv is chosen when the engine is built: give trtcal build this configuration" in err
    for said in (json.loads(out), record):
        assert said["left_float"] == {
            "a/Conv": "the configuration has it in float",
            "b/Conv": "the configuration has it in fp16",
        }
        assert said["layers"]["a/Conv"] == {"precision": "float"}
        assert said["layers"]["b/Conv"] == {"precision": "fp16"}
        assert said["layers"]["scores/MatMul"]["precision"] == "int8"


def test_weights_by_layer(quantize, calibrated):
    text = '[default]\nweight = "mse"\n[[type]]\ntype = "Conv"\nweight_bits = 4\n'
    text += '[[name]]\npattern = "s*"\ngranularity = "tensor"\n'
    code, _, err, record = quantize(text)
    assert code == 0
    assert "note: 2 layer(s), a/Conv, b/Conv, have weights of 4 bits: INT8 weights that use 15 levels" in err
    constants = {
        each.name: numpy_helper.to_array(each) for each in load_model(calibrated / "int8.onnx").graph.initializer
    }
    assert {np.abs(constants[name]).max() for name in ("a_w_quantized", "b_w_quantized")} == {7}
    assert constants["w_scale"].shape == ()
    assert record["layers"]["a/Conv"] == {
        "precision": "int8",
        "activation": "entropy",
        "scale": record["scales"]["image"],
        "weight": "mse",
        "weight_bits": 4,
        "granularity": "channel",
    }
    assert "weights" not in record


def test_range_methods_by_layer_come_from_statistics(quantize, calibrated):
    text = '[[layer]]\nname = "b/Conv"\nactivation = "entropy"\n'
    code, _, _, record = quantize(text, ranges="--statistics-from")
    assert code == 0
    statistics = merged_files([calibrated / "model.npz"])
    entropy, mse = calibrate(statistics, "entropy"), calibrate(statistics, "mse")
    assert record["scales"]["image"] == mse["image"]
    assert record["scales"]["pooled"] == entropy["pooled"] != mse["pooled"]
    assert [record["layers"][name]["activation"] for name in LAYERS] == ["mse", "entropy", "mse"]
    assert record["cache_sha256"] == mse.sha256


def test_a_method_for_all_layers_is_that_methods_cache(quantize, calibrated):
    assert quantize('[default]\nactivation = "mse"\n', ranges="--statistics-from")[3]["calibration"]["method"] == "mse"


def test_statistics_without_a_configuration_are_by_the_default(command, calibrated):
    source = ["--statistics-from", calibrated / "model.npz"]
    assert command("calibrate", calibrated / "model.onnx", *source, "-o", calibrated / "model.cache")[0] == 0
    for ranges in (["--cache", calibrated / "model.cache"], ["--statistics-from", calibrated / "model.npz"]):
        assert command("quantize", calibrated / "model.onnx", *ranges, "-o", calibrated / f"{ranges[0]}.onnx")[0] == 0
    assert (calibrated / "--cache.onnx").read_bytes() == (calibrated / "--statistics-from.onnx").read_bytes()


def test_shards_merge(command, calibrated):
    options = ["--preprocess", "unit", "--images"]
    for shard in ("cat", "dog"):
        given = [*options, calibrated / "images" / shard, "--statistics", calibrated / f"{shard}.npz"]
        assert command("calibrate", calibrated / "model.onnx", *given, "-o", calibrated / "shard.cache")[0] == 0
    output = ["-o", calibrated / "int8.onnx"]
    shards = [calibrated / "cat.npz", calibrated / "dog.npz"]
    for ranges in (
        ["--statistics-from", *shards],
        ["--statistics", shards[0], "--statistics", shards[1]],
        ["--statistics-from", calibrated / "model.npz"],
    ):
        ranges += ["--method", "entropy"]
        assert command("quantize", calibrated / "model.onnx", *ranges, *output)[0] == 0
        scales = json.loads((calibrated / "int8.onnx.json").read_text())["scales"]
        assert scales == trtcal.quantize(calibrated / "model.onnx", calibrated / "model.cache").scales


def test_a_cache_of_the_method_that_is_asked_for_will_do(quantize):
    assert quantize('[default]\nactivation = "entropy"\n')[0] == 0
    code, out, err, _ = quantize('[default]\nactivation = "mse"\n')
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "wants ranges by mse for a/Conv, and " in err
    assert "model.cache holds those of entropy: give the statistics instead" in err


def test_rules_that_fit_nothing_are_said(quantize):
    code, _, err, _ = quantize('[[layer]]\nname = "c/Conv"\nweight_bits = 4\n[skip]\ntypes = ["Gemm"]\n')
    assert code == 0
    assert "note: the configuration has a rule that fits no layer: layer 'c/Conv' (did you mean 'b/Conv'?)\n" in err
    assert "note: the configuration has a rule that fits no layer: skip type 'Gemm'\n" in err


@pytest.mark.parametrize(
    ("text", "options", "ranges", "why"),
    [
        (
            "[default]\nprecison = 'int8'\n",
            [],
            "--cache",
            "quant.toml: [default]: unknown key 'precison' (did you mean",
        ),
        ("[default]\nactivation_bits = 16\n", [], "--cache", "activation_bits of a/Conv, b/Conv, scores/MatMul: "),
        ("[default]\nsymmetric = false\n", [], "--cache", "trtcal.QuantSim"),
        ("[default]\nweight_bits = 12\n", [], "--cache", "TensorRT's INT8 has 8 at most"),
        ("[default]\nprecision = 'fp16'\n", [], "--cache", "every layer stays in float"),
        ("[default]\ngranularity = 'block:8'\n", [], "--cache", "a/Conv is a Conv, and blocks divide"),
        ("", ["--weights", "mse"], "--cache", "leave out --weights and --granularity"),
        ("", ["--granularity", "tensor"], "--cache", "leave out --weights and --granularity"),
        ("", ["--dynamic"], None, "--dynamic finds the ranges when the model runs and has no use for --config"),
        ("", [], None, "give --cache MODEL.cache"),
    ],
)
def test_what_does_not_go_together_is_one_line(quantize, text, options, ranges, why):
    code, out, err, record = quantize(text, *options, ranges=ranges)
    assert (code, out, err.count("\n"), record) == (2, "", 1, None)
    assert why in err


def test_a_cache_and_statistics_and_files_that_would_be_lost(command, calibrated):
    both = ["--cache", calibrated / "model.cache", "--statistics-from", calibrated / "model.npz"]
    code, _, err = command("quantize", calibrated / "model.onnx", *both, "-o", calibrated / "int8.onnx")
    assert (code, err.count("\n")) == (2, 1)
    assert "give either --cache or --statistics-from" in err
    (calibrated / "quant.toml").write_text("")
    before = (calibrated / "model.npz").read_bytes()
    for output in ("quant.toml", "model.npz"):
        code, _, err = command(
            "quantize", calibrated / "model.onnx", *both[2:], "--config", calibrated / "quant.toml",
            "-o", calibrated / output,
        )  # fmt: skip
        assert (code, err.count("\n")) == (2, 1)
        assert "it is read, and would be lost" in err
    assert (calibrated / "model.npz").read_bytes() == before


def test_statistics_of_another_model(command, calibrated):
    onnx.save(classifier(seed=1), calibrated / "other.onnx")
    options = ["--statistics-from", calibrated / "model.npz", "-o", calibrated / "int8.onnx"]
    code, _, err = command("quantize", calibrated / "other.onnx", *options)
    assert (code, err.count("\n")) == (1, 1)
    assert "the statistics were gathered from another model" in err


def test_the_same_in_python(quantize, calibrated):
    text = '[[layer]]\nname = "b/Conv"\nactivation = "mse"\n\n[skip]\nlast_convolutions = 0\nnames = ["scores/*"]\n'
    assert quantize(text, ranges="--statistics-from")[0] == 0
    written = (calibrated / "int8.onnx").read_bytes()
    statistics = merged_files([calibrated / "model.npz"])
    config = trtcal.QuantConfig().add_layer_config("b/Conv", activation="mse").skip(names="scores/*")
    for given in (config, calibrated / "quant.toml"):
        made = trtcal.quantize(calibrated / "model.onnx", statistics, config=given, output=calibrated / "python.onnx")
        assert (calibrated / "python.onnx").read_bytes() == written
        assert made.configured["scores/MatMul"] == {"precision": "float"}
    cache = CalibrationCache.load(calibrated / "model.cache")
    plain = trtcal.quantize(calibrated / "model.onnx", cache)
    assert plain.configured is None


def test_skips_on_the_command_line_are_those_of_a_file(quantize, command, calibrated):
    assert quantize("[skip]\nfirst_convolutions = 1\n")[0] == 0
    by_file = (calibrated / "int8.onnx").read_bytes()
    given = ["--cache", calibrated / "model.cache", "-o", calibrated / "skipped.onnx"]
    code, _, err = command("quantize", calibrated / "model.onnx", *given, "--skip", "first-convolutions=1")
    assert code == 0, err
    assert (calibrated / "skipped.onnx").read_bytes() == by_file
    assert "left in float: a/Conv, " in err


def test_skips_go_with_options_of_weights_and_add_to_a_configuration(quantize, command, calibrated):
    given = ["--cache", calibrated / "model.cache", "-o", calibrated / "skipped.onnx"]
    options = ["--skip", "types=MatMul", "--weights", "mse", "--granularity", "tensor", "--json"]
    code, out, err = command("quantize", calibrated / "model.onnx", *given, *options)
    assert code == 0, err
    layers = json.loads(out)["layers"]
    assert layers["scores/MatMul"] == {"precision": "float"}
    assert (layers["a/Conv"]["weight"], layers["a/Conv"]["granularity"]) == ("mse", "tensor")
    code, _, err, _ = quantize('[[layer]]\nname = "b/Conv"\nprecision = "fp16"\n', "--skip", "first-convolutions=1")
    assert code == 0, err
    assert inputs_quantized(calibrated / "int8.onnx") == ["scores/MatMul"]


def test_skips_that_mean_nothing(command, calibrated):
    given = ["--cache", calibrated / "model.cache", "-o", calibrated / "skipped.onnx"]
    code, out, err = command("quantize", calibrated / "model.onnx", *given, "--skip", "Softmax")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "(types=Softmax)" in err
    code, _, err = command("quantize", calibrated / "model.onnx", *given, "--skip", "types=Softmax")
    assert (code, "skip type 'Softmax'" in err) == (0, True)
    dynamic = ["-o", calibrated / "skipped.onnx", "--dynamic", "--skip", "types=Conv"]
    code, _, err = command("quantize", calibrated / "model.onnx", *dynamic)
    assert (code, "has no use for --skip" in err) == (2, True)


def test_powers_of_two_of_a_configuration(quantize, calibrated):
    code, _, err, record = quantize("[default]\npower_of_two = true\n")
    assert code == 0, err
    assert all(np.frexp(scale)[0] == 0.5 for scale in record["scales"].values())
    assert all(each["power_of_two"] for each in record["layers"].values())
