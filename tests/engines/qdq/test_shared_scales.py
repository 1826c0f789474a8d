"""Q/DQ models in which tensors of unlike ranges meet: nothing of them may drown, or be cut off."""

import numpy as np
import onnxruntime
import pytest

from calibrators.ranges import calibrate, encodings
from engines.collection.collect import collect
from engines.qdq.write import quantize
from tests.engines.networks import Net

RNG = np.random.default_rng(0)


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def decibels(model, samples, *, method="minmax", tensors="all"):
    """The SQNR of each output of the Q/DQ model, over all samples."""
    quantized = quantize(model, calibrate(collect(model, [samples], tensors=tensors), method)).model
    found = []
    for expected, given in zip(run(model, samples), run(quantized, samples), strict=True):
        noise = float(((expected.astype(np.float64) - given) ** 2).sum())
        found.append(10 * np.log10(float((expected.astype(np.float64) ** 2).sum()) / noise))
    return found


class TestConcatenationsWithConstants:
    """Coordinates from -1 to 1 beside values of at most 0.1."""

    X = (RNG.random((8, 3, 8, 8)) * 0.1).astype(np.float32)

    def coordinates(self, net):
        net.constant("coords", np.stack(np.meshgrid(*[np.linspace(-1, 1, 8)] * 2))[None].astype(np.float32))

    def constant(self, net):
        self.coordinates(net)
        net.node("Concat", net.input(shape=(1, 3, 8, 8)) + " coords", "both", axis=1)

    def expanded(self, net):
        """The constant takes the batch size of the input."""
        self.coordinates(net)
        net.node("Shape", net.input(shape=("N", 3, 8, 8)), "batch", start=0, end=1)
        net.constant("rest", np.array([2, 8, 8], np.int64))
        net.node("Concat", "batch rest", "shape", axis=0)
        net.node("Expand", "coords shape", "expanded")
        net.node("Concat", "x expanded", "both", axis=1)

    def positions(self, net):
        """Computed from the input's shape alone."""
        net.node("Shape", net.input(shape=("N", 3, 8, 8)), "shape")
        net.node("ConstantOfShape", "shape", "zeros")
        net.constant("one", np.float32(1))
        net.constant("axes", np.array([1], np.int64))
        net.node("Add", "zeros one", "ones")
        net.node("ReduceMean", "ones", "flags", axes=[1])
        net.node("Concat", "flags x flags", "both", axis=1)

    @pytest.mark.parametrize("tensors", ["all", "quantizable"])
    @pytest.mark.parametrize("operands", ["constant", "expanded", "positions"])
    def test_the_concatenations_own_values_count(self, operands, tensors):
        net = Net()
        getattr(self, operands)(net)
        net.conv("both", "y", 8, 5, 3, 3)
        model = net.model("y")
        samples = {"x": self.X[:1] if operands == "constant" else self.X}
        assert min(decibels(model, samples, tensors=tensors)) > 30

    @pytest.mark.parametrize("operands", ["constant", "expanded"])
    def test_a_cache_without_the_concatenation_is_told_by_the_constant(self, operands):
        net = Net()
        getattr(self, operands)(net)
        net.conv("both", "y", 8, 5, 3, 3)
        model = net.model("y")
        assert quantize(model, {"x": 0.001}).scales["both"] == pytest.approx(1 / 127)
        assert quantize(model, {"x": 0.5}).scales["both"] == 0.5
        assert quantize(model, {"x": 0.001, "both": 0.006}).scales["both"] == 0.006


