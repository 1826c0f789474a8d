"""`trtcal cache convert` between the formats of the field."""

import json
import os

import numpy as np
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.formats import FORMATS, load, recognised

TEXT = "TRT-8601-EntropyCalibration2\nimage: 3c010204\na_relu: 3d000000\nflat:0: 3e000000\nzero: 0\n"


@pytest.fixture
def convert(command):
    return lambda *arguments: command("cache", "convert", *arguments)


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "model.cache"
    path.write_text(TEXT)
    return path


@pytest.fixture
def refused(convert, tmp_path):
    """Refuses in one line with exit code 2 and writes nothing; gives the line."""

    def run(*arguments):
        result = convert(*arguments, "-o", tmp_path / "out")
        assert (result[0], result[1], result[2].count("\n")) == (2, "", 1), result
        assert not (tmp_path / "out").exists()
        return result[2]

    return run


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "tensorrt"])
def test_there_and_back(name, convert, cache, tmp_path):
    code, out, err = convert(cache, "--to", name, "-o", tmp_path / "there")
    assert code == 0
    assert f"({name})" in out
    data = (tmp_path / "there").read_bytes()
    assert recognised(data) == name
    assert bool(err) == (name != "trtcal")
    assert all(line.startswith("warning: ") for line in err.splitlines())
    code, out, err = convert(tmp_path / "there", "-o", tmp_path / "back.cache")
    assert code == 0
    back = CalibrationCache.load(tmp_path / "back.cache")
    scales = dict(CalibrationCache.parse(TEXT))
    assert dict(back) == {key: scale for key, scale in scales.items() if scale or name == "trtcal"}
    assert "ONNX Runtime's TensorRT provider misreads flat:0" in err
    assert ("max(highest, lowest)" in err) == (name in ("onnxruntime-flatbuffers", "onnxruntime-text"))
    assert (back.dumps() == TEXT.encode()) == (name == "trtcal")


def test_a_side_car_goes_through_our_own_format(convert, tmp_path):
    sidecar = Sidecar("", "entropy", "all", (), 5, explicit={"pool": 0.25})
    CalibrationCache({"a": 0.5}, sidecar=sidecar).save(tmp_path / "a.cache")
    assert convert(tmp_path / "a.cache", "--to", "trtcal", "-o", tmp_path / "a.encodings.json")[0] == 0
    assert convert(tmp_path / "a.encodings.json", "-o", tmp_path / "b.cache")[0] == 0
    for end in ("cache", "cache.json"):
        assert (tmp_path / f"b.{end}").read_bytes() == (tmp_path / f"a.{end}").read_bytes()


