"""What can be prepared: float models that can be changed; and what is left of one that is refused."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import fx, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from calibrators.errors import ConfigError, ModelError
from tests.trtcal.qat.networks import images
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import PTQ, QAT, QuantizationWarning, TracedModel, left_in_float
from trtcal.qat.layers import QuantizedLayer

pytestmark = pytest.mark.filterwarnings(
    "ignore::trtcal.qat.plan.QuantizationWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def minmax():
    return QuantConfig(LayerSettings(activation="minmax"))


@pytest.mark.parametrize(
    "wrapped, message",
    [
        (torch.jit.script, "a TorchScript model cannot be changed: give the model that was scripted or traced"),
        (nn.DataParallel, "give the model that DataParallel wraps, model.module, and wrap what comes back"),
        (lambda model: torch.compile(model, backend="eager"), "give the one that torch.compile was given"),
    ],
)
def test_a_wrapped_model_is_refused(wrapped, message):
    with pytest.raises(ModelError, match=message):
        PTQ().quantize(wrapped(small().eval()))


def test_a_quantized_model_may_be_wrapped():
    observed = PTQ(minmax()).quantize(small().eval())
    for wrapped in (nn.DataParallel(observed), torch.compile(observed, backend="eager")):
        wrapped(images())
        converted = PTQ().convert(wrapped)
        assert isinstance(converted, nn.Sequential) and isinstance(converted[0], QuantizedLayer)


@pytest.mark.parametrize("front", [PTQ, QAT])
@pytest.mark.parametrize("config", [LayerSettings(), "lsq", {"activation": "lsq"}])
def test_what_is_no_configuration_is_refused(front, config):
    with pytest.raises(ConfigError, match=r"the configuration is a QuantConfig, such as QuantConfig\(LayerSettings"):
        front(config)


def test_a_setting_that_is_refused_leaves_the_model_as_it_was():
    model = small().eval()
    with pytest.raises(ConfigError, match="the input of 3: 'lsq' is a quantizer to train with"):
        PTQ(minmax().add_name_config("3", activation="lsq")).quantize(model, inplace=True)
    assert not any(isinstance(each, QuantizedLayer) for each in model.modules())
    assert isinstance(PTQ().quantize(model, inplace=True)[0], QuantizedLayer)


@pytest.mark.parametrize(
    "compute", [weight_norm, spectral_norm, lambda layer: prune.l1_unstructured(layer, "weight", 0.5)]
)
def test_a_weight_that_is_computed_before_each_call_stays_in_float(compute):
    model = small()
    compute(model[0])
    with torch.no_grad():
        model(images())
    made = PTQ(minmax()).quantize(model.eval())
    assert "its weight is computed before each call: call remove_weight_norm" in left_in_float(made)["0"]
    assert torch.equal(made(images()), model(images()))


def test_a_model_that_cannot_be_copied_is_refused():
    model, x = small().train(), images()
    model.last = model(x)
    with pytest.raises(ModelError, match=r"cannot be copied \(.*\): let it keep no results with gradients"):
        QAT().quantize(model)
    assert QAT().quantize(model, inplace=True) is model


def test_a_lazy_model_is_refused_until_it_has_weights():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    with pytest.raises(ModelError, match=r"0.weight has no shape yet, .*: run a batch through the model first"):
        PTQ().quantize(model)
    model(images())
    assert left_in_float(PTQ().quantize(model)) == {}


def test_a_graph_module_is_quantized_as_other_models_are():
    model, x = fx.symbolic_trace(small().eval()), images()
    made = PTQ(minmax()).quantize(model)
    made(x)
    converted = PTQ().convert(made)
    assert isinstance(converted, TracedModel) and isinstance(converted.get_submodule("0"), QuantizedLayer)
    torch.testing.assert_close(converted(x), model(x), rtol=0.05, atol=0.05)


class Methodical(nn.Module):
    """Keeps a part in evaluation mode, and has a method."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x):
        return self.first(x) + self.second(x)

    def train(self, mode=True):
        super().train(mode)
        self.second.eval()
        return self

    def predict(self, x):
        return self(x).argmax(1)


@pytest.mark.filterwarnings("default::trtcal.qat.plan.QuantizationWarning")
def test_what_a_traced_model_has_not_is_told_of():
    with pytest.warns(QuantizationWarning, match="comes back has not Methodical's own train"):
        made = QAT().quantize(Methodical().train())
    with pytest.raises(AttributeError, match="no attribute 'predict': it has those of Methodical, but not its methods"):
        made.predict(images())


class Tied(nn.Module):
    """Two convolutions of one weight, each with a normalization; `hidden` from torch.fx, or not."""

    def __init__(self, shared, hidden):
        super().__init__()
        torch.manual_seed(0)
        first, second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        second.weight = first.weight
        if shared == "convolution":
            second = first
        norm, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.first = nn.Sequential(first, norm, nn.ReLU())
        self.second = nn.Sequential(second, norm if shared == "normalization" else other)
        self.hidden = hidden

    def forward(self, x):
        if self.hidden and not bool(x.any()):
            return x
        return self.second(self.first(x))


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("shared", ["weight", "convolution", "normalization"])
def test_what_layers_share_is_not_folded_twice(shared, hidden):
    model, x = Tied(shared, hidden), images()
    for _ in range(5):
        model(3 * x)
    expected = model.eval()(x)
    made = PTQ(minmax()).quantize(model)
    torch.testing.assert_close(made(x), expected, rtol=1e-3, atol=1e-3)
