"""`trtcal quantize --recover` as users meet it."""

import json

import numpy as np
import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from engines.graph.model import load_model
from tests.engines.networks import classifier
from tests.trtcal.gathering import calibrate_plainly

STEPS = ["equalization", "rounding", "bias-correction", "adaround"]
COARSE = '[default]\nweight_bits = 3\ngranularity = "tensor"\n'


@pytest.fixture
def recover(command, job):
    """Quantizes the job's model with recovery and further options; gives code, output, messages."""
    options = ["--images", job / "images", "--preprocess", "unit", "--count", 6]
    calibrate_plainly(command, job, job / "model.cache", *options)
    (job / "coarse.toml").write_text(COARSE)

    def run(
        *options, steps="equalization,bias-correction", images=("--images", job / "images"), cache=job / "model.cache"
    ):
        given = ["--recover", steps] if steps else []
        return command(
            "quantize", job / "model.onnx", "--cache", cache, "-o", job / "r.onnx", *given, *images, *options
        )

    return run


def refused(result, *messages):
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), err
    for message in messages:
        assert message in err, err


def timeless(out):
    """The JSON without what takes time."""
    value = json.loads(out)
    for step in value["recovery"]["steps"]:
        assert step.pop("seconds") >= 0
        for layer in step.get("layers", {}).values():
            assert layer.pop("seconds") >= 0
        if step["step"] in ("rounding", "adaround"):
            step.pop("note")
    return value


def test_what_it_says(recover, job):
    code, out, err = recover("--config", job / "coarse.toml", steps="bias-correction")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"{job / 'r.onnx'}: 3 operators in INT8, 3 activation scales"
    assert lines[1] == "learned from 6 images, judged by 6 others by top-1, then SQNR"
    table = [line for line in lines if line.startswith(("│", "┃"))]
    for heading in ("step", "top-1", "drop", "agree", "SQNR", "took", "what it did"):
        assert heading in table[0]
    assert [line.split()[1] for line in table[1:]] == ["FP32", "quantized", "bias-correction"]
    assert ("kept" in table[3]) != ("left out" in table[3])
    assert "3 biases, in 4 passes over 6 images" in table[3]
    assert "note: 6 images are few to calibrate on" in err
    assert "holds 12 samples, not the 500 to calibrate on and 500 others" in err
    assert "weights of 3 bits" in err
    assert "in the cache, such as" not in err  # the names of batch normalization's tensors are the model's


def test_json_and_the_sidecar_say_all_of_it(recover, job):
    code, out, _ = recover("--json", "--config", job / "coarse.toml", steps="all")
    value = timeless(out)
    told = value["recovery"]
    assert code == 0
    assert value["quantized"] == ["a/Conv", "b/Conv", "scores/MatMul"]
    assert [step["step"] for step in told["steps"]] == STEPS
    assert (told["criterion"], told["method"]) == ("top-1", "entropy")
    assert told["images"] == {"learned_from": 6, "measured_on": 6}
    assert told["kept"] == [step["step"] for step in told["steps"] if step["kept"]]
    for step in told["steps"]:
        assert step["before"]["top1"]["total"] == 6
        assert step["kept"] <= (step["after"] is not None)
    equalization, rounding, correction, adaround = told["steps"]
    assert equalization["sets"] == [["a/Conv", "b/Conv"], ["b/Conv", "scores/MatMul"]]
    assert set(equalization["skipped"]) == {"scores/MatMul"}
    assert set(rounding["layers"]) == {"a/Conv", "b/Conv", "scores/MatMul"}
    assert set(correction["shifts"]) == set(adaround["layers"]) == {"a/Conv", "b/Conv", "scores/MatMul"}
    record = json.loads((job / "r.onnx.json").read_text())
    written = timeless(json.dumps(record))["recovery"]
    assert written == told
    assert record["preprocess"]["scale"] == pytest.approx(1 / 255)


def test_what_is_written_is_what_was_measured(recover, command, job):
    code, out, _ = recover("--json", "--config", job / "coarse.toml", "--test-images", job / "images", "--count", 6)
    value = json.loads(out)
    assert code == 0
    assert value["recovery"]["images"] == {"learned_from": 6, "measured_on": 6}
    onnx.checker.check_model(load_model(job / "r.onnx"), full_check=True)
    operators = [node.op_type for node in load_model(job / "r.onnx").graph.node]
    assert operators.count("QuantizeLinear") == 3
    code, out, _ = command(
        "accuracy", job / "model.onnx", job / "r.onnx", "--images", job / "images", "--json",
    )  # fmt: skip
    assert code == 0
    _, measured = json.loads(out)["models"]
    assert measured["sqnr_db"] > 5


def test_the_same_twice_and_in_other_batches(recover, job):
    outs = [timeless(recover("--json", *options)[1]) for options in ([], [], ["--batch-size", 1])]
    first = (job / "r.onnx").read_bytes()
    assert outs[0] == outs[1] == outs[2]
    recover("--batch-size", 5)
    assert (job / "r.onnx").read_bytes() == first


