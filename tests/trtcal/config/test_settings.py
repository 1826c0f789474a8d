"""QuantConfig: which rule counts, what is refused, which rules fit nothing."""

from dataclasses import dataclass, replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.errors import ConfigError
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import classifier
from tests.engines.zoo import ZOO
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig


@dataclass(frozen=True)
class Some:
    """A layer, of ONNX or, with a module, of PyTorch."""

    name: str
    type: "str | type" = "Conv"
    module: object = None


LAYERS = (Some("stem/Conv"), Some("body/Conv"), Some("body/Gemm", "Gemm"), Some("up/Conv", "ConvTranspose"))


def settings(config, layer="body/Conv", layers=LAYERS):
    return config.settings(layers).layers[layer]


CALLS = {
    "layer": lambda config: config.add_layer_config("body/Conv", weight_bits=2),
    "exact name": lambda config: config.add_name_config("body/Conv", weight_bits=3),
    "glob": lambda config: config.add_name_config("body/*", weight_bits=4),
    "type": lambda config: config.add_type_config("Conv", weight_bits=5),
}


@pytest.mark.parametrize("order", list(permutations(CALLS)), ids="-".join)
def test_the_more_specific_rule_counts_whatever_the_order_of_the_calls(order):
    for said in range(1, len(order) + 1):
        config = QuantConfig(LayerSettings(weight_bits=6))
        for call in order[:said]:
            CALLS[call](config)
        most_specific = min(order[:said], key=list(CALLS).index)
        assert settings(config).weight_bits == 2 + list(CALLS).index(most_specific)


def test_without_rules_the_default_counts():
    default = LayerSettings(precision="fp16", activation="mse")
    assert settings(QuantConfig(default)) == default
    assert settings(QuantConfig()) == LayerSettings()


def test_fields_are_decided_one_by_one():
    config = QuantConfig(LayerSettings(symmetric=False))
    config.add_type_config("Conv", weight="mse", weight_bits=4)
    config.add_name_config("body/*", activation="minmax", weight_bits=5)
    config.add_layer_config("body/Conv", activation_bits=16)
    assert settings(config) == LayerSettings("int8", "minmax", "mse", 16, 5, False)


def test_of_several_globs_the_first_counts_and_the_same_target_again_changes_it():
    config = QuantConfig().add_name_config("body/*", weight_bits=4).add_name_config("*Conv", weight_bits=5)
    assert settings(config).weight_bits == 4
    config.add_name_config("body/*", weight_bits=3, weight="mse")
    assert settings(config) == LayerSettings(weight="mse", weight_bits=3)
    assert len(config.rules) == 2


def test_a_name_with_brackets_fits_itself():
    layer = Some("block[0]/Conv")
    assert settings(QuantConfig().add_name_config(layer.name, weight_bits=4), layer.name, [layer]).weight_bits == 4
    assert settings(QuantConfig().skip(names=layer.name), layer.name, [layer]).precision == "float"


def test_a_layer_rule_takes_no_glob():
    found = QuantConfig().add_layer_config("body/*", weight_bits=4).settings(LAYERS)
    assert set(found.layers.values()) == {LayerSettings()}
    assert found.unused == ("layer 'body/*' (did you mean 'body/Gemm'?)",)


def test_several_targets_at_once():
    config = QuantConfig().add_layer_config(["stem/Conv", "body/Gemm"], weight_bits=4)
    config.add_type_config({"ConvTranspose"}, weight_bits=5)
    config.add_name_config((name for name in ["body/Conv"]), weight_bits=6)
    assert [each.weight_bits for each in config.settings(LAYERS).layers.values()] == [4, 6, 4, 5]


