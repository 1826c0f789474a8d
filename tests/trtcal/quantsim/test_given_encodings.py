"""Encodings that a simulation is given: set, frozen, and loaded from files of every kind."""

import numpy as np
import pytest

import trtcal
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.encodings import Encodings
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, CacheMismatchError, ModelError, RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.ranges import encodings
from engines.collection.collect import collect
from tests.engines.networks import classifier, samples_of
from tests.engines.zoo import ZOO
from tests.trtcal.simulating import two_products, weights_of
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.pipeline import quantize
from trtcal.quantsim.simulator import QuantSim


class TestGivenEncodings:
    def test_frozen_ones_survive(self):
        model = classifier()
        small, large = samples_of(model, 4), [{"image": 3 * batch["image"]} for batch in samples_of(model, 4)]
        sim = QuantSim(model, "tf")
        sim.compute_encodings(small)
        before = sim.encodings
        fixed = Encoding.symmetric(0.5)
        sim.set_and_freeze("pooled", fixed)
        sim.freeze("b_w")
        sim.compute_encodings(large)
        after = sim.encodings
        assert after.activations["pooled"] == fixed
        assert after.activations["image"].scale == pytest.approx(3 * before.activations["image"].scale)
        assert sim.frozen == {"pooled", "b_w"}
        sim.unfreeze("pooled")
        assert sim.encodings.activations["pooled"].scale > 1.5 * before.activations["pooled"].scale

    def test_freezing_all_keeps_all(self):
        model = classifier()
        sim = QuantSim(model)
        sim.compute_encodings(samples_of(model, 4))
        (batch,) = samples_of(model, 1, seed=5)
        encodings, scores = sim.encodings, sim.run(batch)["scores"]
        sim.freeze()
        sim.compute_encodings([{"image": 9 * each["image"]} for each in samples_of(model, 4)])
        assert sim.encodings == encodings
        np.testing.assert_array_equal(sim.run(batch)["scores"], scores)

    def test_one_that_is_not_frozen_lasts_until_the_next_computation(self):
        model = classifier()
        sim = QuantSim(model)
        sim.compute_encodings(samples_of(model, 4))
        computed = sim.encodings
        sim.set_encoding("image", Encoding.symmetric(0.1))
        assert sim.encodings.activations["image"] == Encoding.symmetric(0.1)
        sim.compute_encodings(samples_of(model, 4))
        assert sim.encodings == computed

    def test_none_leaves_a_tensor_in_float(self):
        model = two_products()
        sim = QuantSim(model)
        sim.compute_encodings(samples_of(model, 4))
        for name in ("x", "b"):
            sim.set_and_freeze(name, None)
        found = sim.encodings
        assert (set(found.activations), set(found.weights)) == ({"rectified"}, set())
        assert list(sim.left_float.values()) == ["its input x was given no encoding"]
        weight, x = weights_of(model), np.float32([[0.3, -1, 0.2, 2, 1, 0]])
        expected = found.activations["rectified"].fake_quantize(np.maximum(x @ weight["a"], 0)) @ weight["b"]
        np.testing.assert_allclose(sim.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("bits", [4, 16])
    def test_widths_per_tensor(self, bits):
        model = classifier()
        statistics = collect(model, samples_of(model, 4))
        sim = QuantSim(model, "mse")
        sim.set_bitwidth("pooled", bits)
        sim.compute_encodings(statistics)
        sim.set_bitwidth("w", bits)
        found = sim.encodings
        assert found.activations["pooled"] == encodings(statistics, "mse", Grid(bits))["pooled"]
        assert found.activations["image"].grid == TENSORRT_INT8
        assert {name: value.grid.bits for name, value in found.weights.items()} == {"a_w": 8, "b_w": 8, "w": bits}
        sim.freeze("w")
        with pytest.raises(ModelError, match="frozen"):
            sim.set_bitwidth("w", 8)
        with pytest.raises(ModelError, match="frozen"):
            sim.set_encoding("w", None)
        for odd in (17, 1, 8.5, "8", True):
            with pytest.raises(RangeError, match="from 2 to 16"):
                sim.set_bitwidth("image", odd)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("imag", "no tensor 'imag' \\(did you mean 'image'\\?\\)"),
            ("a_relu", "'a_relu' is not quantized: pooled shares its scale"),
            ("b_b", "'b_b' is not quantized"),
        ],
    )
    def test_names_that_are_none_are_refused(self, name, message):
        sim = QuantSim(classifier())
        for act in (
            lambda: sim.set_encoding(name, None),
            lambda: sim.set_and_freeze(name, Encoding.symmetric(1.0)),
            lambda: sim.set_bitwidth(name, 4),
            lambda: sim.freeze(name),
            lambda: sim.unfreeze(name),
        ):
            with pytest.raises(ModelError, match=message):
                act()

    def test_encodings_that_do_not_fit_are_refused(self):
        sim = QuantSim(classifier())
        channels = Encoding(np.ones(3, np.float32), np.zeros(3, np.int32), axis=1)
        with pytest.raises(ModelError, match="one scale, not 3"):
            sim.set_and_freeze("image", channels)
        with pytest.raises(ModelError, match="does not fit the weight b_w"):
            sim.set_and_freeze("b_w", channels)
        with pytest.raises(ModelError, match=r"give a trtcal\.Encoding"):
            sim.set_and_freeze("image", 0.1)
        assert sim.frozen == frozenset()


