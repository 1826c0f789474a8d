"""Training of models with layers of the user's own: what takes their place, and what cannot."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn
from torch.nn import functional

from calibrators.errors import ModelError
from tests.trtcal.qat.networks import images
from tests.trtcal.qat.training import settings, train
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import (
    PTQ,
    QAT,
    FixedQuantizer,
    QuantizationWarning,
    QuantizedConv2d,
    QuantizedLayer,
    encodings,
    quantized_modules,
)
from trtcal.qat.folding import FoldedBatchNorm


class OwnConv(nn.Conv2d):
    """Of the user's, in the known way."""


class QuantizedOwnConv(nn.Module):
    def __init__(self, layer, input_quantizer, weight_quantizer):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.input_quantizer, self.weight_quantizer = input_quantizer, weight_quantizer

    def forward(self, x):
        return functional.conv2d(self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


def test_the_normalization_behind_a_user_s_layer_stays_where_it_is():
    model = nn.Sequential(OwnConv(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), OwnConv(4, 4, 1))
    made = QAT(settings().add_qat_layer_mapping(OwnConv, QuantizedOwnConv)).quantize(model)
    assert type(made[1]) is nn.BatchNorm2d and type(made[0]) is QuantizedOwnConv
    losses = train(made, images(), 4)
    assert losses[-1] < losses[0]
    folded = QAT(settings()).quantize(model)
    assert isinstance(folded[1], FoldedBatchNorm)


class Parallel(nn.Module):
    """A linear layer of which each process has a part; here, all parts are in one process."""

    def __init__(self, inputs, outputs, parts=2):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs) * 0.3), nn.Parameter(torch.zeros(outputs))
        self.parts = parts


class ColumnParallelLinear(Parallel):
    """Each part has some of the outputs."""

    def forward(self, x):
        parts = zip(self.weight.chunk(self.parts), self.bias.chunk(self.parts), strict=True)
        return torch.cat([functional.linear(x, weight, bias) for weight, bias in parts], -1)


class RowParallelLinear(Parallel):
    """Each part has some of the inputs; what they give is summed up."""

    def forward(self, x):
        parts = zip(x.chunk(self.parts, -1), self.weight.chunk(self.parts, 1), strict=True)
        return sum(functional.linear(given, weight) for given, weight in parts) + self.bias


class QuantizedColumnParallel(QuantizedLayer, ColumnParallelLinear):
    """Made as the layers of the package are."""

    def product(self, x, weight, bias, *rest, **more):
        return torch.cat([functional.linear(x, *each) for each in zip(weight.chunk(2), bias.chunk(2), strict=True)], -1)


class QuantizedRowParallel(nn.Module):
    """Made in the user's own way."""

    def __init__(self, layer, input_quantizer, weight_quantizer):
        super().__init__()
        self.weight, self.bias, self.parts = layer.weight, layer.bias, layer.parts
        self.input_quantizer, self.weight_quantizer = input_quantizer, weight_quantizer

    def forward(self, x):
        x, weight = self.input_quantizer(x), self.weight_quantizer(self.weight)
        parts = zip(x.chunk(self.parts, -1), weight.chunk(self.parts, 1), strict=True)
        return sum(functional.linear(*each) for each in parts) + self.bias


