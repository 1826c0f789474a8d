"""Range methods judged on a few images: the scores of the models that `quantize` writes, whatever the batch size."""

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.batches import TensorSpec
from calibrators.errors import CacheMismatchError, ModelError, RangeError
from calibrators.ranges import calibrate
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier
from trtcal.analysis import judged_methods
from trtcal.analysis.judged_methods import CLEAR, first_alike, group_size, judged
from trtcal.data.images import open_images
from trtcal.measure.accuracy import evaluate

METHODS = ("entropy", "minmax", "percentile:90")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model, its statistics, and a loader of 20 other samples whose labels are of no class of it."""
    folder = tmp_path_factory.mktemp("work")
    onnx.save(classifier(classes=4), folder / "model.onnx")
    values = np.random.default_rng(1).standard_normal((40, 3, 16, 16)).astype(np.float32)
    values[:20, 0, 0, 0] *= 30
    np.savez(folder / "test.npz", image=values[20:], labels=np.full(20, 99))
    with OnnxRuntimeSession(folder / "model.onnx") as session:
        loader = open_images(folder / "test.npz", session.inputs, batch_size=8)
    return folder / "model.onnx", trtcal.collect(folder / "model.onnx", [values[:20]]), loader


def test_what_is_left_is_that_of_the_quantized_models(work, tmp_path):
    model, statistics, images = work
    found = judged(model, statistics, images, METHODS)
    assert tuple(found) == METHODS
    with OnnxRuntimeSession(model) as floats:
        samples = np.load(images.source)["image"]
        for method in METHODS:
            trtcal.quantize(model, calibrate(statistics, method), output=tmp_path / "int8.onnx")
            with OnnxRuntimeSession(tmp_path / "int8.onnx") as int8:
                models = {"fp32": floats, "int8": int8}
                each = [evaluate(models, [one[None]], reference="fp32").scores["int8"].sqnr for one in samples]
            assert found[method] == pytest.approx(np.minimum(each, CLEAR).mean(), abs=1e-3)
    assert len({round(each, 2) for each in found.values()}) == 3


def test_an_image_that_is_not_changed_counts_as_one_that_nobody_sees(tmp_path):
    net = Net()
    model = net.model(net.conv(net.input("x", ("N", 3, 8, 8)), "conv", 4, 3, 3, 3))
    onnx.save(model, tmp_path / "model.onnx")
    values = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "some.npy", values)
    np.save(tmp_path / "more.npy", np.concatenate([values, np.zeros_like(values)]))
    statistics = trtcal.collect(tmp_path / "model.onnx", [values])
    with OnnxRuntimeSession(tmp_path / "model.onnx") as session:
        some, more = (open_images(tmp_path / f"{name}.npy", session.inputs) for name in ("some", "more"))
    found = judged(tmp_path / "model.onnx", statistics, some, ["minmax"])
    assert found["minmax"] < CLEAR
    with_zeros = judged(tmp_path / "model.onnx", statistics, more, ["minmax"])
    assert with_zeros["minmax"] == pytest.approx((found["minmax"] + CLEAR) / 2)


def test_neither_batches_nor_rounds_change_anything(work, monkeypatch):
    model, statistics, images = work
    expected = judged(model, statistics, images, METHODS)
    other = open_images(images.source, OnnxRuntimeSession(model).inputs, batch_size=7)
    assert judged(model, statistics, other, METHODS) == expected
    monkeypatch.setattr(judged_methods, "AT_ONCE", 1)
    assert judged(model, statistics, images, METHODS) == expected
    monkeypatch.setattr(judged_methods, "usable_cores", lambda: 1)
    assert judged(model, statistics, images, METHODS) == expected
    monkeypatch.setattr(judged_methods, "GROUP", 1)
    assert judged(model, statistics, images, METHODS) == pytest.approx(expected, abs=1e-6)


def test_the_same_ranges_share_a_score(work, monkeypatch):
    model, statistics, images = work
    monkeypatch.setattr(judged_methods, "calibrate", lambda found, method: calibrate(found, "minmax"))
    found = judged(model, statistics, images, METHODS)
    assert found["minmax"] == found["entropy"] == found["percentile:90"]
    caches = {"a": calibrate(statistics, "minmax"), "b": calibrate(statistics, "mse")}
    assert first_alike({**caches, "c": caches["a"]}) == {"a": None, "b": None, "c": "a"}


@pytest.mark.parametrize(
    ("shape", "size"),
    [((None, 3, 16, 16), 32), ((None, 3, 96, 96), 1), ((None, 3, 64, 64), 2), ((None, 3, None, None), 1)],
)
def test_groups_hold_what_stays_near_the_processor(shape, size):
    assert group_size([TensorSpec("x", shape, np.dtype(np.float32))]) == size


def test_what_cannot_be_judged(work, tmp_path):
    model, statistics, images = work
    with pytest.raises(RangeError, match="no range method"):
        judged(model, statistics, images, ["minmix"])
    onnx.save(classifier(classes=4, seed=1), tmp_path / "other.onnx")
    with pytest.raises(CacheMismatchError, match="another model"):
        judged(tmp_path / "other.onnx", statistics, images, METHODS)
    classes = onnx.load(model)
    classes.graph.node.append(onnx.helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0))
    classes.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["N"]))
    onnx.save(classes, tmp_path / "class.onnx")
    with pytest.raises(ModelError, match="no float output"):
        judged(tmp_path / "class.onnx", trtcal.collect(tmp_path / "class.onnx", images), images, METHODS)