class TestLoading:
    @pytest.mark.parametrize("version", ["0.6.1", "1.0.0", "2.0.0"])
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_what_is_exported_is_loaded(self, version, symmetric, tmp_path):
        model = classifier()
        samples = samples_of(model, 4)
        config = QuantConfig(LayerSettings(symmetric=symmetric))
        config.add_name_config("b/*", weight_bits=4, activation_bits=12)
        sim = QuantSim(model, config=config)
        sim.compute_encodings(samples)
        written = sim.export(tmp_path, "m", version=version)
        other = QuantSim(written.model)
        notes = other.load_encodings(written.encodings)
        assert notes == ()
        assert other.frozen == {*sim.encodings.activations, *sim.encodings.weights}
        for batch in samples:
            np.testing.assert_allclose(other.run(batch)["scores"], sim.run(batch)["scores"], rtol=1e-5, atol=1e-6)

    def test_a_calibration_cache_gives_what_quantize_does(self, tmp_path):
        model = ZOO["pooled_concat"]().model
        samples = samples_of(model, 4)
        cache = trtcal.calibrate(collect(model, samples), "entropy")
        cache.save(tmp_path / "m.cache")
        expected = quantize(model, cache)
        for source in (cache, tmp_path / "m.cache", str(tmp_path / "m.cache")):
            sim = QuantSim(model)
            sim.load_encodings(source)
            scales = {name: float(value.scale) for name, value in sim.encodings.activations.items()}
            assert scales == dict(expected.scales)

    def test_a_quantized_model_is_read_with_its_weights(self, tmp_path):
        model = classifier()
        samples = samples_of(model, 4)
        sim = QuantSim(model)
        sim.compute_encodings(samples)
        written = sim.export(tmp_path, "m", qdq=True)
        other = QuantSim(model)
        other.load_encodings(written.qdq)
        assert other.encodings.activations == sim.encodings.activations
        assert set(other.encodings.weights) == set(sim.encodings.weights)
        for batch in samples:
            np.testing.assert_array_equal(other.run(batch)["scores"], sim.run(batch)["scores"])

    def test_a_mapping(self):
        model = two_products()
        sim = QuantSim(model)
        fixed = Encoding.symmetric(1.0, Grid(4))
        sim.load_encodings({"x": fixed, "rectified": 0.25, "a": None}, frozen=False)
        assert sim.encodings.activations == {"x": fixed, "rectified": Encoding.symmetric(0.25 * 127)}
        assert set(sim.encodings.weights) == {"b"}
        assert sim.frozen == frozenset()
        with pytest.raises(RangeError, match="x is given 'nonsense'"):
            sim.load_encodings({"x": "nonsense"})

    def test_a_tensor_has_the_encoding_of_what_shares_its_values(self):
        model = classifier()
        sim = QuantSim(model)
        found = sim.load_encodings(Encodings({"image": Encoding.symmetric(1.0), "a_relu": Encoding.symmetric(2.0)}))
        assert len(found) == 1 and "of tensors not quantized here" in found[0]
        assert sim.frozen == {"image", "pooled"}
        with pytest.raises(ModelError, match=r"1 activation\(s\), such as flat"):
            sim.run(samples_of(model, 1)[0])

    def test_names_of_another_model_are_refused(self, tmp_path):
        sim = QuantSim(classifier())
        with pytest.raises(CacheMismatchError, match=r"no tensor 'pool'.*did you mean 'pooled'.*and 1 more"):
            sim.load_encodings({"image": 0.1, "pool": 0.1, "zzz": 0.1})
        CalibrationCache({"imag": 0.1}).save(tmp_path / "m.cache")
        with pytest.raises(CacheMismatchError, match=r"no tensor 'imag', which .*m\.cache has"):
            sim.load_encodings(tmp_path / "m.cache")
        assert sim.frozen == frozenset()

    def test_weights_of_before_the_folding_are_noticed(self):
        """Batch normalization is folded into the first convolution, whose weights become others of the same name."""
        model = classifier()
        sim = QuantSim(model)
        folded = sim.load_encodings({"a_w": Encoding.symmetric(np.full(16, 0.01), axis=0)}, frozen=False)
        assert len(folded) == 1 and "batch normalization" in folded[0] and "a_w" in folded[0]
        assert sim.load_encodings({"a_w": Encoding.symmetric(np.full(16, 90.0), axis=0)}, frozen=False) == folded
        sim.compute_encodings(samples_of(model, 2))
        assert sim.load_encodings(sim.encodings) == ()

    @pytest.mark.parametrize("source", [3, None, [("image", 0.1)], {3: 0.1}])
    def test_what_holds_no_encodings_is_refused(self, source):
        with pytest.raises(CacheError, match=r"do not come from a|a text for a name"):
            QuantSim(classifier()).load_encodings(source)

    def test_scales_of_zero_leave_a_layer_in_float(self):
        model = classifier()
        sim = QuantSim(model)
        cache = CalibrationCache(
            {"image": 0.0, "a_relu": 0.1, "pooled": 0.1, "flat": 0.1, "(Unnamed Layer* 3) [X]": 1.0}
        )
        notes = sim.load_encodings(cache)
        assert any("are 0 or no number" in note for note in notes)
        assert list(sim.left_float) == [sim.layers[0].name]
        assert sim.run(samples_of(model, 1)[0])["scores"].shape == (1, 16)
