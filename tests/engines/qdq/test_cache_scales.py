"""Q/DQ models from caches of every kind: shared scales, scales of no use, names of TensorRT's own."""

import numpy as np
import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheError
from calibrators.ranges import calibrate
from engines.build.builder import build_engine
from engines.collection.collect import collect
from engines.graph.model import scale_groups
from engines.graph.operators import COMMUTES
from engines.qdq.write import quantize
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO


class TestSharedScales:
    def test_a_max_pooling_has_one_scale_on_both_sides(self):
        model = ZOO["max_pool"]().model
        result = quantize(model, {"x": 0.1, "a_relu": 0.05, "pooled": 0.02})
        assert result.scales == {"x": 0.1, "a_relu": 0.05, "pooled": 0.05}
        assert result.shared == ("pooled",)

    def test_a_concatenation_takes_the_largest(self):
        model = ZOO["concat"]().model
        assert quantize(model, {"x": 0.1, "a_relu": 0.05, "b_sigmoid": 0.2, "both": 0.1}).scales["both"] == 0.2
        assert quantize(model, {"x": 0.1, "a_relu": 0.05, "b_sigmoid": 0, "both": 0.1}).scales["both"] == 0.05
        assert quantize(model, {"x": 0.1, "both": 0.1}).scales["both"] == 0.1

    def test_an_average_pooling_keeps_its_own_on_the_way_out(self):
        """TensorRT's caches give it its input's; between Q/DQ nodes that would waste levels."""
        model = ZOO["constant_weights"]().model
        cache = calibrate(collect(model, samples_of(model, 16)), "minmax")
        assert cache["flat"] == cache["a_relu"]
        result = quantize(model, cache)
        assert result.scales["flat"] == cache.sidecar.explicit["flat"] < 0.5 * cache["a_relu"]
        assert (result.from_sidecar, result.averaged) == (("flat",), ())

    def test_a_repeated_scale_behind_an_average_pooling_is_told(self):
        """TensorRT's own caches come without a side-car."""
        model = ZOO["constant_weights"]().model
        cache = calibrate(collect(model, samples_of(model, 16)), "minmax")
        repeated = quantize(model, CalibrationCache.parse(cache.dumps()))
        assert repeated.scales["flat"] == cache["a_relu"]
        assert (repeated.from_sidecar, repeated.averaged) == ((), ("flat",))
        finer = {**cache, "average": cache["average"] / 4, "flat": cache["flat"] / 4}
        assert quantize(model, finer).averaged == ()

    def test_a_loud_average_beside_a_quiet_tensor(self):
        """A concatenation of both must hold the loud one, whichever tensors were collected."""
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        net.constant("hundred", np.float32(100))
        net.node("Mul", "a hundred", "loud")
        net.node("AveragePool", "loud", "average", kernel_shape=[2, 2], strides=[2, 2])
        net.node("MaxPool", "x", "pooled", kernel_shape=[2, 2], strides=[2, 2])
        net.node("Sigmoid", "pooled", "quiet")
        net.node("Concat", "average quiet", "both", axis=1)
        net.conv("both", "y", 8, 16, 3, 3)
        model = net.model("y")
        for tensors in ("all", "quantizable"):
            statistics = collect(model, samples_of(model, 16), tensors=tensors)
            scale = quantize(model, calibrate(statistics, "minmax")).scales["both"]
            assert scale == pytest.approx(statistics["average"].amax / 127, rel=1e-6)

    @pytest.mark.parametrize("name", ZOO)
    def test_groups_share_in_the_zoo(self, name):
        network = ZOO[name]()
        result = quantize(network.model, calibrate(collect(network.model, samples_of(network.model, 4)), "minmax"))
        for group in scale_groups(network.model, through=COMMUTES):
            assert len({result.scales[name] for name in group.members if name in result.scales}) <= 1


