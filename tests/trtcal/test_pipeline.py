"""The main job as functions."""

import json

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheMismatchError, DataError, OutputError
from calibrators.files import sha256_of
from engines.graph.model import activations, load_model, model_digest
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import classifier
from tests.trtcal.gathering import collect_images
from trtcal.pipeline import quantize, require_fit, require_same_model


class TestCollectImages:
    def test_a_folder(self, job):
        statistics, loader = collect_images(job / "model.onnx", job / "images")
        model = load_model(job / "model.onnx")
        assert tuple(statistics) == activations(model)
        assert {each.samples for each in statistics.values()} == {12}
        known = statistics.provenance
        assert (known.model, known.count, known.seed) == (model_digest(job / "model.onnx"), 12, 0)
        assert known.images == (loader.digest,)
        assert known.preprocess == loader.preprocess.to_dict()

    def test_preprocessing_comes_before_the_model(self, job):
        """Pixels from 0 to 255, and the same divided by 255."""
        raw, _ = collect_images(job / "model.onnx", job / "images", preprocess="raw")
        unit, _ = collect_images(job / "model.onnx", job / "images", preprocess="unit")
        assert raw["image"].amax == 255
        assert unit["image"].amax == 1

    def test_options_are_handed_on(self, job):
        (job / "images" / "cat" / "bad.png").write_bytes(b"no image")
        statistics, loader = collect_images(
            job / "model.onnx", job / "images", count=7, seed=3, tensors="quantizable", on_bad_image="skip"
        )
        assert statistics.provenance.count == loader.count - len(loader.skipped)
        assert (loader.count, loader.seed) == (7, 3)
        assert "a" not in statistics
        with pytest.raises(DataError, match=r"cat/bad\.png"):
            collect_images(job / "model.onnx", job / "images")

    def test_the_batch_size_changes_nothing(self, job):
        one, _ = collect_images(job / "model.onnx", job / "images", batch_size=1)
        all_at_once, _ = collect_images(job / "model.onnx", job / "images", batch_size=12)
        assert dict(one) == dict(all_at_once)
        assert one.provenance == all_at_once.provenance

    def test_arrays_and_a_model_in_memory(self, job):
        pixels = np.random.default_rng(0).random((5, 3, 16, 16), np.float32)
        np.save(job / "arrays.npy", pixels)
        statistics, loader = collect_images(load_model(job / "model.onnx"), job / "arrays.npy")
        assert statistics["image"].amax == pixels.max()
        assert loader.preprocess.as_is
        assert statistics.provenance.model == ""


@pytest.fixture
def cache(job):
    statistics, _ = collect_images(job / "model.onnx", job / "images")
    trtcal.calibrate(statistics, method="minmax").save(job / "model.cache")
    return job / "model.cache"


