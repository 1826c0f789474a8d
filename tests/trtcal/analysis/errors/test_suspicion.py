"""What is broken on purpose is named, with the reason; what is not broken is not."""

import math
from typing import get_args

import numpy as np
import pytest

from engines.graph.model import input_specs
from tests.engines.networks import Net
from tests.trtcal.planted import changed, formed, network, opened, rescaled, samples, stored
from trtcal.analysis.errors.advice import Reason, advice
from trtcal.analysis.errors.error_report import errors_by_layer
from trtcal.config.settings import QuantConfig


@pytest.fixture
def suspected(tmp_path):
    """Tensor and reason -> the suspicion, for a model calibrated on some samples and judged by others."""

    def found(model, calibrated=None, judged=None, method="minmax", config=None):
        given = samples(64) if calibrated is None else calibrated
        simulation, statistics, forms = formed(model, given, method, config)
        path = stored(tmp_path, samples(8, seed=1) if judged is None else judged)
        report = errors_by_layer(simulation, forms.forms, opened(model, path), statistics=statistics)
        order = [(not each.harms, each.sqnr) for each in report.suspicions]
        assert order == sorted(order)  # what harms first, the worst of it first
        return {(each.tensor, each.reason): each for each in report.suspicions}

    return found


def harmful(found):
    return {key for key, each in found.items() if each.harms}


def test_a_healthy_network_is_above_suspicion(suspected):
    assert suspected(network()) == {}


def test_outliers_and_the_wide_range_that_holds_them(suspected):
    values = samples(64)
    values[3, 1, 4, 4] = 300
    found = suspected(network(), calibrated=values)
    outliers, wide = found["image", "outliers"], found["image", "wide range"]
    assert outliers.harms
    assert outliers.layers == ("a/Conv",)
    assert outliers.why.startswith("its largest magnitude, 300, is ")
    assert outliers.why.endswith("the range ends at 302.4")  # at level -128, the amax being at 127
    assert "a range method that clips more" in wide.why
    assert ("image", "few levels") in found
    clipped = suspected(network(), calibrated=values, method="percentile:99.9")
    assert not clipped["image", "outliers"].harms
    assert ("image", "wide range") not in clipped


def test_the_worst_comes_first(suspected):
    """Inputs of two layers are too coarse, the second one more so; and a channel is dead, which harms nothing."""
    model = network()
    changed(model, "a_b", lambda values: values.__setitem__(3, -100))
    config = QuantConfig().add_layer_config("a/Conv", activation_bits=4)
    config.add_layer_config("b/Conv", activation_bits=3)
    found = list(suspected(model, config=config).values())
    tensors = list(dict.fromkeys(each.tensor for each in found if each.reason == "few levels"))
    assert tensors == ["a_relu", "image"]
    assert (found[-1].reason, found[-1].harms, found[-1].sqnr) == ("dead channels", False, math.inf)
    assert found[0].sqnr == min(each.sqnr for each in found)


@pytest.mark.parametrize("harms", [True, False])
def test_every_reason_has_advice(harms):
    for reason in get_args(Reason):
        assert len(advice(reason, harms=harms)) > 5


def test_values_that_are_clipped(suspected):
    found = suspected(network(), method="percentile:90")
    assert harmful(found) >= {(name, "saturation") for name in ("image", "a_relu")}
    why = found["image", "saturation"].why
    assert 8 < float(why.split(" %")[0]) < 12
    far = suspected(network(), judged=5 * samples(8, seed=1))
    assert ("image", "saturation") in far  # none of the images that were calibrated on is as bright


def test_few_values_far_beyond_the_range(suspected):
    judged = samples(8, seed=1)
    judged[:, 0, 0, 0] = 500
    why = suspected(network(), judged=judged)["image", "saturation"].why
    assert float(why.split(" %")[0]) < 1
    assert "makes 100 % of its own error" in why