class Sharded(nn.Module):
    def __init__(self):
        super().__init__()
        self.column, self.row, self.out = ColumnParallelLinear(8, 16), RowParallelLinear(16, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.out(x + self.row(torch.relu(self.column(x))))


def sharded():
    return (
        settings()
        .add_qat_layer_mapping(ColumnParallelLinear, QuantizedColumnParallel)
        .add_qat_layer_mapping(RowParallelLinear, QuantizedRowParallel)
    )


@pytest.mark.parametrize("kind", ["ptq", "qat"])
def test_a_user_s_layers_are_replaced_by_the_user_s_quantized_ones(kind):
    torch.manual_seed(0)
    model, x = Sharded(), images(32, 8)
    expected = model(x)
    if kind == "qat":
        front = QAT(sharded())
        made = front.quantize(model)
        made(x)
    else:
        config = QuantConfig(LayerSettings(activation="minmax"))
        config.qat_layers.update(sharded().qat_layers)
        front = PTQ(config)
        made = front.quantize(model.eval())
        torch.testing.assert_close(made(x), expected)
    assert type(made.column) is QuantizedColumnParallel and type(made.row) is QuantizedRowParallel
    found = encodings(made)
    assert found.keys() == {"column", "row", "out"}
    assert found["row"]["weight_quantizer"].scale.shape == (8,) and found["row"]["weight_quantizer"].axis == 0
    with torch.no_grad():
        after = made.eval()(x)
        converted = front.convert(made)
        assert isinstance(converted.row.weight_quantizer, FixedQuantizer)
        if kind == "qat":
            torch.testing.assert_close(converted(x), after)
            assert made.state_dict().keys() >= model.state_dict().keys()
        difference = (converted(x) - expected).norm() / expected.norm()
    assert 0 < difference < 0.1


class Standardized(nn.Conv2d):
    """A convolution whose weight has mean 0 and variance 1 for each output."""

    def forward(self, x):
        return self._conv_forward(x, standardized(self.weight), self.bias)


def standardized(weight):
    centred = weight - weight.mean((1, 2, 3), keepdim=True)
    return centred / (centred.pow(2).mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()


class QuantizedStandardized(QuantizedConv2d):
    def folded_weight(self):
        return standardized(self.weight)


@pytest.mark.parametrize("kind", ["ptq", "qat"])
def test_a_layer_says_which_weight_it_quantizes(kind):
    torch.manual_seed(0)
    model, x = nn.Sequential(Standardized(3, 8, 3), nn.ReLU(), Standardized(8, 4, 3)), images()
    expected = model(x)
    config = QuantConfig(LayerSettings(activation="minmax" if kind == "ptq" else "moving-average-absmax"))
    config.add_qat_layer_mapping(Standardized, QuantizedStandardized)
    front = PTQ(config) if kind == "ptq" else QAT(config)
    made = front.quantize(model.train(kind == "qat"))
    made(x)
    with torch.no_grad():
        for found in (made.eval()(x), front.convert(made)(x)):
            assert 0 <= (found - expected).norm() / expected.norm() < 0.05


def test_without_a_mapping_they_are_named():
    with pytest.warns(QuantizationWarning) as told:
        made = QAT(settings()).quantize(Sharded())
    assert {name for name, _ in quantized_modules(made)} == {"out"}
    assert ["column.weight among them" in str(told[0].message), "row.weight among them" in str(told[1].message)] == [
        True
    ] * 2


class NoModule:
    def __init__(self, layer, input_quantizer, weight_quantizer):
        pass


class Forgetful(nn.Module):
    def __init__(self, layer, input_quantizer, weight_quantizer):
        super().__init__()
        self.weight = layer.weight


@pytest.mark.parametrize(
    "source, target, message",
    [
        (
            RowParallelLinear,
            Forgetful,
            "Forgetful, which takes the place of RowParallelLinear, has no module input_quantizer",
        ),
        (nn.ReLU, Forgetful, "a ReLU, has no attribute weight to quantize"),
        (RowParallelLinear, nn.ReLU, "cannot be made .*: let its constructor take the layer, input_quantizer and"),
        (RowParallelLinear, NoModule, "NoModule, which takes the place of RowParallelLinear, is no torch.nn.Module"),
    ],
)
@pytest.mark.filterwarnings("ignore::trtcal.qat.plan.QuantizationWarning")
def test_a_mapping_that_does_not_work_is_refused(source, target, message):
    model = nn.Sequential(RowParallelLinear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(ModelError, match=message):
        QAT(settings().add_qat_layer_mapping(source, target)).quantize(model)
