"""`trtcal quantize`: what it writes and what it says."""

import json
import re

import onnx
import pytest

from calibrators.cache import CalibrationCache
from calibrators.files import sha256_of
from engines.graph import load_model
from tests.engines.networks import classifier

FROM_THE_SIDE_CAR = re.compile(r"note: 1 scale\(s\), such as flat's, taken from the [^\n]*side-car: [^\n]*\n")


@pytest.fixture
def cache(command, job):
    options = ["--images", job / "images", "--preprocess", "unit", "-o", job / "model.cache"]
    assert command("calibrate", job / "model.onnx", *options)[0] == 0
    return job / "model.cache"


@pytest.fixture
def quantize(command, job, cache):
    """Quantizes the job's model with further options; gives code, output, messages."""

    def run(*options, model=job / "model.onnx"):
        return command("quantize", model, "--cache", cache, "-o", job / "int8.onnx", *options)

    return run


def test_writes_a_model(quantize, job):
    code, out, err = quantize()
    assert code == 0
    assert FROM_THE_SIDE_CAR.fullmatch(err)
    assert out == f"{job / 'int8.onnx'}: 3 operators in INT8, 3 activation scales\n"
    operators = [node.op_type for node in load_model(job / "int8.onnx").graph.node]
    assert (operators.count("QuantizeLinear"), operators.count("DequantizeLinear")) == (3, 6)
    record = json.loads((job / "int8.onnx.json").read_text())
    assert record["sha256"] == sha256_of(job / "int8.onnx")
    assert record["left_float"] == {}


def test_json_alone_is_on_standard_output(quantize, job, cache):
    code, out, err = quantize("--json")
    assert code == 0
    assert FROM_THE_SIDE_CAR.fullmatch(err)
    result = json.loads(out)
    assert result["model"] == str(job / "int8.onnx")
    assert result["quantized"] == ["a/Conv", "b/Conv", "scores/MatMul"]
    assert set(result["scales"]) == {"image", "pooled", "flat"}
    assert result["scales"]["image"] == CalibrationCache.load(cache)["image"]
    assert (result["left_float"], result["from_sidecar"], result["unused"]) == ({}, ["flat"], [])


def test_what_stays_in_float_is_said(quantize, job, cache):
    text = cache.read_text().splitlines()
    cache.write_text("\n".join(line for line in text if not line.startswith(("flat", "average", "b_relu"))) + "\n")
    code, out, err = quantize()
    assert code == 0
    assert "2 operators in INT8" in out
    assert err == "left in float: scores/MatMul, for its input flat has no scale in the cache\n"


def test_names_that_the_model_does_not_have_are_counted(quantize, cache):
    """TensorRT's own apart from those of another model."""
    with cache.open("a") as file:
        file.write("(Unnamed Layer* 3) [Shuffle]_output: 3c010204\nimage copy: 3c010204\nelsewhere: 3c010204\n")
    code, _, err = quantize()
    assert code == 0
    assert err == (
        "note: 1 scale(s), such as flat's, taken from before an average pooling, as TensorRT's caches have it: "
        "calibrate with trtcal for finer ones, which its side-cars hold\n"
        "note: 2 name(s) in the cache, such as (Unnamed Layer* 3) [Shuffle]_output, dropped: TensorRT's own, of no "
        "tensor of the model\n"
        "note: 1 name(s) in the cache, such as elsewhere, not in the model\n"
    )
    result = json.loads(quantize("--json")[1])
    assert result["internal"] == ["(Unnamed Layer* 3) [Shuffle]_output", "image copy"]
    assert result["unused"] == ["elsewhere"]


def test_scales_that_are_reconciled_are_said(quantize, cache):
    """A cache whose two sides of a pooling differ, as an edited one's may."""
    scales = CalibrationCache.load(cache)
    scales.with_scales({"pooled": scales["pooled"] / 2}).save(cache)
    cache.with_name("model.cache.json").unlink()
    code, out, err = quantize("--json")
    assert code == 0
    assert err.startswith("note: 1 scale(s), such as pooled's, taken from a tensor that shares one (pooling, ")
    assert json.loads(out)["shared"] == ["pooled"]
    assert json.loads(out)["scales"]["pooled"] == scales["pooled"]


def test_a_cache_of_zeros(quantize, cache):
    """As black images, or a preprocessing that multiplies by 0, give it."""
    scales = CalibrationCache.load(cache)
    scales.with_scales(dict.fromkeys(scales, 0.0)).save(cache)
    cache.with_name("model.cache.json").unlink()
    code, out, err = quantize()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "scale is zero for every tensor to quantize that it lists (3 of 3, such as image)" in err
    assert "saw nothing but zeros" in err


def test_a_cache_of_another_model(quantize, job):
    onnx.save(classifier(seed=1), job / "other.onnx")
    code, out, err = quantize(model=job / "other.onnx")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "model.cache was made of another model" in err
    assert "calibrate this model" in err
    assert not (job / "int8.onnx").exists()


def test_the_result_again(quantize, command, job, cache):
    quantize()
    (job / "model.cache.json").unlink()
    code, out, err = command("quantize", job / "int8.onnx", "--cache", cache, "-o", job / "twice.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the model is quantized already: give the float model" in err