def test_dead_channels(suspected):
    model = network()
    for channel in (3, 7):
        changed(model, "a_b", lambda values, channel=channel: values.__setitem__(channel, -100))
    (key, each), *others = suspected(model).items()
    assert (key, others, each.harms) == (("a_relu", "dead channels"), [], False)
    assert each.why.startswith("2 of 16 channels (3, 7) are zero on every image")
    assert each.layers == ("b/Conv",)


def test_channels_that_quantization_loses(suspected):
    model = network()
    for name in ("a_w", "a_b"):
        changed(model, name, lambda values: values.__setitem__(5, values[5] * 1e-4))
    found = suspected(model)
    assert harmful(found) == {("a_relu", "lost channels")}
    assert found["a_relu", "lost channels"].why.startswith("1 of 16 channels (5) is zero in INT8")


def test_a_channel_that_dwarfs_the_others(suspected):
    found = suspected(rescaled())
    assert {("a_relu", "channel spread"), ("b", "error jump"), ("a_relu", "lost channels")} <= harmful(found)
    assert found["a_relu", "channel spread"].why.startswith("channel 2 reaches ")
    assert found["b", "error jump"].layers == ("b/Conv",)
    why = found["b_w", "lost weights"].why
    assert why == "1 of 16 input channels (2) is given weights of zero in INT8, and others before"
    spread = found["a_w", "weight channel spread"]
    assert not spread.harms
    assert spread.why.startswith("output channel 2 reaches ")
    assert "each has its own scale" in spread.why


def test_weights_that_share_a_scale_and_should_not(suspected):
    config = QuantConfig().add_type_config("Conv", granularity="tensor")
    found = suspected(rescaled(), config=config)
    assert {("a_w", "weight channel spread"), ("a_w", "noisy weight")} <= harmful(found)
    assert "give each its own" in found["a_w", "weight channel spread"].why


def test_weights_of_few_bits(suspected):
    found = suspected(network(), config=QuantConfig().add_type_config("MatMul", weight_bits=3))
    assert harmful(found) == {("w", "noisy weight"), ("products", "error jump")}


def test_weights_for_a_dead_channel_may_be_lost(suspected):
    model = rescaled()
    assert ("b_w", "lost weights") in suspected(model)
    changed(model, "a_b", lambda values: values.__setitem__(2, -1e6))
    found = suspected(model)
    assert ("a_relu", "dead channels") in found
    assert ("b_w", "lost weights") not in found


def test_weights_of_zero(suspected):
    found = suspected(changed(network(), "b_w", lambda values: values.__setitem__((slice(0, 9),), 0)))
    why = found["b_w", "dead weights"].why
    assert why == "9 of 16 channels (0, 1, 2, 3, 4, 5, 6, 7, ...) are all zero"
    assert ("b_w", "dead weights") not in harmful(found)


def test_nan_is_named_where_it_comes_in_and_where_it_goes_on(suspected):
    judged = samples(8, seed=1)
    judged[2, 0, 3, 3] = np.nan
    found = suspected(network(), judged=judged)
    assert found["image", "not finite"].why.startswith("1 of its values are NaN")
    assert ("a", "not finite") in found


def test_a_tensor_that_several_layers_read_is_named_once(suspected, tmp_path):
    net = Net()
    net.node("Relu", net.input("image", ("N", 3, 8, 8)), "x")
    net.conv("x", "a", 4, 3, 1, 1)
    net.conv("x", "b", 4, 3, 1, 1)
    net.node("Add", "a b", "sum")
    model = net.model("sum")
    values = samples(8)
    values[:, 1] = -np.abs(values[:, 1])
    assert [spec.name for spec in input_specs(model)] == ["image"]
    each = suspected(model, calibrated=values, judged=values)["x", "dead channels"]
    assert each.layers == ("a/Conv", "b/Conv")
    assert each.to_dict()["layers"] == ["a/Conv", "b/Conv"]
