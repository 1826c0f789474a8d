"""How layers are quantized: by scheme, width and configuration."""

import numpy as np
import pytest

from calibrators.errors import ConfigError, ModelError, RangeError
from calibrators.grid import Grid
from calibrators.ranges import METHODS, encodings
from engines.collection.collect import collect
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO
from tests.trtcal.simulating import two_products, weights_of
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.quantsim.simulator import QuantSim

AIMET = {
    "tf": "minmax",
    "min_max": "minmax",
    "post_training_tf": "minmax",
    "tf_enhanced": "sqnr",
    "post_training_tf_enhanced": "sqnr",
    "percentile": "percentile",
    "post_training_percentile": "percentile",
}
"""Its names of schemes -> the range method."""


class TestSchemes:
    @pytest.mark.parametrize("scheme", ["percentile:99", *AIMET, *METHODS])
    def test_every_scheme(self, scheme):
        model = two_products()
        statistics = collect(model, samples_of(model, 20))
        sim = QuantSim(model, scheme)
        sim.compute_encodings(statistics)
        expected = encodings(statistics, AIMET.get(scheme, scheme))
        assert sim.encodings.activations == {name: expected[name] for name in ("x", "rectified")}

    def test_they_differ(self):
        model = two_products()
        statistics = collect(model, samples_of(model, 50))
        found = {}
        for scheme in ("tf", "tf_enhanced", "percentile:99"):
            sim = QuantSim(model, scheme)
            sim.compute_encodings(statistics)
            found[scheme] = float(sim.encodings.activations["x"].scale)
        assert found["percentile:99"] < found["tf_enhanced"] < found["tf"]

    @pytest.mark.parametrize("scheme", ["tf_enhnaced", "", "percentile:101", "percentile:x", None])
    def test_others_are_refused(self, scheme):
        with pytest.raises(RangeError, match=r"no scheme|a scheme is a text"):
            QuantSim(two_products(), scheme)

    def test_what_other_tools_call_them_is_answered(self):
        with pytest.raises(RangeError, match=r"no scheme 'hist': PaddleSlim's is percentile:99\.9"):
            QuantSim(two_products(), "hist")
        with pytest.raises(RangeError, match="learned-range is a quantizer to train a PyTorch model with"):
            QuantSim(two_products(), "training_range_learning_with_tf_init")

    @pytest.mark.parametrize("bits", [1, 17, 0, 8.5])
    def test_widths_that_no_grid_has_are_refused(self, bits):
        for key in ("default_output_bw", "default_param_bw"):
            with pytest.raises(ConfigError, match="from 2 to 16"):
                QuantSim(two_products(), **{key: bits})


class TestConfiguration:
    def test_settings_by_layer(self):
        model = ZOO["identity_skip"]().model
        statistics = collect(model, samples_of(model, 4))
        config = QuantConfig()
        config.add_type_config("Conv", activation_bits=4, weight_bits=5, activation="minmax", granularity="tensor")
        sim = QuantSim(model, config=config)
        sim.compute_encodings(statistics)
        found = sim.encodings
        assert {value.grid.bits for value in found.activations.values()} == {4}  # the skip input's, too
        assert {(value.grid.bits, value.axis) for value in found.weights.values()} == {(5, None)}
        expected = encodings(statistics, "minmax", Grid(4))
        assert found.activations == {name: expected[name] for name in found.activations}

    def test_default_widths_and_rules(self):
        model = classifier()
        config = QuantConfig(LayerSettings(activation_bits=6, weight_bits=6)).add_name_config("a/Conv", weight_bits=3)
        samples = samples_of(model, 2)
        for stated, bits in (({}, 6), ({"default_output_bw": 9, "default_param_bw": 9}, 9)):
            sim = QuantSim(model, config=config, **stated)
            sim.compute_encodings(samples)
            assert {value.grid.bits for value in sim.encodings.activations.values()} == {bits}
            assert {name: value.grid.bits for name, value in sim.encodings.weights.items()} == {
                "a_w": 3,
                "b_w": bits,
                "w": bits,
            }
        assert config.default.activation_bits == 6

    def test_precisions(self):
        model = two_products()
        config = QuantConfig().add_type_config("MatMul", precision="float").add_name_config("y/*", precision="fp16")
        with pytest.raises(ModelError, match="every layer is to stay in float"):
            QuantSim(model, config=config)
        half = QuantConfig().add_name_config("y/*", precision="fp16")
        sim = QuantSim(model, "tf", config=half)
        sim.compute_encodings(samples_of(model, 4))
        assert sim.left_float == {"y/MatMul": "its precision is fp16"}
        assert set(sim.encodings.weights) == {"a"}
        x, weight = np.float32([[0.3, -1, 0.2, 2, 1, 0]]), weights_of(model)
        first = sim.encodings.activations["x"].fake_quantize(x) @ sim.encodings.weights["a"].fake_quantize(weight["a"])
        hidden, last = (each.astype(np.float16).astype(np.float32) for each in (np.maximum(first, 0), weight["b"]))
        np.testing.assert_allclose(sim.run({"x": x})["y"], hidden @ last, rtol=2e-3)

    def test_a_file(self, tmp_path):
        QuantConfig().add_type_config("MatMul", weight_bits=4).add_name_config("nowhere", weight_bits=4).save(
            tmp_path / "quant.toml"
        )
        model = classifier()
        sim = QuantSim(model, config=tmp_path / "quant.toml")
        sim.compute_encodings(samples_of(model, 2))
        assert sim.encodings.weights["w"].grid.bits == 4
        assert len(sim.notes) == 1 and "nowhere" in sim.notes[0]
        with pytest.raises(ConfigError, match="absent"):
            QuantSim(model, config=tmp_path / "absent.toml")
        with pytest.raises(ConfigError, match="not a dict"):
            QuantSim(model, config={"weight_bits": 4})

    def test_blocks_are_for_products(self):
        blocks = QuantConfig(LayerSettings(granularity="block:2"))
        with pytest.raises(ModelError, match="blocks divide the weights of MatMul and Gemm alone"):
            QuantSim(classifier(), config=blocks)
        model = two_products()
        sim = QuantSim(model, config=blocks)
        sim.compute_encodings(samples_of(model, 4))
        assert sim.encodings.weights["a"].block_size == 2
        assert sim.run(samples_of(model, 1)[0])["y"].shape == (1, 4)

    def test_a_tensor_may_be_read_in_two_ways_but_not_written(self, tmp_path):
        net = Net()
        net.input("x", ("N", 4))
        for name in ("a", "b"):
            net.constant(f"w{name}", np.eye(4, dtype=np.float32))
            net.node("MatMul", f"x w{name}", name)
        model = net.model("a", "b")
        config = QuantConfig().add_name_config("a/*", activation_bits=2)
        sim = QuantSim(model, "tf", config=config)
        sim.compute_encodings([{"x": np.float32([[1, -1, 0.4, 0]])}])
        found = sim.run({"x": np.float32([[0.4, 1, 0, 0]])})
        assert found["a"].tolist() == [[0, 1, 0, 0]]
        np.testing.assert_allclose(found["b"], [[0.4, 1, 0, 0]], atol=1 / 254)
        for act in (lambda: sim.export(tmp_path, "m"), sim.freeze):
            with pytest.raises(ModelError, match=r"a/MatMul and b/MatMul read x through different encodings"):
                act()
        assert list(tmp_path.iterdir()) == []
