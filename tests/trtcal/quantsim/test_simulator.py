"""Simulated quantization: closed forms, the exported Q/DQ model, AIMET's workflow."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trtcal
from calibrators.encoding import Encoding
from calibrators.errors import (
    CacheMismatchError,
    DataError,
    ModelError,
)
from calibrators.grid import Grid
from calibrators.ranges import encodings
from engines.collection.collect import collect
from engines.sessions.exactness import default_is_exact
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.qdq.test_random_networks import BLOCKS, grown
from tests.engines.zoo import ZOO
from tests.trtcal.simulating import plain, two_products, weights_of
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.pipeline import quantize
from trtcal.quantsim.simulator import QuantSim


def powers(grid, exponent, axis=None, channels=1, zero=0.5):
    """An encoding whose scale is a power of two, so that sums of few products are exact in float32."""
    scale = np.float32(2.0**exponent)
    point = grid.zero_point if grid.symmetric else round(grid.minimum + zero * (grid.maximum - grid.minimum))
    if axis is None:
        return Encoding(scale, np.int32(point), grid)
    return Encoding(np.full(channels, scale), np.full(channels, point, np.int32), grid, axis)


GRIDS = st.builds(
    Grid, bits=st.sampled_from([4, 8, 16]), signed=st.booleans(), symmetric=st.booleans(), narrow=st.just(False)
)


class TestClosedForms:
    @given(grids=st.tuples(GRIDS, GRIDS), bits=st.sampled_from([4, 8]), seed=st.integers(0, 99), zero=st.floats(0, 1))
    @settings(max_examples=60)
    def test_two_layers_by_hand(self, grids, bits, seed, zero):
        """y = Q(relu(Q(x) @ Q(a))) @ Q(b), to the last bit: scales are powers of two."""
        model = two_products(seed)
        weight = weights_of(model)
        first, second = (powers(grid, 3 - grid.bits, zero=zero) for grid in grids)
        a, b = (
            powers(Grid(bits, narrow=True), 2 - bits, axis=1, channels=weight[name].shape[1]) for name in ("a", "b")
        )
        x = np.random.default_rng(seed).normal(0, 2, (7, 6)).astype(np.float32)
        with QuantSim(model) as sim:
            for name, value in {"x": first, "rectified": second, "a": a, "b": b}.items():
                sim.set_and_freeze(name, value)
            found = sim.run({"x": x})["y"]
        hidden = np.maximum(first.fake_quantize(x).astype(np.float64) @ a.fake_quantize(weight["a"]), 0)
        expected = second.fake_quantize(hidden).astype(np.float64) @ b.fake_quantize(weight["b"])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())

    @pytest.mark.parametrize("bits", [4, 16])
    def test_a_bias_stays_in_float(self, bits):
        """Between Q/DQ nodes ONNX Runtime rounds it to whole products of both scales, which are coarse for 4 bits."""
        net = Net()
        net.input("x", ("N", 1, 1, 1))
        for name in ("a", "b"):
            net.constant(f"{name}_w", np.ones((1, 1, 1, 1), np.float32))
            net.constant(f"{name}_bias", np.float32([0.3]))
        net.node("Conv", "x a_w a_bias", "hidden")
        net.node("Conv", "hidden b_w b_bias", "y")
        sim = QuantSim(net.model("y"))
        first, second = powers(Grid(4), 0), powers(Grid(bits), -2)
        for name, value in {"x": first, "hidden": second, "a_w": powers(Grid(4, narrow=True), 0)}.items():
            sim.set_and_freeze(name, value)
        found = sim.run({"x": np.float32([[[[2.2]]]])})["y"].item()
        assert found == pytest.approx(float(second.fake_quantize(2.3)) + 0.3, rel=1e-6)

    @pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_computed_encodings_are_those_of_the_statistics(self, bits, symmetric):
        model = two_products()
        samples = samples_of(model, 20)
        statistics = collect(model, samples)
        config = QuantConfig(LayerSettings(symmetric=symmetric))
        sim = QuantSim(model, "mse", default_output_bw=bits, default_param_bw=bits, config=config)
        sim.compute_encodings(samples)
        grid = Grid(bits, signed=symmetric, symmetric=symmetric)
        expected = encodings(statistics, "mse", grid)
        assert sim.encodings.activations == {name: expected[name] for name in ("x", "rectified")}
        for name, value in sim.encodings.weights.items():
            assert (value.grid, value.axis) == (Grid(bits, narrow=True), 1)
            largest = np.abs(weights_of(model)[name]).max(axis=0)
            np.testing.assert_allclose(value.scale, largest / (2 ** (bits - 1) - 1), rtol=1e-6)

    def test_sixteen_bits_are_nearly_float(self):
        model = classifier()
        samples = samples_of(model, 8)
        sim = QuantSim(model, "tf", default_output_bw=16, default_param_bw=16)
        sim.compute_encodings(samples)
        report = trtcal.evaluate({"float": OnnxRuntimeSession(model), "sim": sim}, samples, reference="float")
        assert report.scores["sim"].distortion.sqnr > 70

    def test_fewer_bits_lose_more(self):
        model = classifier()
        samples = samples_of(model, 8)
        losses = []
        for bits in (3, 4, 6, 8, 10):
            sim = QuantSim(model, "tf", default_output_bw=bits, default_param_bw=bits)
            sim.compute_encodings(samples)
            report = trtcal.evaluate({"float": OnnxRuntimeSession(model), "sim": sim}, samples, reference="float")
            losses.append(report.scores["sim"].distortion.sqnr)
        assert losses == sorted(losses)


class TestExportedModel:
    """The INT8 result is that of the exported model in plain ONNX Runtime."""

    @staticmethod
    def require_equal(model, samples, folder):
        with QuantSim(model) as sim:
            sim.compute_encodings(samples)
            written = sim.export(folder, "m", qdq=True)
            for batch in samples:
                found, expected = sim.run(batch), plain(written.qdq, batch)
                assert list(found) == list(expected)
                for name, values in expected.items():
                    np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5 * np.ptp(values))

    @pytest.mark.parametrize("name", [name for name in ZOO if name != "shared_both_ways"])
    def test_networks_of_every_kind(self, name, tmp_path):
        model = ZOO[name]().model
        self.require_equal(model, samples_of(model, 4), tmp_path)

    @given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=6), st.integers(0, 99))
    @settings(max_examples=15)
    def test_any_network(self, tmp_path_factory, blocks, seed):
        model = grown(blocks, [])
        self.require_equal(model, samples_of(model, 4, seed=seed, batch=2), tmp_path_factory.mktemp("any"))

    @pytest.mark.parametrize("name", ["conv_bn_relu", "gemm", "identity_skip", "conv_transpose", "pooled_concat"])
    def test_it_is_the_model_that_quantize_writes(self, name):
        model = ZOO[name]().model
        samples = samples_of(model, 4)
        statistics = collect(model, samples)
        sim = QuantSim(model, "entropy")
        sim.compute_encodings(statistics)
        expected = quantize(model, trtcal.calibrate(statistics, "entropy"))
        scales = {name: float(value.scale) for name, value in sim.encodings.activations.items()}
        assert scales == dict(expected.scales)
        with OnnxRuntimeSession(expected.model, arithmetic="default" if default_is_exact() else "int8") as session:
            for batch in samples:
                for key, values in session.run(batch).items():
                    np.testing.assert_array_equal(sim.run(batch)[key], values)


class TestComputing:
    def test_a_callback_gives_what_a_loader_gives(self, job):
        loader = trtcal.ImageLoader(job / "images", preprocess="unit", batch_size=5)
        by_loader, by_callback, by_statistics = (QuantSim(job / "model.onnx") for _ in range(3))
        by_loader.compute_encodings(loader)
        by_callback.compute_encodings(lambda session: trtcal.evaluate(session, loader))
        by_statistics.compute_encodings(trtcal.collect(job / "model.onnx", loader))
        assert by_loader.encodings == by_callback.encodings == by_statistics.encodings
        assert len(by_loader.encodings.activations) == 3

    def test_neither_batches_nor_their_order_change_it(self):
        model = classifier()
        samples = samples_of(model, 12)
        found = []
        for batches in (samples, samples[::-1], samples_of(model, 12, batch=12)[:0] + joined(samples, 4)):
            sim = QuantSim(model)
            sim.compute_encodings(batches)
            found.append(sim.encodings)
        assert found[0] == found[1] == found[2]

    def test_errors_leave_it_as_it_was(self):
        model = classifier()
        samples = samples_of(model, 4)
        sim = QuantSim(model)
        sim.compute_encodings(samples)
        before = sim.encodings

        def failing(session):
            session.run(samples[0])
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            sim.compute_encodings(failing)
        for nothing in ([], lambda session: None):
            with pytest.raises(DataError):
                sim.compute_encodings(nothing)
        for odd in (3, None, "images", samples[0]):
            with pytest.raises(DataError):
                sim.compute_encodings(odd)
        assert sim.encodings == before

    def test_statistics_of_another_model_are_refused(self, tmp_path):
        onnx.save(classifier(), tmp_path / "one.onnx")
        onnx.save(classifier(seed=1), tmp_path / "other.onnx")
        statistics = collect(tmp_path / "other.onnx", samples_of(classifier(), 2))
        with pytest.raises(CacheMismatchError, match="another model"):
            QuantSim(tmp_path / "one.onnx").compute_encodings(statistics)
        with pytest.raises(CacheMismatchError, match="no tensor 'x'"):
            QuantSim(two_products()).compute_encodings(statistics)

    def test_before_it_nothing_runs(self):
        model = classifier()
        sim = QuantSim(model)
        for act in (lambda: sim.run(samples_of(model, 1)[0]), lambda: sim.encodings, sim.freeze):
            with pytest.raises(ModelError, match="no encoding yet: call compute_encodings"):
                act()
        assert "image" in next(iter(sim.left_float.values()))

    def test_tensors_of_zeros_stay_in_float(self):
        model = two_products()
        sim = QuantSim(model)
        sim.compute_encodings([{"x": np.zeros((3, 6), np.float32)}])
        assert set(sim.left_float.values()) == {"its input x was always zero", "its input rectified was always zero"}
        with pytest.raises(ModelError, match="every layer stays in float"):
            sim.run({"x": np.zeros((1, 6), np.float32)})


def joined(samples, size):
    return [
        {name: np.concatenate([each[name] for each in samples[start : start + size]]) for name in samples[0]}
        for start in range(0, len(samples), size)
    ]


class TestSession:
    def test_it_is_a_session(self, job):
        loader = trtcal.ImageLoader(job / "images", preprocess="unit", batch_size=5)
        with QuantSim(job / "model.onnx") as sim, OnnxRuntimeSession(job / "model.onnx") as floats:
            assert (sim.inputs, sim.outputs) == (floats.inputs, floats.outputs)
            sim.compute_encodings(loader)
            report = trtcal.evaluate({"float": floats, "sim": sim}, loader, reference="float")
            assert report.scores["sim"].samples == 12
            assert 20 < report.scores["sim"].distortion.sqnr < 60
        with pytest.raises(ModelError, match="closed"):
            sim.run({})

    def test_models_of_a_fixed_batch_run_any_number(self):
        net = Net()
        net.conv(net.input("x", (2, 8, 8, 8)), "y", 4, 8, 3, 3)
        model = net.model("y")
        sim = QuantSim(model)
        random = np.random.default_rng(0)
        sim.compute_encodings([{"x": random.normal(size=(3, 8, 8, 8)).astype(np.float32)}])
        assert sim.run({"x": random.normal(size=(5, 8, 8, 8)).astype(np.float32)})["y"].shape == (5, 4, 8, 8)

    def test_wrong_batches_are_refused(self):
        model = classifier()
        sim = QuantSim(model)
        sim.compute_encodings(samples_of(model, 2))
        with pytest.raises(DataError, match="the model takes"):
            sim.run({"image": np.zeros((1, 1, 16, 16), np.float32)})


@pytest.mark.parametrize(("bits", "told"), [(8, False), (4, True)])
def test_how_onnx_runtime_gives_the_simulations_results(bits, told, tmp_path):
    model = classifier()
    sim = QuantSim(model, default_param_bw=bits)
    sim.compute_encodings(samples_of(model, 4))
    notes = sim.export(tmp_path, "m", qdq=True).notes
    assert any("session.disable_quant_qdq" in note for note in notes) == told
    assert not any("session.disable_quant_qdq" in note for note in sim.export(tmp_path, "n").notes)
    options = onnxruntime.SessionOptions()
    if told:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(tmp_path / "m.qdq.onnx", options, providers=["CPUExecutionProvider"])
    (batch,) = samples_of(model, 1)
    if told or default_is_exact():
        for name, values in zip((each.name for each in session.get_outputs()), session.run(None, batch), strict=True):
            np.testing.assert_array_equal(values, sim.run(batch)[name])
