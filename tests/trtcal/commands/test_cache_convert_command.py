"""`trtcal cache convert`: caches to Q/DQ models and back, and other headers."""

import json
from pathlib import Path

import onnx
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from engines.graph.model import load_model, model_digest
from tests.engines.networks import classifier


@pytest.fixture
def cache(command, job):
    options = ["--images", job / "images", "--preprocess", "unit", "-o", job / "model.cache"]
    assert command("calibrate", job / "model.onnx", *options, "--method", "entropy", "--float-budget", 0)[0] == 0
    return job / "model.cache"


@pytest.fixture
def qdq(command, job, cache):
    """The job's model, quantized with its cache."""
    assert command("quantize", job / "model.onnx", "--cache", cache, "-o", job / "int8.onnx")[0] == 0
    return job / "int8.onnx"


@pytest.fixture
def convert(command):
    return lambda *arguments: command("cache", "convert", *arguments)


@pytest.fixture
def refused(convert, job):
    """Refuses in one line, with exit code 2 or the one given, and writes nothing; gives the line."""

    def run(*arguments, code=2):
        before = {path: path.read_bytes() for path in job.rglob("*") if path.is_file()}
        result = convert(*arguments)
        assert (result[0], result[1], result[2].count("\n")) == (code, "", 1)
        assert {path: path.read_bytes() for path in job.rglob("*") if path.is_file()} == before
        return result[2]

    return run


def test_to_qdq_is_what_quantize_writes(convert, job, cache, qdq):
    code, out, err = convert(cache, "--to", "qdq", job / "model.onnx", "-o", job / "converted.onnx")
    assert code == 0
    assert out == f"{job / 'converted.onnx'}: 3 operators in INT8, 3 activation scales\n"
    assert "flat's, finer than the cache's" in err
    assert (job / "converted.onnx").read_bytes() == qdq.read_bytes()
    assert (job / "converted.onnx.json").read_text() == (job / "int8.onnx.json").read_text()


def test_from_qdq(convert, job, qdq, cache):
    code, out, err = convert("--from", "qdq", qdq, "-o", job / "back.cache")
    assert code == 0
    assert out == f"{job / 'back.cache'}: 5 scales; TensorRT 10.16.0, EntropyCalibration2\n"
    assert err == (
        "note: 2 scale(s), such as a_relu's, taken from a tensor that shares one (pooling, reshapes, concatenation)\n"
        "note: 3 quantized weights and biases are left out: caches list activations only\n"
    )
    before, back = CalibrationCache.load(cache), CalibrationCache.load(job / "back.cache")
    assert list(back) == ["image", "a_relu", "pooled", "average", "flat"]
    for name in ("image", "a_relu", "pooled"):
        assert back.bits(name) == before.bits(name)
    assert back["flat"] == before.sidecar.explicit["flat"]


def test_the_way_back_keeps_what_is_known_of_the_calibration(convert, command, job, qdq, cache):
    convert("--from", "qdq", qdq, "-o", job / "back.cache")
    sidecar, known = Sidecar.beside(job / "back.cache"), Sidecar.beside(cache)
    assert sidecar.model_sha256 == model_digest(job / "model.onnx")
    assert (sidecar.preprocess, sidecar.images, sidecar.method) == (known.preprocess, 12, "entropy")
    assert (sidecar.tensors, sidecar.explicit) == ("quantizable", {})
    assert command("cache", "check", job / "model.onnx", job / "back.cache")[0] == 0
    convert(job / "back.cache", job / "model.onnx", "--to", "qdq", "-o", job / "again.onnx")
    assert (job / "again.onnx").read_bytes() == qdq.read_bytes()


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"calibration": {"format": 1}, "sha256": ""}'])
def test_a_side_car_that_says_nothing_is_no_obstacle(record, convert, job, qdq):
    Path(f"{qdq}.json").write_text(record)
    assert convert("--from", "qdq", qdq, "-o", job / "back.cache")[0] == 0
    assert not (job / "back.cache.json").exists()


def test_a_side_car_of_another_model_is_not_believed(convert, job, qdq):
    model = load_model(qdq)
    model.doc_string = "changed"
    onnx.save(model, qdq)
    assert convert("--from", "qdq", qdq, "-o", job / "back.cache")[0] == 0
    assert not (job / "back.cache.json").exists()


def test_the_header_is_chosen(convert, job, qdq):
    options = ["--algorithm", "MinMaxCalibration", "--tensorrt-version", "8.6.1"]
    assert convert("--from", "qdq", qdq, "-o", job / "back.cache", *options)[0] == 0
    assert (job / "back.cache").read_text().startswith("TRT-8601-MinMaxCalibration\nimage: ")


