"""The preprocessing that side-cars record."""

import json

import pytest

from calibrators.errors import CacheError, DataError
from calibrators.files import sha256_of
from calibrators.sidecar import Sidecar
from trtcal.preprocess import Preprocess
from trtcal.recorded import recorded_preprocess

CIFAR, RAW = Preprocess.load("cifar10"), Preprocess.load("raw")


def write_model_sidecar(model, preprocess):
    path = model.with_name(model.name + ".json")
    path.write_text(json.dumps({"model_sha256": "a" * 64, "preprocess": preprocess}))
    return path


def write_cache(cache, preprocess, *, text="TRT-8601-EntropyCalibration2\nx: 3c010204\n", stale=False):
    cache.write_text(text)
    digest = "b" * 64 if stale else sha256_of(cache)
    sidecar = Sidecar(
        model_sha256="a" * 64,
        method="entropy",
        tensors="all",
        image_sets=("c" * 64,),
        images=10,
        preprocess=preprocess,
        cache_sha256=digest,
    )
    path = cache.with_name(cache.name + ".json")
    path.write_text(sidecar.dumps())
    return path


def test_nothing_beside_the_model(tmp_path):
    assert recorded_preprocess(tmp_path / "model.onnx") is None


def test_of_a_quantized_model(tmp_path):
    path = write_model_sidecar(tmp_path / "model.int8.onnx", CIFAR.to_dict())
    assert recorded_preprocess(tmp_path / "model.int8.onnx") == (path, CIFAR)


def test_of_the_cache_beside_a_model(tmp_path):
    path = write_cache(tmp_path / "model.cache", RAW.to_dict())
    assert recorded_preprocess(tmp_path / "model.onnx") == (path, RAW)


def test_the_models_own_goes_before_the_caches(tmp_path):
    write_cache(tmp_path / "model.cache", RAW.to_dict())
    path = write_model_sidecar(tmp_path / "model.onnx", CIFAR.to_dict())
    assert recorded_preprocess(tmp_path / "model.onnx") == (path, CIFAR)
    write_model_sidecar(tmp_path / "model.onnx", None)
    found = recorded_preprocess(tmp_path / "model.onnx")
    assert found is not None
    assert found[1] == RAW


def test_a_side_car_of_an_earlier_cache_is_not_believed(tmp_path):
    write_cache(tmp_path / "model.cache", RAW.to_dict(), stale=True)
    assert recorded_preprocess(tmp_path / "model.onnx") is None


def test_a_cache_of_arrays_records_nothing(tmp_path):
    write_cache(tmp_path / "model.cache", None)
    assert recorded_preprocess(tmp_path / "model.onnx") is None


@pytest.mark.parametrize("content", ["[]", '{"sample_rate": 22050}', '{"preprocess": "imagenet"}'])
def test_other_programs_files_of_that_name_are_passed_over(tmp_path, content):
    (tmp_path / "model.onnx.json").write_text(content)
    assert recorded_preprocess(tmp_path / "model.onnx") is None


def test_malformed_files_are_named(tmp_path):
    path = tmp_path / "model.onnx.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"model\.onnx\.json is not JSON .*; delete it or quantize again"):
        recorded_preprocess(tmp_path / "model.onnx")
    write_model_sidecar(tmp_path / "model.onnx", {"scale": 0})
    with pytest.raises(DataError, match=r"model\.onnx\.json holds no preprocessing that can be used: scale must be"):
        recorded_preprocess(tmp_path / "model.onnx")
    path.unlink()
    write_cache(tmp_path / "model.cache", None).write_text("{")
    with pytest.raises(CacheError, match=r"model\.cache\.json is not JSON"):
        recorded_preprocess(tmp_path / "model.onnx")