def skipped(config, layers=LAYERS):
    return [name for name, each in config.settings(layers).layers.items() if each.precision == "float"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({"names": "body/*"}, ["body/Conv", "body/Gemm"]),
        ({"names": ["body/Conv"]}, ["body/Conv"]),
        ({"types": "Gemm"}, ["body/Gemm"]),
        ({"first_convolutions": 1}, ["stem/Conv"]),
        ({"last_convolutions": 2}, ["body/Conv", "up/Conv"]),
        ({"first_convolutions": 3}, ["stem/Conv", "body/Conv", "up/Conv"]),
        ({}, []),
    ],
)
def test_what_is_skipped(what, expected):
    assert skipped(QuantConfig().skip(**what)) == expected


def test_skips_add_up_and_counts_are_replaced():
    config = QuantConfig().skip(names="body/Gemm", first_convolutions=3).skip(names="stem/*", first_convolutions=0)
    assert skipped(config) == ["stem/Conv", "body/Gemm"]


@pytest.mark.parametrize("skip_first", [True, False])
@pytest.mark.parametrize(
    ("skip", "rule", "target", "stays"),
    [
        ({"names": "body/Conv"}, "add_layer_config", "body/Conv", False),
        ({"names": "body/Conv"}, "add_name_config", "body/Conv", True),
        ({"names": "body/*"}, "add_name_config", "body/Conv", False),
        ({"names": "body/*"}, "add_name_config", "*Conv", True),
        ({"types": "Conv"}, "add_name_config", "body/*", False),
        ({"types": "Conv"}, "add_type_config", "Conv", True),
        ({"first_convolutions": 2}, "add_name_config", "body/Conv", False),
        ({"first_convolutions": 2}, "add_type_config", "Conv", True),
    ],
)
def test_a_skip_goes_before_the_rules_of_its_kind(skip, rule, target, stays, skip_first):
    config = QuantConfig()
    calls = [lambda: config.skip(**skip), lambda: getattr(config, rule)(target, precision="fp16")]
    for call in calls if skip_first else reversed(calls):
        call()
    assert settings(config).precision == ("float" if stays else "fp16")


@pytest.mark.parametrize(
    "how",
    [{"activation": "mse"}, {"weight": "mse"}, {"weight_bits": 4}, {"symmetric": False}, {"granularity": "tensor"}],
)
@pytest.mark.parametrize("default", ["float", "fp16", "fp32"])
def test_what_is_configured_is_quantized_where_the_default_is_not(how, default):
    config = QuantConfig(LayerSettings(precision=default)).add_type_config("Conv", **how)
    found = config.settings(LAYERS)
    for layer in LAYERS:
        wanted = replace(LayerSettings(), **how) if layer.type == "Conv" else LayerSettings(precision=default)
        assert found.layers[layer.name] == wanted
    assert found.overruled == ()


def test_a_stated_precision_goes_before_what_a_rule_implies():
    config = QuantConfig(LayerSettings(precision="float")).add_name_config("*", weight_bits=4)
    config.add_type_config("Gemm", precision="fp16").skip(first_convolutions=1)
    found = config.settings(LAYERS).layers
    for layer in LAYERS:
        first = layer.name == next(each.name for each in LAYERS if each.type == "Conv")
        wanted = "fp16" if layer.type == "Gemm" else "float" if first else "int8"
        assert found[layer.name].precision == wanted


@pytest.mark.parametrize(
    ("less_specific", "overruled"),
    [
        (lambda config: config.skip(types="Conv"), True),
        (lambda config: config.add_type_config("Conv", precision="fp16"), True),
        (lambda config: config.add_type_config("Conv", precision="int8"), False),
        (lambda config: config.skip(names="body/Conv"), False),  # meant: it is as specific as the rule
        (lambda config: config.add_layer_config("body/Conv", precision="float"), False),
        (lambda config: config, False),
    ],
)
def test_a_rule_that_quantizes_nothing_is_told(less_specific, overruled):
    config = less_specific(QuantConfig().add_name_config("body/Conv", weight_bits=4))
    told = ("name 'body/Conv'",) if overruled else ()
    assert config.settings(LAYERS).overruled == told
    assert QuantConfig.parse(config.dumps()).settings(LAYERS).overruled == told
    config.add_name_config("body/Conv", precision="int8")
    assert config.settings(LAYERS).overruled == ()