def test_ranges_are_found_anew_and_that_is_said(recover, job):
    """The job's channels are made unequal, so that equalization is sure to help."""
    model = onnx.load(job / "model.onnx")
    factors = 10 ** np.random.default_rng(0).uniform(-2, 2, 16)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        if tensor.name in ("a_bn_scale", "a_bn_shift"):
            array *= factors
        elif tensor.name == "b_w":
            array /= factors.reshape(1, -1, 1, 1)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), tensor.name))
    onnx.save(model, job / "model.onnx")
    (job / "model.cache.json").unlink()  # of the model before; TensorRT's caches have none
    text = (job / "model.cache").read_text().splitlines()
    (job / "tensorrt.cache").write_text("\n".join(["TRT-8601-MinMaxCalibration", *text[1:]]) + "\n")
    options = ["--granularity", "tensor", "--preprocess", "unit"]
    options += ["--json"]
    code, out, err = recover(*options, steps="equalization", cache=job / "tensorrt.cache")
    assert code == 0, err
    value = json.loads(out)
    assert (code, value["recovery"]["kept"]) == (0, ["equalization"])
    assert "so that their ranges were found anew, by mse: the scales are not those of the cache" in err
    assert "the cache does not say by which method its ranges were found: mse was taken" in err
    old = CalibrationCache.load(job / "tensorrt.cache")
    assert value["scales"]["pooled"] != old["pooled"]
    code, out, err = recover(
        *options, "--json", "--method", "minmax", steps="equalization", cache=job / "tensorrt.cache"
    )
    assert json.loads(out)["recovery"]["method"] == "minmax"
    assert json.loads(out)["scales"]["pooled"] != value["scales"]["pooled"]
    assert "does not say" not in err


def test_the_preprocessing_is_the_caches(recover, job):
    record = json.loads((job / "model.cache.json").read_text())
    assert recover()[0] == 0
    assert json.loads((job / "r.onnx.json").read_text())["preprocess"] == record["preprocess"]
    told = [json.loads(recover("--json", *given)[1])["recovery"] for given in ([], ["--preprocess", "imagenet"])]
    assert told[0]["plain"]["sqnr_db"] != told[1]["plain"]["sqnr_db"]


def test_statistics_instead_of_a_cache(recover, command, job):
    options = ["--images", job / "images", "--preprocess", "unit", "--statistics", job / "s.npz"]
    calibrate_plainly(command, job, job / "other.cache", *options)
    given = ["--statistics", job / "s.npz", "--recover", "all", "--images", job / "images", "--json"]
    code, out, err = command("quantize", job / "model.onnx", *given, "-o", job / "r.onnx")
    assert code == 0, err
    assert [step["step"] for step in json.loads(out)["recovery"]["steps"]] == STEPS


def test_a_configuration_is_obeyed(recover, job):
    (job / "q.toml").write_text('[default]\nweight_bits = 4\n[[name]]\npattern = "b/*"\nprecision = "fp16"\n')
    code, out, err = recover("--config", job / "q.toml", "--json", steps="all")
    value = json.loads(out)
    assert code == 0, err
    assert value["quantized"] == ["a/Conv", "scores/MatMul"]
    assert set(value["recovery"]["steps"][3]["layers"]) == {"a/Conv", "scores/MatMul"}
    model = load_model(job / "r.onnx")
    (levels,) = (onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "a_w_quantized")
    assert np.abs(levels).max() <= 7


def test_bad_input_is_one_line(recover, command, job):
    refused(recover(steps="equalisation"), "there is no step 'equalisation' of recovery: choose among equalization, ")
    refused(recover(images=()), "--recover learns from images and is judged by others: give --images PATH")
    refused(recover(steps=None), "--images goes with --recover")
    refused(recover("--count", 3, steps=None, images=()), "--count goes with --recover")
    refused(recover("--method", "mode"), "there is no range method 'mode'")
    refused(recover(images=("--images", job / "nowhere")), "nowhere")
    refused(recover("-o", job / "model.onnx"), "model.onnx")
    refused(
        command("quantize", job / "model.onnx", "--dynamic", "--recover", "all", "-o", job / "r.onnx"),
        "has no use for --recover",
    )
    (job / "labels.csv").write_text("file,label\ncat/0.png,7\n")
    assert "labels.csv" in recover("--labels", job / "labels.csv")[2]
    assert not (job / "r.onnx").exists()


def test_a_cache_of_another_model_is_refused(recover, job):
    onnx.save(classifier(seed=1), job / "model.onnx")
    code, _, err = recover()
    assert (code, "was made of another model" in err) == (1, True)


def test_folders_that_are_no_classes(recover, command, job):
    onnx.save(classifier(classes=5), job / "model.onnx")
    (job / "model.cache.json").unlink()
    code, out, err = recover("--json", "--preprocess", "unit")
    assert code == 0
    assert json.loads(out)["recovery"]["criterion"] == "agreement"
    assert "note: the sub-folders are not taken for classes: there are 16 class names" in err