class TestPartsOfUnlikeRanges:
    """Channels of up to 10, and others that are 200 times as small."""

    X = (RNG.standard_normal((16, 8, 8, 8)) * np.repeat([10, 0.05], 4)[:, None, None]).astype(np.float32)

    def halves(self, operator):
        net = Net(opset=18)
        net.input("x")
        if operator == "Split":
            net.node("Split", "x", "loud quiet", axis=1, num_outputs=2)
        elif operator == "Slice":
            for name, value in (("zero", 0), ("four", 4), ("eight", 8), ("axis", 1)):
                net.constant(name, np.array([value], np.int64))
            net.node("Slice", "x zero four axis", "loud")
            net.node("Slice", "x four eight axis", "quiet")
        else:
            net.constant("first", np.arange(4))
            net.constant("last", np.arange(4, 8))
            net.node("Gather", "x first", "loud", axis=1)
            net.node("Gather", "x last", "quiet", axis=1)
        return net

    @pytest.mark.parametrize("tensors", ["all", "quantizable"])
    @pytest.mark.parametrize("operator", ["Split", "Slice", "Gather"])
    def test_a_small_part_has_a_scale_of_its_own(self, operator, tensors):
        net = self.halves(operator)
        net.conv("loud", "a", 4, 4, 1, 1)
        net.conv("quiet", "b", 4, 4, 1, 1, bias=False)
        net.conv("x", "c", 4, 8, 1, 1)
        assert min(decibels(net.model("a", "b", "c"), {"x": self.X}, tensors=tensors)) > 30

    @pytest.mark.parametrize("method", ["entropy", "mse", "best"])
    def test_by_any_method(self, method):
        net = self.halves("Split")
        net.conv("quiet", "b", 4, 4, 1, 1, bias=False)
        assert min(decibels(net.model("b"), {"x": self.X}, method=method)) > 30

    def test_behind_further_operators_that_move_values(self):
        """Two small parts are moved, pooled and joined: what is joined shares their scale."""
        net = self.halves("Split")
        net.node("MaxPool", "quiet", "pooled", kernel_shape=[2, 2], strides=[2, 2])
        net.node("Transpose", "pooled", "turned", perm=[0, 1, 3, 2])
        net.node("Concat", "pooled turned", "both", axis=1)
        net.conv("both", "a", 4, 8, 1, 1, bias=False)
        net.conv("turned", "b", 4, 4, 1, 1, bias=False)
        net.conv("loud", "c", 4, 4, 1, 1)
        model = net.model("a", "b", "c")
        assert min(decibels(model, {"x": self.X}, tensors="quantizable")) > 30
        scales = quantize(model, calibrate(collect(model, [{"x": self.X}]), "minmax")).scales
        assert scales["both"] == scales["turned"] < scales["loud"] / 100

    def test_what_is_read_alone_beside_a_loud_concatenation(self):
        net = Net()
        net.conv(net.input(), "a", 4, 8, 1, 1)
        net.constant("hundred", np.float32(100))
        net.node("Mul", "a hundred", "loud")
        net.node("Concat", "loud x", "both", axis=1)
        net.conv("both", "b", 4, 12, 1, 1)
        net.conv("x", "c", 4, 8, 1, 1)
        x = RNG.standard_normal((8, 8, 8, 8)).astype(np.float32)
        assert min(decibels(net.model("b", "c"), {"x": x})) > 30

    def test_parts_of_nearly_its_range_share_a_tensors_scale(self):
        net = self.halves("Split")
        net.conv("loud", "a", 4, 4, 1, 1)
        net.conv("quiet", "b", 4, 4, 1, 1)
        cache = {"x": 0.8, "loud": 0.8, "quiet": 0.2}
        assert set(quantize(net.model("a", "b"), cache).scales.values()) == {0.8}
        assert quantize(net.model("a", "b"), cache | {"quiet": 0.19}).scales == {"loud": 0.8, "quiet": 0.19}

    def test_a_part_of_zeros_shares_the_scale(self):
        net = self.halves("Split")
        net.conv("quiet", "b", 4, 4, 1, 1)
        assert quantize(net.model("b"), {"x": 0.8, "loud": 0.8, "quiet": 0.0}).scales == {"quiet": 0.8}

    def test_the_cache_has_one_scale_as_tensorrt_has_it(self):
        net = self.halves("Split")
        net.conv("loud", "a", 4, 4, 1, 1)
        net.conv("quiet", "b", 4, 4, 1, 1)
        model = net.model("a", "b")
        cache = calibrate(collect(model, [{"x": self.X}]), "minmax")
        assert cache["x"] == cache["loud"] == cache["quiet"]
        assert set(cache.sidecar.explicit) == {"quiet"}
        assert quantize(model, cache).from_sidecar == ("quiet",)

    def test_a_simulation_has_the_same_scales(self):
        net = self.halves("Split")
        net.conv("loud", "a", 4, 4, 1, 1)
        net.conv("quiet", "b", 4, 4, 1, 1)
        model = net.model("a", "b")
        statistics = collect(model, [{"x": self.X}])
        written = quantize(model, calibrate(statistics, "minmax")).scales
        found = encodings(statistics, "minmax", names=list(written))
        assert {name: float(each.scale) for name, each in found.items()} == written