def test_a_rule_some_of_whose_layers_are_quantized_is_no_matter():
    config = QuantConfig().add_name_config("*", weight_bits=4).skip(first_convolutions=1)
    assert config.settings(LAYERS).overruled == ()


def test_rules_that_fit_nothing_are_told_with_what_is_nearest():
    config = QuantConfig().add_layer_config("body/Conf", weight_bits=4).add_name_config("tail/*", weight_bits=4)
    config.add_type_config("conv", weight_bits=4).add_type_config("Gemm", weight_bits=4)
    config.skip(names="steam/Conv", types="MatMul", first_convolutions=3, last_convolutions=4)
    assert config.settings(LAYERS).unused == (
        "layer 'body/Conf' (did you mean 'body/Conv'?)",
        "name 'tail/*'",
        "type 'conv' (did you mean 'Conv'?)",
        "skip name 'steam/Conv' (did you mean 'stem/Conv'?)",
        "skip type 'MatMul'",
        "skip last_convolutions = 4, of which there are 3",
    )


def test_layers_of_a_model():
    layers = Simulation(classifier()).layers
    config = QuantConfig().add_layer_config(layers[0], weight_bits=4).skip(last_convolutions=1)
    found = config.settings(layers)
    assert list(found.layers) == ["a/Conv", "b/Conv", "scores/MatMul"]
    assert [(each.precision, each.weight_bits) for each in found.layers.values()] == [
        ("int8", 4),
        ("float", 8),
        ("int8", 8),
    ]
    assert found.unused == ()


def test_a_residual_addition_goes_with_its_convolution():
    layers = Simulation(ZOO["identity_skip"]().model).layers
    (addition,) = (layer for layer in layers if layer.partner is not None)

    def of(config):
        return settings(config, addition.name, layers).precision

    assert of(QuantConfig()) == "int8"
    assert of(QuantConfig().skip(types="Conv")) == "float"
    assert of(QuantConfig().add_layer_config(addition.partner, precision="fp16")) == "fp16"
    for rule in ("add_layer_config", "add_name_config"):
        config = QuantConfig().add_layer_config(addition.partner, precision="fp16")
        assert of(getattr(config, rule)(addition.name, precision="int8")) == "int8"
    config = QuantConfig().add_type_config(addition.type, precision="int8").skip(types="Conv")
    assert of(config) == "int8"
    assert of(QuantConfig().add_type_config("Conv", weight_bits=4)) == "int8"


class _ConvNd:
    """Named as the base of PyTorch's convolutions."""


class Conv2d(_ConvNd):
    pass


class Special(Conv2d):
    pass


class Linear:
    """A module that can be iterated over, as PyTorch's containers can."""

    def __iter__(self):
        return iter(())


MODULES = tuple(
    Some(name, type(module), module) for name, module in [("a", Conv2d()), ("b", Special()), ("c", Linear())]
)


def test_modules_are_told_by_identity_and_class():
    config = QuantConfig().add_layer_config(MODULES[2].module, weight_bits=2)
    config.add_type_config(Special, weight_bits=3).add_type_config("Conv2d", weight_bits=4)
    assert [each.weight_bits for each in config.settings(MODULES).layers.values()] == [4, 3, 2]
    assert skipped(QuantConfig().skip(last_convolutions=1), MODULES) == ["b"]
    assert skipped(QuantConfig().skip(types=Conv2d), MODULES) == ["a", "b"]
    assert QuantConfig().add_layer_config(Linear(), weight_bits=2).settings(MODULES).unused == (
        "layer of class Linear",
    )


