"""What is quantized, in which settings; what is not, is named."""

import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn

from calibrators.errors import ConfigError, ModelError
from tests.trtcal.qat.networks import IMAGES, Attention, Branching, Perceptron, Residual, settled
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import PTQ, QAT, left_in_float, quantized_modules
from trtcal.qat.plan import QuantizationWarning, planned


def plan(model, config=None, modes=(False,)):
    with warnings.catch_warnings():
        warnings.simplefilter("error", QuantizationWarning)
        return planned(model, config or QuantConfig(), modes=modes)


def bits(model, config):
    return {name: each.weight_bits for name, each in plan(model, config).settings.items()}


RESIDUAL = [
    "conv",
    "layer1.0.conv1",
    "layer1.0.conv2",
    "layer1.0.add",
    "layer1.1.conv1",
    "layer1.1.conv2",
    "layer1.1.add",
    "layer2.conv1",
    "layer2.conv2",
    "layer2.down.0",
    "layer2.add",
    "fc",
]


def test_everything_with_weights_and_residual_additions_in_the_order_in_which_they_run():
    found = plan(Residual())
    assert [each.name for each in found.chosen] == RESIDUAL
    assert found.norms == {
        "conv": "bn",
        "layer1.0.conv1": "layer1.0.bn1",
        "layer1.0.conv2": "layer1.0.bn2",
        "layer1.1.conv1": "layer1.1.bn1",
        "layer1.1.conv2": "layer1.1.bn2",
        "layer2.conv1": "layer2.bn1",
        "layer2.conv2": "layer2.bn2",
        "layer2.down.0": "layer2.down.1",
    }
    assert not found.left
    assert found.sources["layer1.0.conv1"] is found.sources["layer1.0.add"]
    assert found.sources["layer2.conv1"] is found.sources["layer2.down.0"]
    assert found.sources["layer1.0.conv2"] is not found.sources["layer1.0.conv1"]


def test_an_instance_goes_before_a_name_before_a_type_before_the_default():
    model = Residual()
    config = (
        QuantConfig(LayerSettings(weight_bits=2))
        .add_type_config(nn.Conv2d, weight_bits=3)
        .add_name_config("layer1.*", weight_bits=4)
        .add_name_config("layer1.1.conv1", weight_bits=5)
        .add_layer_config(model.layer1[1].conv1, weight_bits=6)
    )
    found = bits(model, config)
    assert (found["fc"], found["conv"], found["layer1.0.conv1"], found["layer1.1.conv1"]) == (2, 3, 4, 6)
    assert found["layer1.1.conv2"] == 4


