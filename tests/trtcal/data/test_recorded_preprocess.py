"""The preprocessing that side-cars record, and when they are believed."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from calibrators.cache.sidecar import Sidecar
from calibrators.errors import CacheError, DataError
from calibrators.files import sha256_of
from engines.graph.model import input_specs, model_digest
from tests.engines.networks import classifier
from trtcal.data.images import ImageLoader
from trtcal.data.preprocess import Preprocess
from trtcal.data.recorded_preprocess import Recorded, recorded_preprocess
from trtcal.pipeline import quantize

CIFAR, RAW = Preprocess.load("cifar10"), Preprocess.load("raw")


@pytest.fixture
def model(tmp_path):
    onnx.save(classifier(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def write_model_sidecar(model, preprocess, **more):
    path = model.with_name(model.name + ".json")
    content = {"sha256": sha256_of(model), "model_sha256": "a" * 64, "preprocess": preprocess, **more}
    path.write_text(json.dumps(content))
    return path


def write_cache(model, preprocess, **more):
    cache = model.with_suffix(".cache")
    cache.write_text("TRT-8601-EntropyCalibration2\nx: 3c010204\n")
    values = {"cache_sha256": sha256_of(cache), "model_sha256": model_digest(model), **more}
    sidecar = Sidecar(
        method="entropy", tensors="all", image_sets=("c" * 64,), images=10, preprocess=preprocess, **values
    )
    path = cache.with_name(cache.name + ".json")
    path.write_text(sidecar.dumps())
    return path


def test_nothing_beside_the_model(tmp_path):
    assert recorded_preprocess(tmp_path / "model.onnx") == Recorded()


def test_of_a_quantized_model(model):
    path = write_model_sidecar(model, CIFAR.to_dict())
    assert recorded_preprocess(model) == Recorded(path, CIFAR)
    assert recorded_preprocess(str(model)) == Recorded(path, CIFAR)


def test_of_the_cache_beside_a_model(model):
    path = write_cache(model, RAW.to_dict())
    assert recorded_preprocess(model) == Recorded(path, RAW)


def test_the_models_own_goes_before_the_caches(model):
    write_cache(model, RAW.to_dict())
    path = write_model_sidecar(model, CIFAR.to_dict())
    assert recorded_preprocess(model) == Recorded(path, CIFAR)
    write_cache(model, RAW.to_dict(), model_sha256="a" * 64)
    assert recorded_preprocess(model) == Recorded(path, CIFAR)
    write_cache(model, RAW.to_dict())
    write_model_sidecar(model, None)
    assert recorded_preprocess(model).preprocess == RAW


def test_what_quantize_writes_is_believed_until_the_model_changes(job, command):
    model, int8 = job / "model.onnx", job / "model.int8.onnx"
    options = ["--preprocess", "unit", "-o", job / "ranges.cache"]
    assert command("calibrate", model, "--images", job / "images", *options)[0] == 0
    quantize(model, job / "ranges.cache", output=int8)
    found = recorded_preprocess(int8)
    assert found.path == Path(f"{int8}.json")
    assert found.preprocess is not None and found.preprocess.scale == 1 / 255
    assert found.ignored == ()
    onnx.save(classifier(), int8)
    assert recorded_preprocess(int8) == Recorded(
        ignored=(f"{int8}.json is ignored: it describes another file than model.int8.onnx",)
    )


def test_a_side_car_of_another_model_is_not_believed(model):
    path = write_model_sidecar(model, CIFAR.to_dict(), sha256="b" * 64)
    said = f"{path} is ignored: it describes another file than model.onnx"
    assert recorded_preprocess(model) == Recorded(ignored=(said,))
    beside = write_cache(model, RAW.to_dict())
    assert recorded_preprocess(model) == Recorded(beside, RAW, (said,))
    path.write_text(json.dumps({"preprocess": CIFAR.to_dict()}))
    (said,) = recorded_preprocess(model).ignored
    assert said == f"{path} is ignored: it does not say which file it describes, so it may not be model.onnx"


@pytest.mark.parametrize(
    ("stale", "reason"),
    [
        ({"cache_sha256": "b" * 64}, "it describes an earlier cache than model.cache"),
        ({"model_sha256": "b" * 64}, "it describes a cache of another model than model.onnx"),
        ({"model_sha256": ""}, "it describes a cache of another model than model.onnx"),
    ],
)
def test_a_side_car_of_another_cache_is_not_believed(model, stale, reason):
    path = write_cache(model, RAW.to_dict(), **stale)
    assert recorded_preprocess(model) == Recorded(ignored=(f"{path} is ignored: {reason}",))


def test_a_cache_of_arrays_records_nothing(model):
    write_cache(model, None, model_sha256="b" * 64)
    assert recorded_preprocess(model) == Recorded()


@pytest.mark.parametrize("content", ["[]", '{"sample_rate": 22050}', '{"preprocess": "imagenet"}'])
def test_other_programs_files_of_that_name_are_passed_over(model, content):
    Path(f"{model}.json").write_text(content)
    assert recorded_preprocess(model) == Recorded()


def test_malformed_files_are_named(model):
    path = Path(f"{model}.json")
    path.write_text("{")
    with pytest.raises(DataError, match=r"model\.onnx\.json is not JSON .*; delete it or quantize again"):
        recorded_preprocess(model)
    write_model_sidecar(model, {"scale": 0})
    with pytest.raises(DataError, match=r"model\.onnx\.json holds no preprocessing that can be used: scale must be"):
        recorded_preprocess(model)
    path.unlink()
    write_cache(model, None).write_text("{")
    with pytest.raises(CacheError, match=r"model\.cache\.json is not JSON"):
        recorded_preprocess(model)


def test_json_that_nests_without_end(model):
    model.with_name(model.name + ".json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"model\.onnx\.json is not JSON \(.*\); delete it or quantize again"):
        recorded_preprocess(model)


class TestOfALoader:
    """`ImageLoader(..., model=...)`."""

    def test_takes_what_is_recorded(self, job):
        (job / "model.onnx.json").unlink(missing_ok=True)
        write_model_sidecar(job / "model.onnx", Preprocess.load("imagenet-tf").to_dict())
        loader = ImageLoader(job / "images", model=job / "model.onnx")
        assert "127.5" in str(loader.preprocess)
        assert loader.notes == (f"Preprocessing from {job / 'model.onnx.json'}",)
        assert list(next(iter(loader))) == ["image"]
        assert loader.sampled(2).preprocess == loader.preprocess

    def test_obeys_what_is_asked_and_warns(self, job):
        write_model_sidecar(job / "model.onnx", RAW.to_dict())
        with pytest.warns(UserWarning, match="the preprocessing is not the one of the calibration: .*onnx.json says"):
            loader = ImageLoader(job / "images", model=job / "model.onnx", preprocess="unit")
        assert "/ 255" in str(loader.preprocess)

    def test_says_what_is_not_believed(self, job):
        write_model_sidecar(job / "model.onnx", RAW.to_dict(), sha256="0" * 64)
        loader = ImageLoader(job / "images", model=job / "model.onnx")
        (note,) = loader.notes
        assert "is ignored: it describes another file than model.onnx" in note
        assert "pixel / 255 - [0.485" in str(loader.preprocess)

    def test_without_a_record_goes_by_the_input_as_the_commands_do(self, job):
        grey = helper.make_tensor_value_info("g", TensorProto.UINT8, ["N", 16, 16, 1])
        out = helper.make_tensor_value_info("y", TensorProto.UINT8, ["N", 16, 16, 1])
        graph = helper.make_graph([helper.make_node("Identity", ["g"], ["y"])], "g", [grey], [out])
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), job / "grey.onnx"
        )
        loader = ImageLoader(job / "images", model=job / "grey.onnx")
        assert loader.notes == ()
        assert next(iter(loader))["g"].shape == (8, 16, 16, 1)
        later = ImageLoader(job / "images").for_model(input_specs(onnx.load(job / "grey.onnx")))
        assert later.preprocess == loader.preprocess
