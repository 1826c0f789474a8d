"""What a configuration comes to in TensorRT, and what TensorRT cannot do."""

from dataclasses import replace

import pytest

from calibrators.errors import ConfigError
from engines.qdq.weights import Granularity, WeightOptions
from engines.simulation.layer_names import layers_of
from tests.engines.networks import classifier
from tests.engines.zoo import ZOO
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig

LAYERS = layers_of(classifier())
"""a/Conv, b/Conv, scores/MatMul."""


def test_a_plan():
    config = QuantConfig(LayerSettings(weight="mse")).add_layer_config("a/Conv", precision="fp16", weight_bits=4)
    config.add_type_config("MatMul", granularity="tensor", weight_bits=4, activation="minmax")
    plan = config.plan(LAYERS)
    assert plan.precisions == {"a/Conv": "fp16", "b/Conv": "int8", "scores/MatMul": "int8"}
    assert plan.weights == {
        "b/Conv": WeightOptions("mse"),
        "scores/MatMul": WeightOptions("mse", Granularity("tensor"), 4),
    }
    assert plan.methods == {"scores/MatMul": "minmax"}
    assert plan.notes == (
        "1 layer(s), scores/MatMul, have weights of 4 bits: INT8 weights that use 15 levels, which TensorRT computes "
        "like any others",
    )


def test_a_skip_input_has_no_weight():
    layers = layers_of(ZOO["identity_skip"]().model)
    plan = QuantConfig(LayerSettings(weight_bits=4)).plan(layers)
    (addition,) = (layer.name for layer in layers if layer.weight is None)
    assert plan.precisions[addition] == "int8"
    assert addition not in plan.weights


@pytest.mark.parametrize("settings", [{"activation": "lsq+"}, {"weight": "learned-range"}])
def test_quantizers_to_train_with_are_refused(settings):
    (name,) = settings.values()
    config = QuantConfig().add_layer_config("b/Conv", **settings)
    with pytest.raises(ConfigError) as refused:
        config.plan(LAYERS)
    assert str(refused.value) == (
        f"{name!r}, which the configuration has for b/Conv, is a quantizer to train a PyTorch model with: train with "
        "trtcal.qat.QAT, or choose a range method"
    )


def test_rules_that_fit_nothing_are_noted():
    plan = QuantConfig().add_type_config("conv", weight_bits=4).plan(LAYERS)
    assert plan.notes == ("the configuration has a rule that fits no layer: type 'conv' (did you mean 'Conv'?)",)


@pytest.mark.parametrize("settings", [{"power_of_two": True}, {"weight_bits": 4}, {"activation": "mse"}])
def test_rules_for_small_products_alone_are_noted(settings):
    layers = [replace(layer, small=layer.type == "MatMul") for layer in LAYERS]
    for add in (
        lambda made, **kept: made.add_layer_config("scores/MatMul", **kept),
        lambda made, **kept: made.add_type_config("MatMul", **kept),
    ):
        (note,) = (each for each in add(QuantConfig(), **settings).plan(layers).notes if "quantizes nothing" in each)
        assert "too small to gain by INT8: give it precision = 'int8', too" in note
        asked = add(QuantConfig(), **settings, precision="int8").plan(layers)
        assert asked.precisions["scores/MatMul"] == "int8"
        assert not [each for each in asked.notes if "quantizes nothing" in each]
    wide = QuantConfig().add_name_config("*", **settings).plan(layers)
    assert not [each for each in wide.notes if "quantizes nothing" in each]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"activation_bits": 16}, "activation_bits of b/Conv: TensorRT's INT8 has 8; "),
        ({"activation_bits": 4}, "activation_bits of b/Conv: TensorRT's INT8 has 8; "),
        ({"symmetric": False}, "symmetric = false of b/Conv: TensorRT's INT8 has zero point 0 alone; "),
        ({"weight_bits": 9}, "weight_bits of b/Conv: TensorRT's INT8 has 8 at most; "),
    ],
)
def test_what_only_a_simulation_can_do_is_refused(settings, why):
    with pytest.raises(ConfigError) as refused:
        QuantConfig().add_layer_config("b/Conv", **settings).plan(LAYERS)
    assert str(refused.value).startswith(why)
    assert "trtcal.QuantSim" in str(refused.value)
    QuantConfig().add_layer_config("b/Conv", precision="float", **settings).plan(LAYERS)  # of a float layer, no matter