def test_types_are_classes_with_those_derived_from_them_names_of_classes_and_functions():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(Own(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(3, 3))
    assert bits(model, QuantConfig().add_type_config(nn.Conv2d, weight_bits=4)) == {"0": 4, "1": 4, "3": 8}
    assert bits(model, QuantConfig().add_type_config("Own", weight_bits=4)) == {"0": 4, "1": 8, "3": 8}
    assert bits(model, QuantConfig().add_type_config("Linear", weight_bits=4)) == {"0": 8, "1": 8, "3": 4}
    found = plan(Residual(), QuantConfig().add_type_config("add", precision="fp32"))
    assert set(found.left) == {"layer1.0.add", "layer1.1.add", "layer2.add"}


def test_a_rule_for_a_module_is_for_what_is_in_it_the_innermost_first():
    model = Residual()
    config = (
        QuantConfig().add_layer_config(model.layer1, weight_bits=3).add_layer_config(model.layer1[1], weight_bits=4)
    )
    config.add_layer_config(model.layer1[1].conv2, weight_bits=5)
    found = bits(model, config)
    assert [found[f"layer1.{each}"] for each in ("0.conv1", "0.add", "1.conv1", "1.conv2")] == [3, 3, 4, 5]
    assert found["layer2.conv1"] == 8
    by_name = QuantConfig().add_name_config("layer1", weight_bits=3).add_name_config("layer1.0.conv1", weight_bits=6)
    found = bits(model, by_name)
    assert [found[f"layer1.{each}"] for each in ("0.conv1", "0.conv2", "1.conv1")] == [6, 3, 3]


def test_skipped_layers_stay_in_float_with_their_normalization():
    config = QuantConfig().skip(names=["layer1.*", "fc"], first_convolutions=1)
    found = plan(Residual(), config)
    assert [each.name for each in found.chosen] == ["layer2.conv1", "layer2.conv2", "layer2.down.0", "layer2.add"]
    assert "float is what the configuration has for it" in found.left["conv"]
    assert "conv" not in found.norms
    assert plan(Residual(), QuantConfig().add_name_config("fc", precision="fp16")).left == {
        "fc": "fp16 is what the configuration has for it"
    }


def test_an_addition_follows_the_convolution_that_it_is_fused_into():
    found = plan(Residual(), QuantConfig().add_name_config(["layer1.0.conv2", "layer2.conv1"], precision="fp16"))
    assert set(found.left) == {"layer1.0.conv2", "layer1.0.add", "layer2.conv1"}
    told = QuantConfig().add_name_config("layer1.0.conv2", precision="fp16").add_type_config("add", precision="int8")
    assert set(plan(Residual(), told).left) == {"layer1.0.conv2"}


def test_a_rule_that_fits_nothing_is_told_of():
    model = Residual()
    with pytest.warns(QuantizationWarning, match=r"fits no layer: name 'layer9.*' .did you mean 'layer2.add'.."):
        planned(model, QuantConfig().add_name_config("layer9.*", weight_bits=4), modes=(False,))
    with pytest.warns(QuantizationWarning, match="fits no layer: layer of class Conv2d"):
        planned(model, QuantConfig().add_layer_config(Residual().conv, weight_bits=4), modes=(False,))


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Embedding(10, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        y = self.embed(x)
        return self.out(self.encoder(self.attention(y, y, y)[0]))


def test_unknown_layers_are_named_and_nothing_in_them_is_touched():
    with pytest.warns(QuantizationWarning) as told:
        found = planned(Mixed(), QuantConfig(), modes=(False,))
    assert [each.name for each in found.chosen] == ["out"]
    assert set(found.left) == {"attention", "encoder"}
    messages = sorted(str(each.message) for each in told)
    assert messages == [
        "attention stays in float: what is in MultiheadAttention cannot be reached: write it with nn.Linear and "
        "matmul, or skip it",
        "encoder stays in float: what is in TransformerEncoderLayer cannot be reached: write it with nn.Linear and "
        "matmul, or skip it",
    ]


def test_what_is_skipped_is_not_warned_of():
    config = QuantConfig().skip(types=[nn.MultiheadAttention, "TransformerEncoderLayer"])
    assert [each.name for each in plan(Mixed(), config).chosen] == ["out"]


def test_a_module_s_name_skips_all_that_is_in_it():
    named = [each.name for each in plan(Residual(), QuantConfig().skip(names="layer1")).chosen]
    assert named and not [name for name in named if name.startswith("layer1")]
    assert "layer2.conv1" in named


def test_what_cannot_be_traced_is_named_and_its_layers_are_quantized_all_the_same():
    with pytest.warns(QuantizationWarning, match=r"branch stays in float: its forward cannot be traced .*control flow"):
        found = planned(Branching(), QuantConfig(), modes=(False,))
    assert {each.name for each in found.chosen} == {"first", "second", "branch.body.0", "add"}
    assert found.norms == {"branch.body.0": "branch.body.1"}


class Opaque(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.layers = nn.Parameter(torch.ones(3, 3)), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def forward(self, x):
        return self.layers(x) @ self.weight if float(x.sum()) else x


def test_weights_that_are_not_reached_are_named():
    with pytest.warns(QuantizationWarning, match=r"Opaque stays in float: .*in float, weight among them"):
        found = planned(Opaque(), QuantConfig(), modes=(False,))
    assert found.graph is None and [each.name for each in found.chosen] == ["layers.0"]
    assert found.norms == {"layers.0": "layers.1"}


def test_modules_that_are_not_run_are_left_as_they_are():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.warns(QuantizationWarning, match="spare stays in float: the model's forward does not run it"):
        found = planned(Spare(), QuantConfig(), modes=(False,))
    assert [each.name for each in found.chosen] == ["used"]
    assert set(found.left) == {"spare"}
    assert [each.name for each in plan(Spare(), QuantConfig().skip(names="spare")).chosen] == ["used"]


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential()])
def test_a_model_with_nothing_to_quantize_is_refused(model):
    with pytest.raises(ModelError, match="the model has nothing to quantize"):
        plan(model)


def test_so_is_one_of_which_everything_is_skipped():
    with pytest.raises(ModelError, match=r"nothing to quantize .*; 0 is none: float is what the configuration has"):
        plan(nn.Sequential(nn.Linear(2, 2)), QuantConfig().skip(types=nn.Linear))


def test_a_normalization_is_folded_only_where_nothing_else_reads_the_layer():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) * y

    assert not plan(Shared()).norms
    assert plan(Perceptron()).norms == {"layers.0": "layers.1"}
    assert not plan(Attention()).norms


def test_a_module_under_two_names_is_one():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert [each.name for each in plan(model).chosen] == ["0"]
    assert not plan(model).sources  # it reads two tensors


def test_scales_that_are_powers_of_two_are_refused():
    with pytest.raises(ConfigError, match="power_of_two of 0: PyTorch models have other scales"):
        plan(nn.Sequential(nn.Linear(4, 3)), QuantConfig(LayerSettings(power_of_two=True)))


def test_settings_that_mean_nothing_are_refused_when_they_are_made():
    with pytest.raises(ConfigError, match=r"activation: .*'lsqq'"):
        QuantConfig().add_name_config("fc", activation="lsqq")
    with pytest.raises(ConfigError, match="weight must be one of absmax, mse, lsq"):
        QuantConfig().add_name_config("fc", weight="pact")


@pytest.mark.parametrize("kind", [PTQ, QAT])
def test_only_what_is_configured_is_quantized_as_in_paddleslim(kind):
    how = {"activation": "avg" if kind is PTQ else "moving_average_abs_max", "weight": "abs_max"}
    config = QuantConfig(activation=None, weight=None).add_type_config(layer_type=nn.Linear, **how)
    model = settled(Residual(), *IMAGES).train(kind is QAT)
    made = kind(config).quantize(model)
    assert [name for name, _ in quantized_modules(made)] == ["fc"]
    assert "float is what the configuration has for it" in left_in_float(made)["conv"]


def test_a_rule_under_a_skip_is_told():
    config = QuantConfig().skip(types=nn.Linear).add_name_config("fc", weight_bits=4)
    with pytest.warns(QuantizationWarning, match="rule for name 'fc' quantizes nothing, as a less specific rule or a"):
        PTQ(config).quantize(settled(Residual(), *IMAGES))
