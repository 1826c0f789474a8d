"""`--skip`: the same as `[skip]` in a file."""

import pytest

from calibrators.errors import ConfigError
from engines.simulation.layer_names import layers_of
from tests.engines.networks import classifier
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.config.skipping import configured

TEXTS = ["names=a*, head ", "types=Gemm,MatMul", "first-convolutions=1", "last-convolutions=2", "names=other"]
FILE = """[skip]
names = ["a*", "head", "other"]
types = ["Gemm", "MatMul"]
first_convolutions = 1
last_convolutions = 2
"""


def test_it_says_what_a_file_says(tmp_path):
    (tmp_path / "quant.toml").write_text(FILE)
    assert configured(None, TEXTS) == QuantConfig.load(tmp_path / "quant.toml")


def test_it_adds_to_a_file_and_numbers_replace(tmp_path):
    (tmp_path / "quant.toml").write_text('[default]\nweight_bits = 4\n[skip]\nnames = "b"\nfirst_convolutions = 3\n')
    found = configured(tmp_path / "quant.toml", ["names=a", "first-convolutions=1"])
    assert found.default.weight_bits == 4
    assert (found.skipped.names, found.skipped.first_convolutions) == (("b", "a"), 1)


def test_nothing_given_is_no_configuration():
    assert configured(None, []) is None
    default = LayerSettings(weight="mse")
    assert configured(None, ["types=Conv"], default=default).default == default


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("types=MatMul", {"scores/MatMul"}),
        ("first-convolutions=1", {"a/Conv"}),
        ("last-convolutions=1", {"b/Conv"}),
        ("names=?/Conv", {"a/Conv", "b/Conv"}),
        ("names=scores/MatMul", {"scores/MatMul"}),
        ("first-convolutions=0", set()),
    ],
)
def test_what_it_leaves_in_float(text, left):
    settings = configured(None, [text]).settings(layers_of(classifier())).layers
    assert {name for name, each in settings.items() if each.precision == "float"} == left


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["Softmax"], r"does it name layers \(names=Softmax\) or operators \(types=Softmax\)"),
        (["type=Gemm"], r"there is no 'type' \(did you mean 'types'\?\)"),
        (["last=1"], r"there is no 'last' \(did you mean 'last-convolutions'\?\)"),
        (["first=1"], r"there is no 'first' \(did you mean 'first-convolutions'\?\)"),
        (["first_convolutions=1"], r"did you mean 'first-convolutions'"),
        (["first-convolutions=-1"], "is a whole number"),
        (["first-convolutions=1.5"], "is a whole number"),
        (["first-convolutions=1,types=Gemm"], "give other keys in a --skip each"),
        (["first-convolutions=" + "9" * 5000], "is a whole number"),
        (["first-convolutions=1", "first-convolutions=2"], "gives first-convolutions twice"),
        (["names="], "there is nothing to skip"),
        (["names=a,,b"], "there is nothing to skip"),
        (["=a"], "there is no ''"),
    ],
)
def test_what_means_nothing_is_refused(texts, why):
    with pytest.raises(ConfigError, match=why) as caught:
        configured(None, texts)
    assert "\n" not in str(caught.value)