class TestQuantize:
    def test_writes_the_model_and_its_side_car(self, job, cache):
        result = quantize(job / "model.onnx", cache, output=job / "int8.onnx")
        assert load_model(job / "int8.onnx") == result.model
        assert set(result.scales) == {"image", "pooled", "flat"}
        record = json.loads((job / "int8.onnx.json").read_text())
        assert record["model_sha256"] == model_digest(job / "model.onnx")
        assert record["cache_sha256"] == CalibrationCache.load(cache).sha256
        assert record["preprocess"] == Sidecar.beside(cache).preprocess
        assert record["sha256"] == sha256_of(job / "int8.onnx")
        assert record["quantized"] == ["a/Conv", "b/Conv", "scores/MatMul"]
        assert record["left_float"] == {}
        assert record["scales"] == dict(result.scales)
        assert record["shared"] == []
        assert record["calibration"] == json.loads(Sidecar.beside(cache).dumps())

    def test_without_an_output_nothing_is_written(self, job, cache):
        before = sorted(path.name for path in job.iterdir())
        result = quantize(load_model(job / "model.onnx"), CalibrationCache.load(cache))
        assert sorted(path.name for path in job.iterdir()) == before
        sample = {"image": np.random.default_rng(0).random((1, 3, 16, 16), np.float32)}
        floats, integers = (OnnxRuntimeSession(each).run(sample) for each in (job / "model.onnx", result.model))
        np.testing.assert_allclose(integers["scores"], floats["scores"], atol=0.1)

    def test_a_cache_without_a_side_car_serves_any_model(self, job, cache):
        (job / "model.cache.json").unlink()
        quantize(job / "model.onnx", cache, output=job / "int8.onnx")
        assert json.loads((job / "int8.onnx.json").read_text())["preprocess"] is None

    def test_a_cache_of_another_model_is_refused(self, job, cache):
        onnx.save(classifier(seed=1), job / "other.onnx")
        with pytest.raises(CacheMismatchError, match="was made of another model") as caught:
            quantize(job / "other.onnx", cache, output=job / "int8.onnx")
        assert str(cache) in str(caught.value)
        assert caught.value.exit_code == 1
        assert not (job / "int8.onnx").exists()

    @pytest.mark.parametrize("name", ["model.onnx", "model.cache", "link.onnx"])
    def test_an_output_that_is_read_is_refused(self, job, cache, name):
        (job / "link.onnx").hardlink_to(job / "model.onnx")
        before = (job / name).read_bytes()
        with pytest.raises(OutputError, match="it is read, and would be lost"):
            quantize(job / "model.onnx", cache, output=job / name)
        assert (job / name).read_bytes() == before

    def test_a_side_car_that_cannot_be_written_leaves_the_old_model(self, job, cache):
        (job / "int8.onnx").write_text("good")
        (job / "int8.onnx.json").mkdir()
        with pytest.raises(OutputError, match=r"int8\.onnx\.json: it is a folder"):
            quantize(job / "model.onnx", cache, output=job / "int8.onnx")
        assert (job / "int8.onnx").read_text() == "good"


class TestQuantizeDynamic:
    def test_writes_the_model_and_its_side_car(self, job):
        result = trtcal.quantize_dynamic(job / "model.onnx", output=job / "dynamic.onnx", weights="mse")
        assert load_model(job / "dynamic.onnx") == result.model
        record = json.loads((job / "dynamic.onnx.json").read_text())
        assert record["sha256"] == sha256_of(job / "dynamic.onnx")
        assert record["model_sha256"] == model_digest(job / "model.onnx")
        assert record["notes"] == list(result.notes)
        assert (record["dynamic"], record["weights"], record["granularity"]) == (True, "mse", "channel")

    def test_without_an_output_nothing_is_written(self, job):
        before = sorted(path.name for path in job.iterdir())
        result = trtcal.quantize_dynamic(load_model(job / "model.onnx"), granularity="tensor")
        assert sorted(path.name for path in job.iterdir()) == before
        sample = {"image": np.random.default_rng(0).random((1, 3, 16, 16), np.float32)}
        floats, integers = (OnnxRuntimeSession(each).run(sample) for each in (job / "model.onnx", result.model))
        np.testing.assert_allclose(integers["scores"], floats["scores"], atol=0.1)

    def test_an_output_that_is_read_is_refused(self, job):
        with pytest.raises(OutputError, match="it is read, and would be lost"):
            trtcal.quantize_dynamic(job / "model.onnx", output=job / "model.onnx")


def test_weights_are_quantized_as_asked_for(job, cache):
    for options in ({"weights": "mse"}, {"granularity": "tensor"}, {"weights": "mse", "granularity": "tensor"}):
        trtcal.quantize(job / "model.onnx", cache, output=job / "int8.onnx", **options)
        record = json.loads((job / "int8.onnx.json").read_text())
        assert {key: record[key] for key in ("weights", "granularity")} == {
            "weights": "absmax",
            "granularity": "channel",
            **options,
        }


def test_fit_and_sameness_are_judged_by_the_model(job, cache):
    onnx.save(classifier(seed=1), job / "other.onnx")
    statistics, _ = collect_images(job / "model.onnx", job / "images", count=2)
    made = CalibrationCache.load(cache)
    for model in (job / "model.onnx", classifier(seed=1)):  # what is in memory has no digest to compare
        require_fit(made, model, "it")
        require_same_model(statistics, model)
    with pytest.raises(CacheMismatchError):
        require_fit(made, job / "other.onnx", "it")
    with pytest.raises(CacheMismatchError, match="collect them from this one"):
        require_same_model(statistics, job / "other.onnx")
