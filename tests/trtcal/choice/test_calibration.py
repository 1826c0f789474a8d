"""Calibration with nothing asked for: the method that measures best, from all images; float layers in the side-car."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.cache.float_layers import FloatLayer
from calibrators.errors import CacheMismatchError, RangeError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier
from trtcal.analysis import auto_method
from trtcal.data.images import ImageLoader


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A model, and a function that opens so many of 272 samples for it; some hold rare large values."""
    folder = tmp_path_factory.mktemp("job")
    onnx.save(classifier(), folder / "model.onnx")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((272, 3, 16, 16)).astype(np.float32)
    values[::7, 0, 0, 0] = 40
    np.save(folder / "x.npy", values)
    with OnnxRuntimeSession(folder / "model.onnx") as session:
        inputs = session.inputs
    return folder / "model.onnx", lambda count, size=8: ImageLoader(
        folder / "x.npy", inputs=inputs, count=count, batch_size=size
    )


def calibrated(job, count=272, size=8, **options):
    model, opened = job
    return trtcal.calibrate_model(model, opened(count, size), **{"float_budget": 0, **options})


def test_the_cache_is_the_very_one_that_naming_the_method_gives(job):
    found = calibrated(job)
    assert set(found.judged) == set(auto_method.CANDIDATES)
    assert found.judged[found.method] == max(found.judged.values())
    assert found.looked_at == 32
    named = calibrated(job, method=found.method)
    assert (named.judged, named.looked_at) == ({}, 0)
    assert found.cache.dumps() == named.cache.dumps()
    assert found.statistics.provenance == named.statistics.provenance
    assert dict(found.statistics) == dict(named.statistics)
    assert found.cache.sidecar.judged == found.judged
    assert found.notes[0].startswith(f"ranges by {found.method}: on 32 images not calibrated on")


def test_it_does_not_depend_on_the_batch_size(job):
    one, other = calibrated(job, size=1, float_budget=50), calibrated(job, size=31, float_budget=50)
    assert one.judged == other.judged
    assert one.cache.dumps() == other.cache.dumps()
    assert one.float_layers == other.float_layers != {}


def test_what_was_judged_was_not_calibrated_on(job, monkeypatch):
    seen = {}
    real = auto_method.judged

    def spied(model, statistics, images, *rest, **options):
        seen.update(ranges=statistics.provenance, judged=images.names)
        return real(model, statistics, images, *rest, **options)

    monkeypatch.setattr(auto_method, "judged", spied)
    calibrated(job)
    assert (seen["ranges"].count, len(seen["judged"])) == (240, 32)


def test_few_images_are_not_judged_by(job):
    found = calibrated(job, 255)
    assert (found.method, found.judged, found.looked_at) == ("mse", {}, 0)
    assert found.notes == ("ranges by mse: with fewer than 256 images, methods are not judged",)


def test_a_method_that_there_is_none_of(job):
    with pytest.raises(RangeError, match="there is no range method 'modest'"):
        calibrated(job, method="modest")


def test_float_layers_are_in_the_side_car_and_obeyed(job, tmp_path):
    found = calibrated(job, float_budget=50)
    assert found.floats.after.sqnr > found.floats.before.sqnr
    assert found.cache.sidecar.float_layers == found.float_layers != {}
    found.cache.save(tmp_path / "m.cache")
    quantized = trtcal.quantize(job[0], tmp_path / "m.cache", float_budget=50)
    assert {name: quantized.left_float[name] for name in found.float_layers} == {
        name: layer.reason for name, layer in found.float_layers.items()
    }
    assert trtcal.quantize(job[0], tmp_path / "m.cache", float_budget=0).left_float == {}


def test_a_float_layer_that_the_model_does_not_have_is_refused(job, tmp_path):
    cache = calibrated(job, float_budget=50).cache
    cache.sidecar = replace(cache.sidecar, float_layers={"ghost": FloatLayer(1.0, "a reason")})
    cache.save(tmp_path / "m.cache")
    said = "leaves ghost in float, and model.onnx has no such layer"
    with pytest.raises(CacheMismatchError, match=said):
        trtcal.quantize(job[0], tmp_path / "m.cache")
    with pytest.raises(CacheMismatchError, match=said):
        trtcal.build_engine(
            job[0], cache=tmp_path / "m.cache", output=tmp_path / "m.engine", precision="int8", backend="tensorrt-rtx"
        )
    assert not (tmp_path / "m.engine").exists()
    trtcal.quantize(job[0], tmp_path / "m.cache", float_budget=0)


def test_a_configuration_goes_with_float_layers(job, tmp_path):
    found = calibrated(job, float_budget=50)
    config = trtcal.QuantConfig(weight="mse")
    left = trtcal.quantize(job[0], found.cache, config=config, float_budget=50).left_float
    assert set(left) == set(found.float_layers)


def test_a_rule_for_a_layer_goes_before(job):
    found = calibrated(job, float_budget=50)
    name = next(iter(found.float_layers))
    config = trtcal.QuantConfig()
    config.add_layer_config(name, precision="int8")
    left = trtcal.quantize(job[0], found.cache, config=config, float_budget=50).left_float
    assert set(left) == set(found.float_layers) - {name}


def test_a_model_without_a_float_output_is_calibrated_all_the_same(tmp_path):
    net = Net()
    net.conv(net.input("x", ("N", 3, 8, 8)), "a", 16, 3, 3, 3)
    net.node("ArgMax", "a", "best", axis=1)
    onnx.save(net.model("best", element=onnx.TensorProto.INT64), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((256, 3, 8, 8)).astype(np.float32))
    loader = ImageLoader(tmp_path / "x.npy", model=tmp_path / "model.onnx")
    found = trtcal.calibrate_model(tmp_path / "model.onnx", loader)
    assert (found.method, found.floats) == ("mse", None)
    assert len(found.notes) == 2
    assert all("no float output" in note for note in found.notes)


def test_an_image_that_is_skipped_is_told(tmp_path):
    from PIL import Image

    onnx.save(classifier(), tmp_path / "model.onnx")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(260):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "images" / f"{number:03}.png")
    (tmp_path / "images" / "013.png").write_bytes(b"no image")
    loader = ImageLoader(
        tmp_path / "images", model=tmp_path / "model.onnx", preprocess="unit", on_bad_image="skip", count=260
    )
    found = trtcal.calibrate_model(tmp_path / "model.onnx", loader)
    assert [name for name, _ in loader.skipped] == ["013.png"]
    assert found.statistics.provenance.count == 259