def test_another_header_for_a_cache(convert, job, cache):
    before = cache.read_bytes().partition(b"\n")
    code, out, err = convert(cache, "-o", job / "old.cache", "--tensorrt-version", "8.6.1")
    assert (code, err) == (0, "")
    assert out.endswith("TensorRT 8.6.1, EntropyCalibration2\n")
    assert (job / "old.cache").read_bytes() == b"TRT-8601-EntropyCalibration2\n" + before[2]
    convert(job / "old.cache", "-o", job / "minmax.cache", "--algorithm", "MinMaxCalibration")
    assert (job / "minmax.cache").read_bytes() == b"TRT-8601-MinMaxCalibration\n" + before[2]
    assert CalibrationCache.load(job / "minmax.cache").sidecar.explicit == Sidecar.beside(cache).explicit


def test_a_legacy_header_gets_a_new_one(convert, job):
    (job / "legacy.cache").write_text("1\nimage: 3c010204\n")
    assert convert(job / "legacy.cache", "-o", job / "new.cache", "--tensorrt-version", "10.3.0")[0] == 0
    assert (job / "new.cache").read_text() == "TRT-100300-EntropyCalibration2\nimage: 3c010204\n"


def test_qdq_to_qdq(convert, job, qdq):
    """Another tool's placement gives way to ours."""
    code, _, _ = convert("--from", "qdq", qdq, "--to", "qdq", job / "model.onnx", "-o", job / "again.onnx")
    assert code == 0
    assert (job / "again.onnx").read_bytes() == qdq.read_bytes()


def test_json(convert, job, qdq):
    code, out, _ = convert("--from", "qdq", qdq, "-o", job / "back.cache", "--json")
    assert code == 0
    back = CalibrationCache.load(job / "back.cache")
    assert json.loads(out) == {
        "cache": str(job / "back.cache"),
        "header": "TRT-101600-EntropyCalibration2",
        "sha256": back.sha256,
        "scales": dict(back),
    }
    _, out, _ = convert(job / "back.cache", job / "model.onnx", "--to", "qdq", "-o", job / "again.onnx", "--json")
    assert json.loads(out)["quantized"] == ["a/Conv", "b/Conv", "scores/MatMul"]


class TestRefusals:
    def test_nothing_to_convert(self, refused, job, cache):
        assert "there is nothing to convert: give --from qdq, --to qdq" in refused(cache, "-o", job / "out")

    def test_no_model_to_write_into(self, refused, job, cache):
        assert "give the model after the source" in refused(cache, "--to", "qdq", "-o", job / "out")

    def test_a_model_too_many(self, refused, job, qdq):
        assert "model.onnx is one file too many" in refused("--from", "qdq", qdq, job / "model.onnx", "-o", job / "out")

    @pytest.mark.parametrize("option", [("--algorithm", "MinMaxCalibration"), ("--tensorrt-version", "8.6.1")])
    def test_a_header_for_a_model(self, option, refused, job, cache):
        message = refused(cache, job / "model.onnx", "--to", "qdq", "-o", job / "out", *option)
        assert "are for the header of a calibration cache" in message

    def test_a_version_that_is_none(self, refused, job, cache):
        message = refused(cache, "-o", job / "out", "--tensorrt-version", "new")
        assert "'new' is no version of TensorRT, such as 8.6.1" in message

    def test_an_output_that_is_read(self, refused, job, cache, qdq):
        for arguments in ([cache, "-o", cache, "--tensorrt-version", "8.6.1"], ["--from", "qdq", qdq, "-o", qdq]):
            assert "it is read, and would be lost" in refused(*arguments)
        assert "it is read, and would be lost" in refused(cache, "--to", "qdq", job / "model.onnx", "-o", cache)

    def test_a_float_model(self, refused, job):
        message = refused("--from", "qdq", job / "model.onnx", "-o", job / "out")
        assert "model.onnx has no Q/DQ nodes, and so no scales: give a quantized model" in message

    def test_what_is_no_model(self, refused, job, cache):
        assert "is not an ONNX model" in refused("--from", "qdq", cache, "-o", job / "out")

    def test_what_is_no_cache(self, refused, job):
        message = refused(job / "model.onnx", job / "model.onnx", "--to", "qdq", "-o", job / "out")
        assert "model.onnx is no TensorRT calibration cache but an ONNX model" in message

    def test_another_models_scales(self, refused, job, qdq):
        onnx.save(classifier(seed=1), job / "other.onnx")
        message = refused("--from", "qdq", qdq, "--to", "qdq", job / "other.onnx", "-o", job / "out", code=1)
        assert f"the cache {qdq} was made of another model" in message
