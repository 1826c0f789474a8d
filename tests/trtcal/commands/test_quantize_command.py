"""`trtcal quantize`: what it writes and what it says."""

import json
import re

import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.files import sha256_of
from engines.graph.model import load_model
from tests.engines.networks import Net, classifier

FROM_THE_SIDE_CAR = re.compile(
    r"note: 1 scale\(s\), such as flat's, finer than the cache's [^\n]*side-car[^\n]*: [^\n]*\n"
)


@pytest.fixture
def cache(command, job):
    options = ["--images", job / "images", "--preprocess", "unit", "-o", job / "model.cache"]
    assert command("calibrate", job / "model.onnx", *options, "--float-budget", 0)[0] == 0
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
    code, out, err = command("quantize", job / "int8.onnx", "--cache", cache, "-o", job / "twice.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the model is quantized already: give the float model" in err


class TestWeights:
    @pytest.mark.parametrize("weights", ["absmax", "mse"])
    @pytest.mark.parametrize("granularity", ["channel", "tensor"])
    def test_method_and_granularity_are_recorded(self, quantize, job, weights, granularity):
        code, out, _ = quantize("--weights", weights, "--granularity", granularity, "--json")
        assert code == 0
        record = json.loads((job / "int8.onnx.json").read_text())
        for said in (json.loads(out), record):
            assert (said["weights"], said["granularity"]) == (weights, granularity)
        axes = [
            {each.name for each in node.attribute}
            for node in load_model(job / "int8.onnx").graph.node
            if node.op_type == "DequantizeLinear"
        ]
        assert axes.count({"axis"}) == (3 if granularity == "channel" else 0)

    @pytest.mark.parametrize(
        "name, own", [("abs_max", "absmax"), ("max", "absmax"), ("MSEChannelWiseWeightObserver", "mse")]
    )
    def test_names_of_other_tools_are_understood(self, quantize, name, own):
        code, out, _ = quantize("--weights", name, "--json")
        assert (code, json.loads(out)["weights"]) == (0, own)

    def test_the_defaults_are_absmax_and_channel(self, quantize, job):
        assert quantize()[0] == 0
        plain = (job / "int8.onnx").read_bytes()
        assert quantize("--weights", "absmax", "--granularity", "channel")[0] == 0
        assert (job / "int8.onnx").read_bytes() == plain
        assert quantize("--weights", "mse")[0] == 0
        assert (job / "int8.onnx").read_bytes() != plain

    @pytest.mark.parametrize(
        "options, why",
        [
            (["--granularity", "block:8"], "a/Conv is a Conv, and blocks divide the weights of MatMul and Gemm alone"),
            (["--granularity", "row"], "there is no granularity 'row' of weights: choose channel, tensor or block:N"),
            (["--weights", "least"], "there is no weight method 'least': choose among absmax, mse"),
            (["--weights", "kl"], "absmax, mse (that is for activations: of weights, mse searches the range of least"),
            (["--weights", "histogram"], "(that is for activations: of weights, mse searches"),
            (["--weights", "power2"], "absmax, mse (scales are powers of two by power_of_two = true in a config"),
        ],
    )
    def test_what_there_is_not_is_one_line(self, quantize, job, options, why):
        code, out, err = quantize(*options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err
        assert not (job / "int8.onnx").exists()

    def test_blocks_of_a_matrix_product(self, command, job):
        net = Net()
        net.weight("w", 32, 16, fan_in=32)
        net.node("MatMul", net.input("x", ("N", 32)) + " w", "y")
        onnx.save(net.model("y"), job / "product.onnx")
        CalibrationCache({"x": 0.02}).save(job / "product.cache")
        options = ["--cache", job / "product.cache", "--granularity", "block:16", "-o", job / "blocks.onnx"]
        code, _, err = command("quantize", job / "product.onnx", *options)
        assert code == 0
        assert "note: weights have a scale per block of 16: this model is for ONNX Runtime; TensorRT has no " in err
        assert json.loads((job / "blocks.onnx.json").read_text())["granularity"] == "block:16"


class TestDynamic:
    @pytest.fixture
    def dynamic(self, command, job):
        return lambda *options: command("quantize", job / "model.onnx", "--dynamic", "-o", job / "dyn.onnx", *options)

    def test_writes_a_model(self, dynamic, job):
        code, out, err = dynamic()
        assert code == 0
        assert out == f"{job / 'dyn.onnx'}: 3 operators in INT8, 3 activations quantized at run time\n"
        assert err == (
            "note: this model is for ONNX Runtime: TensorRT has no dynamic INT8, and trtcal build refuses it; for "
            "TensorRT calibrate, and quantize with --cache\n"
        )
        record = json.loads((job / "dyn.onnx.json").read_text())
        assert record["sha256"] == sha256_of(job / "dyn.onnx")
        assert (record["dynamic"], record["left_float"]) == (True, {})
        assert "TensorRT has no dynamic INT8" in record["notes"][0]
        assert (record["weights"], record["granularity"]) == ("absmax", "channel")
        assert record["quantized"] == ["a/Conv", "b/Conv", "scores/MatMul"]
        assert record["activations"] == ["image", "pooled", "flat"]

    def test_json_alone_is_on_standard_output(self, dynamic, job):
        code, out, err = dynamic("--json", "--weights", "mse", "--granularity", "tensor")
        assert (code, err.count("\n")) == (0, 1)
        result = json.loads(out)
        assert (result["model"], result["dynamic"]) == (str(job / "dyn.onnx"), True)
        assert (result["weights"], result["granularity"]) == ("mse", "tensor")
        assert result["activations"] == ["image", "pooled", "flat"]

    def test_a_cache_as_well_is_refused(self, dynamic, job, cache):
        code, out, err = dynamic("--cache", cache)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "--dynamic finds the ranges when the model runs and has no use for --cache" in err
        assert not (job / "dyn.onnx").exists()

    def test_neither_is_refused(self, command, job):
        code, out, err = command("quantize", job / "model.onnx", "-o", job / "dyn.onnx")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "give --cache MODEL.cache, the model's calibration cache (trtcal calibrate writes it); or --dyn" in err
        assert not (job / "dyn.onnx").exists()

    def test_blocks_are_refused(self, dynamic):
        code, out, err = dynamic("--granularity", "block:8")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "ONNX's products of integers take no scales by blocks" in err

    def test_the_model_itself_is_not_overwritten(self, command, job):
        before = (job / "model.onnx").read_bytes()
        code, out, err = command("quantize", job / "model.onnx", "--dynamic", "-o", job / "model.onnx")
        assert (code, out) == (2, "")
        assert "it is read, and would be lost" in err
        assert (job / "model.onnx").read_bytes() == before

    def test_the_result_is_refused_as_a_float_model(self, dynamic, command, job, cache):
        dynamic()
        (job / "model.cache.json").unlink()
        options = {
            "quantize": ["--cache", cache],
            "calibrate": ["--images", job / "images", "--preprocess", "unit"],
        }
        for verb, needed in options.items():
            code, out, err = command(verb, job / "dyn.onnx", *needed, "-o", job / "again")
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "quantized" in err
            assert "the float model" in err

    def test_help_says_that_tensorrt_has_none(self, command):
        code, out, _ = command("quantize", "--help")
        assert code == 0
        assert "TensorRT has no dynamic INT8" in " ".join(out.split())

    def test_the_other_verbs_take_it(self, dynamic, command, job):
        dynamic()
        code, out, _ = command("inspect", job / "dyn.onnx")
        assert code == 0
        assert "ranges are found when the model runs: it is for ONNX Runtime, TensorRT has no dynamic INT8" in out
        assert "3 of 3 weighted operators quantized, 0 Q/DQ pairs" in out
        options = ["--images", job / "images", "--preprocess", "unit", "--json"]
        code, out, _ = command("accuracy", job / "model.onnx", job / "dyn.onnx", *options)
        assert code == 0
        code, out, _ = command("benchmark", job / "model.onnx", job / "dyn.onnx", "--duration", "0.05", "--json")
        assert code == 0
