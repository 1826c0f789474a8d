"""QuantConfig as TOML: there and back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.errors import ConfigError
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.rules import Skip
from trtcal.config.settings import QuantConfig

EXAMPLE = """\
[default]
precision = "int8"
activation = "entropy"

[[layer]]
name = "conv1"
precision = "fp16"

[[name]]
pattern = ["layer3/*", "layer4/*"]
weight_bits = 4

[[type]]
type = "Gemm"
weight = "mse"
symmetric = false

[skip]
names = ["head/*"]
types = ["MatMul"]
first_convolutions = 1
"""


def test_what_a_file_says():
    config = QuantConfig.parse(EXAMPLE)
    assert config.default == LayerSettings(activation="entropy")
    assert [(rule.kind, rule.target, rule.settings) for rule in config.rules] == [
        ("layer", "conv1", {"precision": "fp16"}),
        ("name", "layer3/*", {"weight_bits": 4}),
        ("name", "layer4/*", {"weight_bits": 4}),
        ("type", "Gemm", {"weight": "mse", "symmetric": False}),
    ]
    assert config.skipped == Skip(("head/*",), ("MatMul",), first_convolutions=1)
    assert config.dumps() == EXAMPLE


def test_to_a_file_and_back(tmp_path):
    config = QuantConfig.parse(EXAMPLE)
    config.save(tmp_path / "quant.toml")
    assert QuantConfig.load(tmp_path / "quant.toml") == config


def test_an_empty_file_is_the_default():
    assert QuantConfig.parse("") == QuantConfig()
    assert QuantConfig.parse(QuantConfig().dumps()) == QuantConfig()


TEXTS = st.text(min_size=1, max_size=12)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "precision": st.sampled_from(["int8", "fp16", "fp32", "float"]),
        "activation": st.sampled_from(["entropy", "absmax", "percentile:99.9"]),
        "weight": st.sampled_from(["absmax", "mse"]),
        "activation_bits": st.integers(2, 16),
        "weight_bits": st.integers(2, 16),
        "symmetric": st.booleans(),
        "granularity": st.sampled_from(["channel", "tensor", "block:32"]),
    },
)
CALLS = st.tuples(
    st.sampled_from(["add_layer_config", "add_name_config", "add_type_config"]),
    st.one_of(TEXTS, st.lists(TEXTS, max_size=12)),
    SETTINGS.filter(bool),
)


@given(
    SETTINGS,
    st.lists(CALLS, max_size=6),
    st.lists(TEXTS, max_size=3),
    st.lists(TEXTS, max_size=3),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_every_configuration_comes_back_equal(default, calls, names, types, first, last):
    config = QuantConfig(LayerSettings(**default))
    for method, targets, settings in calls:
        getattr(config, method)(targets, **settings)
    config.skip(names=names, types=types, first_convolutions=first, last_convolutions=last)
    text = config.dumps()
    assert QuantConfig.parse(text) == config
    assert QuantConfig.parse(text).dumps() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[defult]", "unknown key 'defult' (did you mean 'default'?); valid: default, layer, name, type, skip"),
        ('[default]\nprecison = "int8"', "[default]: unknown key 'precison' (did you mean 'precision'?); valid: "),
        ('[default]\nprecision = "int4"', "[default]: precision must be one of int8, fp16, fp32, float, not 'int4'"),
        ('[default]\nactivation = "entrpy"', " (did you mean 'entropy'?)"),
        ('[default]\nsymmetric = "no"', "[default]: symmetric must be true or false, not 'no'"),
        ("power_of_two = true", "power_of_two stands above all sections: put it into [default], for all layers"),
        (
            "weight_bits = 4\n[default]\nsymmetric = true",
            "weight_bits stands above all sections: put it into",
        ),
        ("default = 3", "[default]: a table of settings is wanted, not 3"),
        ("[[default]]", "[default]: a table of settings is wanted, not [{}]"),
        ('[layer]\nname = "a"', "layer must be an array of tables: write [[layer]]"),
        ('[[layer]]\nname = "a"\nweight_bits = 4\n[[layer]]\nnaem = "b"', "[[layer]] 2: unknown key 'naem' (did you "),
        ("[[layer]]\nweight_bits = 4", "[[layer]] 1: name is missing: it says what the settings are for"),
        ("[[name]]\npattern = []\nweight_bits = 4", "[[name]] 1: pattern is missing"),
        ('[[layer]]\nname = "a"', "[[layer]] 1: the rule for layer 'a' sets nothing: choose among precision, "),
        ('[[layer]]\nname = "a"\nweight_bits = 4.0', "[[layer]] 1: weight_bits must be a whole number from 2 to 16"),
        ("[[type]]\ntype = [3]\nweight_bits = 4", "[[type]] 1: type must be a text or a list of texts, not 3"),
        (
            '[[name]]\npattern = "a"\nweight_bits = 4\n[[name]]\npattern = ["b", "a"]\nweight_bits = 3',
            "[[name]] 2: pattern 'a' has settings already: put them together",
        ),
        ("[skip]\nfirst = 1", "[skip]: unknown key 'first' (did you mean 'first_convolutions'?)"),
        ("[skip]\nfirst_convolutions = -1", "[skip]: first_convolutions must be a whole number, 0 or more, not -1"),
        ("[skip]\nnames = 3", "[skip]: names must be a text or a list of texts, not 3"),
        ("default", "is not TOML: "),
    ],
)
def test_what_means_nothing_is_refused_in_a_line_that_names_the_file(text, message, tmp_path):
    path = tmp_path / "quant.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        QuantConfig.load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a = 1\na = 2", b"x = " + b"[" * 100_000])
def test_files_that_are_no_settings(content, tmp_path):
    path = tmp_path / "quant.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        QuantConfig.load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


class Kind:
    pass


def test_what_a_file_cannot_hold():
    with pytest.raises(ConfigError, match="a file holds names, not modules such as one of class Kind"):
        QuantConfig().add_layer_config(Kind(), weight_bits=4).dumps()
    with pytest.raises(ConfigError, match="is no text that a file can hold"):
        QuantConfig().add_layer_config("\ud800", weight_bits=4).dumps()


def test_classes_are_written_by_name_and_mappings_of_classes_are_not():
    config = QuantConfig().add_type_config(Kind, weight_bits=4).skip(types=Kind).add_qat_layer_mapping(Kind, dict)
    text = config.dumps()
    assert text.endswith("\n# 1 QAT layer mapping(s), of PyTorch classes, are not in this file\n")
    again = QuantConfig.parse(text)
    assert [rule.target for rule in again.rules] == list(again.skipped.types) == [f"{__name__}.Kind"]
    assert again.qat_layers == {}
