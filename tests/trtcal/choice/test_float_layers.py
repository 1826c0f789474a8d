"""Layers left in float unasked: those that harm most, within the budget, confirmed, each with a reason."""

import numpy as np
import onnx
import pytest

from engines.simulation.simulated_model import FLOAT, Simulation
from tests.engines.networks import Net
from tests.trtcal.gathering import collect_images
from trtcal.analysis.layer_macs import layer_macs
from trtcal.analysis.trials import Trials
from trtcal.choice.float_layers import choose_float_layers, without
from trtcal.choice.kinds import Kinds
from trtcal.config.layer_forms import layer_forms
from trtcal.data.images import open_images


def harmed():
    """Convolutions, of which `thin` reads one channel a thousand times as large as the others; and a head."""
    net = Net()
    net.conv(net.input("x", ("N", 16, 16, 16)), "wide", 32, 16, 3, 3)
    net.node("Relu", "wide", "wide_relu")
    gains = np.r_[1e3, np.ones(31)].astype(np.float32).reshape(32, 1, 1)
    net.node("Mul", f"wide_relu {net.constant('gains', gains)}", "uneven")
    net.conv("uneven", "thin", 2, 32, 1, 1)
    net.constants["thin_w"] = net.constants["thin_w"] / gains.reshape(1, 32, 1, 1) ** 1.3
    net.conv("thin", "back", 16, 2, 3, 3)
    return net.model(net.conv("back", "head", 32, 16, 3, 3))


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Trials, forms and multiply-accumulates of the network."""
    folder = tmp_path_factory.mktemp("job")
    onnx.save(harmed(), folder / "model.onnx")
    values = np.random.default_rng(1).standard_normal((24, 16, 16, 16)).astype(np.float32)
    np.save(folder / "x.npy", values)
    statistics, _ = collect_images(folder / "model.onnx", folder / "x.npy", tensors="quantizable")
    simulation = Simulation(folder / "model.onnx")
    loader = open_images(folder / "x.npy", [], count=12)
    trials = Trials(simulation, loader, labelled=False)
    return trials, layer_forms(simulation, statistics, "mse").forms, layer_macs(simulation, loader)


def test_the_layer_that_harms_is_left_in_float_with_its_reason(job):
    trials, forms, macs = job
    found = choose_float_layers(trials, trials, forms, macs)
    assert "thin/Conv" in found.layers
    assert found.share <= 5
    assert found.after.sqnr > found.before.sqnr + 3
    layer = found.layers["thin/Conv"]
    assert layer.share == pytest.approx(100 * macs["thin/Conv"] / sum(macs.values()))
    assert f"{layer.share:.2g} % of the multiply-accumulates" in layer.reason


def test_its_score_is_that_of_the_version_without_them(job):
    trials, forms, macs = job
    found = choose_float_layers(trials, trials, forms, macs)
    version = trials.score({name: FLOAT if name in found.layers else form for name, form in forms.items()})
    assert version.sqnr == pytest.approx(found.after.sqnr)


def test_what_the_budget_has_no_room_for_is_named_with_what_it_would_bring(job):
    trials, forms, macs = job
    found = choose_float_layers(trials, trials, forms, macs, budget=35)
    shares = {name: 100 * count / sum(macs.values()) for name, count in macs.items()}
    assert found.no_room and not found.no_room.keys() & found.layers.keys()
    assert all(shares[name] > 35 - found.share for name in found.no_room)
    more = choose_float_layers(trials, trials, forms, macs, budget=100)
    assert not more.no_room and more.after.sqnr > found.after.sqnr


def test_without_a_budget_all_is_in_int8(job):
    trials, forms, macs = job
    assert choose_float_layers(trials, trials, forms, macs, budget=0).layers == {}


def test_a_choice_that_does_not_help_is_not_kept(job, monkeypatch):
    trials, forms, macs = job
    monkeypatch.setattr("trtcal.choice.float_layers.CONFIRMED", 100.0)
    found = choose_float_layers(trials, trials, forms, macs)
    assert (found.layers, found.after) == ({}, found.before)


def test_the_first_layer_is_taken_alone_where_it_has_more_than_the_budget(job):
    trials, forms, macs = job
    dear = {**dict.fromkeys(macs, 28), "wide/Conv": 16}
    only = {name: form for name, form in forms.items() if name in ("wide/Conv", "head/Conv")}
    found = choose_float_layers(trials, trials, only, dear)
    assert list(found.layers) == ["wide/Conv"]
    assert found.layers["wide/Conv"].reason.startswith("the first layer: ")


def test_a_skip_goes_with_the_layer_that_it_is_added_to(residual):
    simulation, forms = residual
    (skip,) = (layer for layer in simulation.layers if layer.weight is None)
    left = without(forms, [skip.partner], simulation.layers)
    assert left[skip.name] == left[skip.partner] == FLOAT
    assert sum(form == FLOAT for form in left.values()) == 2


@pytest.fixture
def residual(tmp_path):
    net = Net()
    net.conv(net.input(), "one", 8, 8, 3, 3)
    net.node("Relu", "one", "middle")
    net.conv("middle", "two", 8, 8, 3, 3)
    onnx.save(net.model(net.node("Add", "two one", "sum")), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((4, 8, 8, 8)).astype(np.float32))
    statistics, _ = collect_images(tmp_path / "model.onnx", tmp_path / "x.npy", tensors="quantizable")
    simulation = Simulation(tmp_path / "model.onnx")
    return simulation, layer_forms(simulation, statistics, "mse").forms


class TestKinds:
    def test_the_first_a_head_and_a_depthwise_one(self, tmp_path):
        net = Net()
        net.conv(net.input(), "first", 8, 8, 3, 3)
        net.conv("first", "depthwise", 8, 1, 3, 3, group=8)
        net.conv("depthwise", "wide", 16, 8, 1, 1)
        net.conv("wide", "boxes", 16, 16, 1, 1)
        net.node("GlobalAveragePool", "wide", "pooled")
        net.node("Flatten", "pooled", "flat")
        net.weight("w", 16, 32, fan_in=16)
        net.node("MatMul", "flat w", "scores")
        onnx.save(net.model("boxes", "scores"), tmp_path / "model.onnx")
        kinds = Kinds.of(Simulation(tmp_path / "model.onnx"))
        assert kinds.of_layer("first/Conv") == "the first layer"
        assert kinds.of_layer("depthwise/Conv") == "a depthwise convolution"
        assert kinds.of_layer("wide/Conv") == "a layer that costs the outputs much"
        assert kinds.of_layer("boxes/Conv") == "a head, which gives boxes"
        assert kinds.of_layer("scores/MatMul") == "a classifier's or regression's last layer, which gives scores"