def test_json_lists_what_is_lost(convert, cache, tmp_path):
    code, out, _ = convert(cache, "--to", "aimet", "-o", tmp_path / "e.encodings", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["losses"] == [
        "1 scale left out of AIMET's 1.0.0, for being 0, subnormal, negative or not finite: zero",
        "the cache's header TRT-8601-EntropyCalibration2 left out of AIMET's 1.0.0",
    ]
    assert {key: said[key] for key in ("output", "format", "source_format", "activations", "weights")} == {
        "output": str(tmp_path / "e.encodings"),
        "format": "aimet-1.0.0",
        "source_format": "tensorrt",
        "activations": 3,
        "weights": 0,
    }


def test_a_cache_of_aimets_asymmetric_encodings(convert, tmp_path):
    entry = {"name": "x", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 56}
    weight = {"name": "w", "output_dtype": "int8", "y_scale": [0.5, 0.25], "axis": 0}
    (tmp_path / "e").write_text(json.dumps({"version": "2.0.0", "encodings": [entry, weight]}))
    code, out, err = convert(tmp_path / "e", "-o", tmp_path / "out.cache", "--json")
    assert code == 0
    assert CalibrationCache.load(tmp_path / "out.cache")["x"] == np.float32(99.5 / 127)
    assert json.loads(out)["losses"] == [
        "1 asymmetric encoding becomes the symmetric range that holds both its ends: x",
        "1 weight left out of a TensorRT calibration cache, which lists activations only: w",
    ]
    assert "note: AIMET's 2.0.0 tells no weights from activations" in err


def test_a_header_for_other_formats(convert, cache, tmp_path):
    convert(cache, "--to", "ppq", "-o", tmp_path / "p.json")
    options = ["--tensorrt-version", "10.3", "--algorithm", "MinMaxCalibration"]
    assert convert(tmp_path / "p.json", "-o", tmp_path / "new.cache", *options)[0] == 0
    assert CalibrationCache.load(tmp_path / "new.cache").header == "TRT-100300-MinMaxCalibration"


@pytest.mark.parametrize("name", ["onnxruntime-json", "ppq", "ranges"])
def test_a_model_has_no_header_to_lose(convert, command, job, name):
    options = ["--images", job / "images", "--preprocess", "unit", "-o", job / "model.cache"]
    command("calibrate", job / "model.onnx", *options, "--float-budget", 0)
    command("quantize", job / "model.onnx", "--cache", job / "model.cache", "-o", job / "int8.onnx")
    code, out, _ = convert(job / "int8.onnx", "--to", name, "-o", job / "there", "--json")
    assert (code, json.loads(out)["losses"]) == (0, [])


def test_into_a_model(convert, command, job):
    options = ["--images", job / "images", "--preprocess", "unit", "-o", job / "model.cache"]
    command("calibrate", job / "model.onnx", *options, "--float-budget", 0)
    command("quantize", job / "model.onnx", "--cache", job / "model.cache", "-o", job / "int8.onnx")
    convert(job / "model.cache", "--to", "trtcal", "-o", job / "own.json")
    assert convert(job / "own.json", job / "model.onnx", "--to", "qdq", "-o", job / "again.onnx")[0] == 0
    assert (job / "again.onnx").read_bytes() == (job / "int8.onnx").read_bytes()
    code, out, _ = convert(job / "int8.onnx", "--to", "ranges", "-o", job / "ranges.txt")
    assert (code, out) == (
        0,
        f"{job / 'ranges.txt'}: 5 activations, 0 weights; plain ranges (lines of `name: range` in decimal) (ranges)\n",
    )


class TestAimetWithAModel:
    @pytest.fixture
    def encodings(self, job):
        """AIMET's 1.0.0, with a weight whose axis the file does not tell."""
        entry = {"dtype": "INT", "bw": 8, "is_sym": True}
        one = {**entry, "name": "image", "enc_type": "PER_TENSOR", "scale": [0.5], "offset": [-128]}
        several = {**entry, "name": "w", "enc_type": "PER_CHANNEL", "scale": [0.5, 0.25] * 8, "offset": [-128] * 16}
        values = {"version": "1.0.0", "activation_encodings": [one], "param_encodings": [several]}
        (job / "e.encodings").write_text(json.dumps(values))
        return job / "e.encodings"

    def test_the_model_tells_the_axis(self, convert, job, encodings):
        code, _, err = convert(encodings, job / "model.onnx", "--to", "aimet-2.0.0", "-o", job / "e2")
        assert (code, err) == (0, "")
        assert json.loads((job / "e2").read_text())["encodings"][1]["axis"] == 1

    def test_without_it_the_axis_is_said_to_be_unknown(self, convert, job, encodings):
        _, _, err = convert(encodings, "--to", "aimet-2.0.0", "-o", job / "e2")
        assert err == "warning: 1 encoding gets axis 0, which its file did not tell; give the model: w\n"
        _, _, err = convert(encodings, "--to", "trtcal", "-o", job / "own.json")
        assert err == "note: the axis of w is not known; give the float model\n"
        assert load((job / "own.json").read_bytes(), "trtcal", source="own").axis_unknown == {"w"}

    def test_weights_are_told_from_activations(self, convert, job):
        values = {
            "version": "2.0.0",
            "encodings": [{"name": n, "output_dtype": "int8", "y_scale": 0.5} for n in ("image", "w")],
        }
        (job / "e2").write_text(json.dumps(values))
        code, out, err = convert(job / "e2", job / "model.onnx", "--to", "aimet-1.0.0", "-o", job / "e1")
        assert (code, err) == (0, "")
        assert "1 activations, 1 weights" in out

    def test_a_model_where_none_is_needed(self, refused, job, cache):
        assert "model.onnx is one file too many" in refused(cache, job / "model.onnx", "--to", "ppq")


class TestRefusals:
    @pytest.mark.parametrize("name", ["aimet", *FORMATS])
    @pytest.mark.parametrize("content", [b"", b"{", b"\0\1\2", b"[1]", b"TRT-8601-X\n", b"a: b\n", b'{"a": NaN}'])
    def test_malformed(self, name, content, refused, tmp_path):
        (tmp_path / "odd").write_bytes(content)
        target = "trtcal" if name == "tensorrt" else "tensorrt"
        assert "odd" in refused(tmp_path / "odd", "--from", name, "--to", target)
        assert "odd" in refused(tmp_path / "odd", "--to", "trtcal")

    def test_another_format_than_stated(self, refused, convert, cache, tmp_path):
        convert(cache, "--to", "ppq", "-o", tmp_path / "p.json")
        assert "p.json is PPQ's ranges in JSON (ppq), not aimet: leave --from out" in refused(
            tmp_path / "p.json", "--from", "aimet"
        )
        assert "`trtcal cache convert" in refused(
            tmp_path / "p.json", "--from", "tensorrt", "--tensorrt-version", "10.3"
        )

    def test_an_unknown_format(self, refused, cache):
        assert "Invalid value for '--to'" in refused(cache, "--to", "onnx")

    @pytest.mark.parametrize("option", [(), ("--from", "ppq"), ("--from", "tensorrt"), ("--from", "qdq")])
    def test_folders_and_missing_files(self, option, refused, tmp_path):
        assert str(tmp_path) in refused(tmp_path, *option, "--to", "trtcal")
        assert "missing" in refused(tmp_path / "missing", *option, "--to", "trtcal")

    def test_a_vast_file(self, refused, tmp_path):
        (tmp_path / "vast").touch()
        os.truncate(tmp_path / "vast", 2**40)
        assert "is no file of scales: none is larger than 256 MiB" in refused(tmp_path / "vast", "--to", "trtcal")

    def test_statistics_and_side_cars(self, refused, tmp_path):
        np.savez(tmp_path / "a.stats.npz", a=1)
        assert "`trtcal calibrate --statistics-from`" in refused(tmp_path / "a.stats.npz")
        CalibrationCache({"a": 0.5}, sidecar=Sidecar("", "entropy", "all", (), 5)).save(tmp_path / "a.cache")
        assert "give the cache itself, without .json" in refused(tmp_path / "a.cache.json")

    def test_a_float_model(self, refused, job):
        assert "an ONNX model in float" in refused(job / "model.onnx")

    def test_activations_of_several_scales(self, refused, tmp_path):
        entry = {
            "dtype": "INT",
            "bw": 8,
            "is_sym": True,
            "enc_type": "PER_CHANNEL",
            "scale": [1, 2],
            "offset": [-128, -128],
        }
        values = {"version": "1.0.0", "activation_encodings": [{"name": "x", **entry}], "param_encodings": []}
        (tmp_path / "e").write_text(json.dumps(values))
        for name in ("tensorrt", "ppq", "ranges", "onnxruntime-json"):
            assert "x has several scales" in refused(tmp_path / "e", "--to", name)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "tensorrt"])