class TestUnusableScales:
    @pytest.mark.parametrize(
        "scale, why",
        [
            (0.0, "has scale 0 in the cache: it was always zero"),
            (float("inf"), "has the scale inf in the cache"),
            (float("nan"), "has the scale nan in the cache"),
            (-0.5, "has the scale -0.5 in the cache"),
            (1e-42, "in the cache"),
            (None, "has no scale in the cache"),
        ],
    )
    def test_the_operator_stays_in_float_and_is_named(self, scale, why):
        model = ZOO["conv_bn_relu"]().model
        cache = {"x": 0.1} if scale is None else {"x": 0.1, "a_relu": scale}
        result = quantize(model, cache)
        assert list(result.left_float) == ["y/Conv"]
        assert "its input a_relu" in result.left_float["y/Conv"]
        assert why in result.left_float["y/Conv"]
        assert result.quantized == ("a/Conv",)
        assert [node.input[0] for node in result.model.graph.node if node.op_type == "QuantizeLinear"] == ["x"]
        onnx.checker.check_model(result.model, full_check=True)

    @pytest.mark.parametrize(
        "cache, listed",
        [({"x": 0.0, "a_relu": 0.0, "a": 0.5}, "2 of 2, such as x"), ({"a_relu": 0}, "1 of 2, such as a_relu")],
    )
    def test_zeros_only_are_said_to_be_zeros(self, cache, listed):
        with pytest.raises(CacheError) as caught:
            quantize(ZOO["conv_bn_relu"]().model, cache)
        message = str(caught.value)
        assert message.startswith(f"the cache's scale is zero for every tensor to quantize that it lists ({listed}): ")
        assert message.endswith("calibrate on real images, with the preprocessing that the model was trained with")

    @pytest.mark.parametrize("cache", [{}, {"x": 0, "a_relu": float("inf")}, {"of another model": 0.1}])
    def test_none_at_all_is_an_error(self, cache):
        with pytest.raises(
            CacheError, match="usable scale for none of the 2 tensors to quantize, such as x: "
        ) as caught:
            quantize(ZOO["conv_bn_relu"]().model, cache)
        assert caught.value.exit_code == 2
        assert len(str(caught.value).splitlines()) == 1

    def test_names_that_the_model_does_not_have_are_listed(self):
        """What quantization folds away, such as a convolution's output before its batch normalization, is known."""
        cache = {
            "x": 0.1,
            "a": 0.1,
            "a_bn": 0.1,
            "a_relu": 0.1,
            "elsewhere": 0.1,
            "(Unnamed Layer* 4) [Shuffle]_output": 1,
        }
        result = quantize(ZOO["conv_bn_relu"]().model, cache)
        assert result.unused == ("elsewhere",)
        assert result.internal == ("(Unnamed Layer* 4) [Shuffle]_output",)

    def test_names_of_tensorrts_own_are_told_from_those_of_another_model(self):
        """Copies, broadcasts, layers without a name, a node's second output; a tensor of the model by such a name."""
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        net.conv("a", "y", 8, 8, 3, 3)
        net.nodes[0].name = "stem"
        net.nodes[0].output[0] = net.nodes[1].input[0] = "(Unnamed Layer* 3) [Convolution]_output"
        own = [
            "x copy",
            "ONNXTRT_Broadcast_7_output",
            "(Unnamed Layer* 0) [Constant]_output",
            "stem_output",
            "y/Conv_output",
        ]
        cache = {"x": 0.5, "(Unnamed Layer* 3) [Convolution]_output": 0.25, **dict.fromkeys(own, 0.1), "other": 0.1}
        result = quantize(net.model("y"), cache)
        assert result.internal == tuple(own)
        assert result.unused == ("other",)
        assert result.scales == {"x": 0.5, "(Unnamed Layer* 3) [Convolution]_output": 0.25}
        assert (result.left_float, result.shared) == ({}, ())

    def test_an_infinite_scale_in_a_real_cache(self):
        cache = CalibrationCache.parse("TRT-8601-EntropyCalibration2\nx: 3c010204\na_relu: 7f800000\n")
        assert list(quantize(ZOO["conv_bn_relu"]().model, cache).left_float) == ["y/Conv"]


class TestNotes:
    CACHE = CalibrationCache.parse(
        "TRT-10300-EntropyCalibration2\nx: 3c010204\na_relu: 3d010204\npooled: 3c810204\n"
        "(Unnamed Layer* 4) [Shuffle]_output: 0\nx copy: 3c010204\nelsewhere: 3c010204\n"
    )
    NOTES = (
        "1 scale(s), such as pooled's, taken from a tensor that shares one (pooling, concatenation): the cache has "
        "another there, or none",
        "2 name(s) in the cache, such as (Unnamed Layer* 4) [Shuffle]_output, dropped: TensorRT's own, of no tensor of "
        "the model",
        "1 name(s) in the cache, such as elsewhere, not in the model",
    )

    def test_what_is_not_as_the_cache_has_it_is_told(self):
        assert quantize(ZOO["max_pool"]().model, self.CACHE).notes == self.NOTES

    def test_nothing_is_told_where_there_is_nothing_to_tell(self):
        assert quantize(ZOO["max_pool"]().model, {"x": 0.5, "a_relu": 0.25, "pooled": 0.25}).notes == ()

    @pytest.mark.usefixtures("rtx")
    def test_an_engine_built_from_such_a_cache_tells_it_too(self, tmp_path):
        engine = build_engine(ZOO["max_pool"]().model, cache=self.CACHE, output=tmp_path / "model.engine")
        assert set(self.NOTES) <= set(engine.record.notes)
