"""Sessions that hand out activations: the same values from both."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from calibrators.errors import ModelError
from engines.collection import activation_sessions as fetching
from engines.collection.activation_sessions import fetches
from engines.collection.fingerprint import fingerprint
from tests.engines.networks import Net, samples_of


def blocks(channels=16):
    """Two convolutions and a rectifier between them, all of which ONNX Runtime keeps in blocks where it can."""
    net = Net()
    net.conv(net.input(shape=("N", channels, 6, 6)), "a", 16, channels, 3, 3)
    net.node("Relu", "a", "b")
    net.conv("b", "y", 16, 16, 1, 1)
    return net.model("y")


def values(fetch, inputs):
    found = fetch.session.run(list(fetch.names.values()), inputs)
    return dict(zip(fetch.names, found, strict=True))


def opened(model, outputs=("a", "b", "y")):
    return fetches(model, model, outputs, 1)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_both_give_the_same_values(temporary):
    model = blocks()
    (inputs,) = samples_of(model, 1)
    plain, blocked = opened(model)
    assert list(plain.names) == ["a", "b", "y"]
    if blocked is not None:  # where ONNX Runtime has such convolutions
        assert list(blocked.names) == list(plain.names)
        expected = {name: fingerprint(array) for name, array in values(plain, inputs).items()}
        assert {name: fingerprint(array) for name, array in values(blocked, inputs).items()} == expected
    assert list(temporary.iterdir()) == []


def test_there_is_nothing_to_gain_without_convolutions(temporary, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryDirectory", None)  # nor is anything written
    net = Net()
    net.node("Relu", net.input(shape=("N", 4)), "y")
    plain, blocked = opened(net.model("y"), ["y"])
    assert (list(plain.names), blocked) == (["y"], None)


def test_many_weights_are_not_written(monkeypatch):
    monkeypatch.setattr(fetching, "MOST_WEIGHTS", 100)
    monkeypatch.setattr("tempfile.TemporaryDirectory", None)
    assert opened(blocks())[1] is None


def test_no_place_for_the_weights_leaves_the_plain_one(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    model = blocks()
    (inputs,) = samples_of(model, 1)
    plain, blocked = opened(model)
    assert blocked is None
    assert set(values(plain, inputs)) == {"a", "b", "y"}


def test_a_blocked_model_that_does_not_open_leaves_the_plain_one(temporary, monkeypatch):
    def broken(model):
        model.graph.node[0].op_type = "Nonsense"
        return {"a": "blocked a"}

    monkeypatch.setattr(fetching, "without_reordering", broken)
    plain, blocked = opened(blocks())
    assert (list(plain.names), blocked) == (["a", "b", "y"], None)
    assert list(temporary.iterdir()) == []


def test_activations_of_other_types_are_left_out():
    net = Net()
    net.node("Shape", net.input(shape=("N", 4)), "sizes")
    net.node("Cast", "sizes", "floats", to=TensorProto.FLOAT)
    net.node("Relu", "x", "y")
    plain, _ = opened(net.model("y"), ["sizes", "floats", "y"])
    assert list(plain.names) == ["floats", "y"]


def test_a_file_whose_weights_stay_in_it(tmp_path):
    path, model = tmp_path / "model.onnx", blocks()
    onnx.save(model, path)
    (inputs,) = samples_of(model, 1)
    plain, _ = fetches(path, fetching.loaded(path), ["a", "b", "y"], 1)
    expected = values(opened(model)[0], inputs)
    for name, array in values(plain, inputs).items():
        assert np.array_equal(array, expected[name])


def test_a_model_that_is_refused_is_named(tmp_path):
    net = Net()
    net.conv(net.input(shape=("N", 8, 8, 8)), "y", 8, 8, 3, 3)
    net.node("Nonsense", "y", "z", domain="com.example")
    with pytest.raises(ModelError, match="calibration cannot run the model in memory: ONNX Runtime refuses it"):
        opened(net.model("z"), ["y", "z"])