def test_other_commands_tell_how_to_convert(name, command, convert, job, cache):
    cache.write_text(TEXT.replace("flat:0", "flat"))
    convert(cache, "--to", name, "-o", job / "other")
    hint = f"looks like {FORMATS[name].title} (`trtcal cache convert {job / 'other'} -o NEW.cache` makes a cache of it)"
    if name == "onnxruntime-flatbuffers":
        hint = hint.replace("looks like", "but")
    for arguments in (
        ["cache", "show", job / "other"],
        ["cache", "check", job / "model.onnx", job / "other"],
        ["quantize", job / "model.onnx", "--cache", job / "other", "-o", job / "q.onnx"],
    ):
        code, out, err = command(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert hint in err


def test_a_model_with_its_weights(convert, command, job):
    options = ["--images", job / "images", "--preprocess", "unit", "-o", job / "model.cache"]
    command("calibrate", job / "model.onnx", *options, "--float-budget", 0)
    command("quantize", job / "model.onnx", "--cache", job / "model.cache", "-o", job / "int8.onnx")
    code, out, err = convert(job / "int8.onnx", "--to", "aimet-2.0.0", "-o", job / "e2")
    assert (code, err) == (0, "")
    assert "5 activations, 3 weights" in out
    again = convert(job / "e2", job / "model.onnx", "--to", "trtcal", "-o", job / "own.json")
    assert again[0] == 0
    assert "5 activations, 3 weights" in again[1]


def test_encodings_of_weights_are_not_written_into_a_model(convert, job):
    def entry(name, **more):
        return {"name": name, "output_dtype": "int8", "y_scale": 0.01, **more}

    activations = [entry(name) for name in ("image", "a_relu", "pooled", "flat")]
    values = {"version": "2.0.0", "encodings": [*activations, entry("w") | {"y_scale": [0.5, 0.25], "axis": 1}]}
    (job / "e2").write_text(json.dumps(values))
    code, out, err = convert(job / "e2", job / "model.onnx", "--to", "qdq", "-o", job / "q.onnx")
    assert code == 0
    assert "3 operators in INT8" in out
    assert "warning: 1 encodings of weights are not used: weights get their own here" in err
