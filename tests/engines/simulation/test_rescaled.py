"""One Q/DQ model for many caches: it computes what each cache's own model does with integer kernels."""

import numpy as np
import onnx
import pytest

from calibrators.errors import CacheError, ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.rescaled import rescaled
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO

METHODS = ("minmax", "percentile:90")


def caches_of(model, methods=METHODS):
    statistics = collect(model, samples_of(model, 8))
    return {method: calibrate(statistics, method) for method in methods}


def opened(rescaled_model, name):
    return OnnxRuntimeSession(rescaled_model.of(name), threads=1, arithmetic="literal")


def farthest(one, other, batches):
    """The largest difference of two sessions' outputs, as a share of the largest value."""
    found = 0.0
    for batch in batches:
        expected, got = one.run(batch), other.run(batch)
        for name, value in expected.items():
            found = max(found, np.abs(value.astype(float) - got[name]).max() / np.abs(value).max())
    return found


@pytest.mark.parametrize("name", ZOO)
def test_it_computes_what_the_quantized_model_does_with_integer_kernels(name):
    model = ZOO[name]().model
    caches = caches_of(model)
    (found,) = rescaled(model, caches)
    for method, cache in caches.items():
        quantized = quantize(model, cache)
        assert found.left_float == quantized.left_float
        onnx.checker.check_model(found.of(method))
        with OnnxRuntimeSession(quantized.model) as integers, opened(found, method) as floats:
            assert farthest(integers, floats, samples_of(model, 4)) < 1e-5


@pytest.mark.parametrize("between", ["Relu", "Clip", "MaxPool", "Transpose", "Sigmoid", ""])
def test_biases_are_rounded_where_integer_kernels_round_them(between):
    """Biases that are coarse in steps of INT32, as of few, large weights and a wide input."""
    net = Net()
    net.conv(net.input("x", ("N", 2, 8, 8)), "a", 4, 2, 1, 1)
    more = {"Clip": {}, "MaxPool": {"kernel_shape": [2, 2]}, "Transpose": {"perm": [0, 1, 3, 2]}}.get(between, {})
    tensor = "a"
    if between:
        tensor = net.node(between, "a", "between", **more) or "between"
    net.conv(tensor, "y", 4, 4, 1, 1)
    model = net.model("y")
    cache = caches_of(model, ["minmax"])["minmax"]
    quantized = quantize(model, cache).model
    (found,) = rescaled(model, {"minmax": cache})
    batches = list(samples_of(model, 4))
    with OnnxRuntimeSession(quantized) as integers, opened(found, "minmax") as floats:
        assert farthest(integers, floats, batches) < 1e-5
    held = [name for name in found.constants["minmax"] if name.endswith("_bias_in_steps")]
    assert len(held) == (between != "Sigmoid")


def test_caches_that_leave_other_layers_in_float_have_models_of_their_own():
    model = classifier()
    caches = caches_of(model, ["minmax", "entropy", "mse"])
    caches["entropy"] = type(caches["entropy"])({**caches["entropy"], "pooled": 0.0, "a_relu": 0.0})
    one, two = rescaled(model, caches)
    assert [*one.constants, *two.constants] == ["minmax", "mse", "entropy"]
    for found, name in ((one, "mse"), (two, "entropy")):
        quantized = quantize(model, caches[name])
        assert found.left_float == quantized.left_float
        with OnnxRuntimeSession(quantized.model) as integers, opened(found, name) as floats:
            assert farthest(integers, floats, samples_of(model, 4)) < 1e-5
    assert one.left_float != two.left_float


def test_room_for_a_bias_makes_other_weights_so_another_model():
    """A channel without weights, and with a bias: its scale follows that of the activation."""
    model = classifier()
    for tensor in model.graph.initializer:
        if tensor.name == "b_w":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    caches = caches_of(model)
    found = rescaled(model, caches)
    assert [list(each.constants) for each in found] == [[method] for method in METHODS]
    for each, (name, cache) in zip(found, caches.items(), strict=True):
        with OnnxRuntimeSession(quantize(model, cache).model) as integers, opened(each, name) as floats:
            assert farthest(integers, floats, samples_of(model, 4)) < 1e-5


def test_what_quantize_refuses_is_refused():
    model = classifier()
    cache = caches_of(model)["minmax"]
    with pytest.raises(CacheError, match="usable scale for none"):
        rescaled(model, {"minmax": type(cache)({"of another model": 1.0})})
    with pytest.raises(ModelError, match="quantized already"):
        rescaled(quantize(model, cache).model, {"minmax": cache})
