"""PaddleSlim's words in QuantConfig: `paddle.quantization.QuantConfig`, with names in the place of factories."""

from dataclasses import replace

import pytest

from calibrators.errors import ConfigError
from tests.trtcal.config.test_settings import LAYERS
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig


class AbsmaxObserver:
    """As PaddleSlim has one."""


class LSQ:
    """As `trtcal.qat` has one."""


def test_methods_of_the_default():
    assert QuantConfig(activation="mse", weight="absmax") == QuantConfig(LayerSettings(activation="mse"))
    assert QuantConfig(activation="kl").default == LayerSettings(activation="entropy")
    default = LayerSettings(weight_bits=4, activation="minmax")
    assert QuantConfig(default, activation="lsq", weight="lsq").default == replace(
        default, activation="lsq", weight="lsq"
    )


def test_none_for_both_quantizes_what_is_configured_alone():
    config = QuantConfig(activation=None, weight=None).add_type_config(
        layer_type="Conv", activation="avg", weight="abs_max"
    )
    found = config.settings(LAYERS).layers
    assert {name for name, each in found.items() if each.precision == "int8"} == {
        layer.name for layer in LAYERS if layer.type == "Conv"
    }
    assert all(each.activation == "mean" for each in found.values() if each.precision == "int8")
    assert QuantConfig.parse(config.dumps()) == config


@pytest.mark.parametrize("given", [{"activation": "mse", "weight": None}, {"activation": None, "weight": "absmax"}])
def test_none_for_one_is_refused(given):
    with pytest.raises(ConfigError, match=r"is None, and .* is not: INT8 quantizes what a layer reads and its weight"):
        QuantConfig(**given)


def test_words_for_what_a_rule_is_for():
    layer = LAYERS[0]
    ours = QuantConfig().add_layer_config(layer, weight_bits=4).add_name_config("b*", weight_bits=5)
    ours.add_type_config(["Conv", "Gemm"], weight_bits=6)
    theirs = QuantConfig().add_layer_config(layer=layer, weight_bits=4).add_name_config(layer_name="b*", weight_bits=5)
    assert theirs.add_type_config(layer_type=["Conv", "Gemm"], weight_bits=6) == ours


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda config: config.add_name_config(weight_bits=4), "or layer_name in its place: give one of them"),
        (lambda config: config.add_name_config("a", layer_name="b", weight_bits=4), "give one of them"),
        (lambda config: config.add_type_config(weight_bits=4), "or layer_type in its place: give one of them"),
        (
            lambda config: config.add_type_config("Conv", activation=None, weight=None),
            "the rule for type 'Conv' sets nothing: precision='float' leaves layers in float",
        ),
        (lambda config: QuantConfig("mse"), "the default is a LayerSettings, not 'mse': name methods, as in"),
        (lambda config: QuantConfig(activation=AbsmaxObserver()), "activation must be text, such as 'minmax', not"),
        (lambda config: QuantConfig(activation=LSQ), "activation must be text, such as 'lsq', not"),
    ],
)
def test_what_is_left_open_is_answered(call, message):
    with pytest.raises(ConfigError, match=message):
        call(QuantConfig())