def test_the_classes_of_quantization_aware_training():
    config = QuantConfig().add_qat_layer_mapping(Conv2d, Special)
    assert config.qat_layers == {Conv2d: Special}
    with pytest.raises(ConfigError, match="the target of a QAT layer mapping must be a class, not 'Special'"):
        config.add_qat_layer_mapping(Conv2d, "Special")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "int4"}, "precision must be one of int8, fp16, fp32, float, not 'int4' (did you mean 'int8'?)"),
        ({"activation": "entrpy"}, "activation: there is no range method 'entrpy': "),
        ({"activation": "entrpy"}, " (did you mean 'entropy'?)"),
        ({"activation": "percentile:101"}, "activation: "),
        ({"activation": 3}, "activation must be text, such as "),
        (
            {"weight": "absmx"},
            "weight must be one of absmax, mse, lsq, lsq+, learned-range, not 'absmx' (did you mean 'absmax'?)",
        ),
        ({"weight": "kl"}, "learned-range, not 'kl' (that is for activations: of weights, mse "),
        (
            {"weight": "moving_average_abs_max"},
            "not 'moving_average_abs_max' (that is for activations: of weights, mse ",
        ),
        (
            {"activation": "hist"},
            "activation: there is no range method 'hist': PaddleSlim's is percentile:99.9 here",
        ),
        ({"weight_bits": 1}, "weight_bits must be a whole number from 2 to 16, not 1"),
        ({"activation_bits": 17}, "activation_bits must be a whole number from 2 to 16, not 17"),
        ({"weight_bits": 4.0}, "weight_bits must be a whole number from 2 to 16, not 4.0"),
        ({"weight_bits": True}, "weight_bits must be a whole number from 2 to 16, not True"),
        ({"symmetric": 1}, "symmetric must be true or false, not 1"),
        ({"granularity": "row"}, "granularity: there is no granularity 'row' of weights: "),
        ({"weight_bit": 4}, "there is no setting 'weight_bit' of layers (did you mean 'weight_bits'?): "),
        ({}, "the rule for layer 'body/Conv' sets nothing: "),
        ({"activation": None}, "the rule for layer 'body/Conv' sets nothing: "),
    ],
)
def test_settings_that_mean_nothing_are_refused_at_once(wrong, message):
    config = QuantConfig()
    with pytest.raises(ConfigError) as refused:
        config.add_layer_config("body/Conv", **wrong)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert config == QuantConfig()


@pytest.mark.parametrize(
    "call",
    [
        lambda config: config.add_layer_config(3, weight_bits=4),
        lambda config: config.add_layer_config(Conv2d, weight_bits=4),
        lambda config: config.add_layer_config("", weight_bits=4),
        lambda config: config.add_name_config(Conv2d, weight_bits=4),
        lambda config: config.add_type_config(Conv2d(), weight_bits=4),
        lambda config: config.skip(names=[3]),
        lambda config: config.skip(first_convolutions=-1),
        lambda config: config.skip(last_convolutions="1"),
        lambda config: config.skip(last_convolutions=True),
    ],
)
def test_targets_that_are_none_are_refused(call):
    with pytest.raises(ConfigError):
        call(QuantConfig())


NAMES = st.sampled_from(["a", "ab", "abc", "b"])
RULES = st.tuples(
    st.sampled_from(["add_layer_config", "add_name_config", "add_type_config"]),
    st.one_of(NAMES, st.sampled_from(["a*", "*b*", "Conv", "Gemm"])),
    st.sampled_from([{"weight_bits": 4}, {"precision": "fp16"}, {"weight": "mse", "activation_bits": 16}]),
)


@given(st.lists(RULES, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_kinds_never_matters(calls, random):
    """Calls of different kinds may come in any order; within a kind, the order is kept."""
    layers = [Some(name, kind) for name, kind in [("a", "Conv"), ("ab", "Gemm"), ("abc", "Conv"), ("b", "Add")]]
    mixed = sorted(calls, key=lambda call: ranks[call[0]]) if (ranks := _drawn(random)) else calls
    first, second = QuantConfig(), QuantConfig()
    for config, order in ((first, calls), (second, mixed)):
        for method, target, stated in order:
            getattr(config, method)(target, **stated)
    assert first.settings(layers) == second.settings(layers)
    assert first == second


def _drawn(random):
    kinds = ["add_layer_config", "add_name_config", "add_type_config"]
    random.shuffle(kinds)
    return {kind: place for place, kind in enumerate(kinds)}
