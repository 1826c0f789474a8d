"""A small network in which things can be broken on purpose, and images for it."""

from copy import deepcopy

import numpy as np
from onnx import numpy_helper

from engines.collection.collect import collect
from engines.graph.model import input_specs
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net
from trtcal.config.layer_forms import layer_forms
from trtcal.config.settings import QuantConfig
from trtcal.data.images import open_images


def network(batch="N"):
    """Two convolutions with ReLU behind them, a pooling, and scores of 4 classes, each the highest now and then."""
    model = _network("N", np.zeros(4))
    with OnnxRuntimeSession(model) as session:
        centre = -session.run({"image": samples(256, seed=2)})["scores"].mean(axis=0)
    return _network(batch, centre)


def _network(batch, centre):
    net = Net()
    net.conv(net.input("image", (batch, 3, 8, 8)), "a", 16, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 16, 16, 3, 3)
    net.node("Relu", "b", "b_relu")
    net.node("GlobalAveragePool", "b_relu", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 16, 4, fan_in=16)
    net.node("MatMul", "flat w", "products")
    net.constant("centre", centre.astype(np.float32))
    net.node("Add", "products centre", "scores")
    return net.model("scores")


def changed(model, name, change):
    """Change a weight in place: `change` is given the array."""
    tensor = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model


def rescaled(factor=1000.0, channel=2):
    """The network with one channel between its convolutions so many times larger; its function is the same."""
    model = network()
    for name in ("a_w", "a_b"):
        changed(model, name, lambda values: values.__setitem__(channel, values[channel] * factor))
    return changed(model, "b_w", lambda values: values.__setitem__((slice(None), channel), values[:, channel] / factor))


def samples(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def stored(folder, values, labels=None, name="test.npz"):
    """A path of arrays as `--images` takes them."""
    arrays = {"image": values} if labels is None else {"image": values, "labels": np.asarray(labels, np.int64)}
    np.savez(folder / name, **arrays)
    return folder / name


def opened(model, path, batch_size=8):
    return open_images(path, input_specs(model), batch_size=batch_size)


def formed(model, values, method="minmax", config=None):
    """The model's simulation, statistics and forms, calibrated on some samples; small products are asked for."""
    simulation = Simulation(model)
    statistics = collect(model, [{"image": values}], tensors="quantizable")
    asked = deepcopy(config or QuantConfig()).add_type_config("MatMul", precision="int8")
    settings = asked.settings(simulation.layers).layers
    return simulation, statistics, layer_forms(simulation, statistics, method, settings)
