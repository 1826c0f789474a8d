"""Quantized layers compute what the float ones do, of a quantized input and weight, and are loaded like them."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn
from torch.nn import functional

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8
from calibrators.weights import weight_encoding
from trtcal.qat.layers import QUANTIZED, foldable, quantized_class, refusal
from trtcal.qat.observers import Observer, WeightObserver
from trtcal.qat.quantizer import FixedQuantizer

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

CASES = {
    "conv1d": (nn.Conv1d(3, 6, 3, 2, 1), (2, 3, 9)),
    "conv2d": (nn.Conv2d(4, 6, 3, padding="same", groups=2, bias=False), (2, 4, 7, 7)),
    "conv2d circular": (nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), (2, 3, 7, 7)),
    "conv2d depthwise, dilated": (nn.Conv2d(4, 4, 3, dilation=2, groups=4), (2, 4, 9, 9)),
    "conv3d": (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
    "transpose1d": (nn.ConvTranspose1d(3, 6, 3, 2), (2, 3, 5)),
    "transpose2d": (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1), (2, 4, 5, 5)),
    "transpose2d of groups": (nn.ConvTranspose2d(4, 6, 2, 2, groups=2, bias=False), (2, 4, 5, 5)),
    "transpose3d": (nn.ConvTranspose3d(2, 3, 2), (2, 2, 3, 3, 3)),
    "linear": (nn.Linear(5, 7), (2, 5)),
    "linear on three axes": (nn.Linear(5, 7, bias=False), (2, 3, 5)),
}


CASES["conv2d dilated, same"] = (nn.Conv2d(3, 4, (3, 4), dilation=2, padding="same"), (2, 3, 7, 7))
CASES["conv2d valid"] = (nn.Conv2d(3, 4, 3, padding="valid"), (2, 3, 7, 7))
CASES["conv2d even, same"] = (nn.Conv2d(3, 4, 2, padding="same"), (2, 3, 7, 7))
CASES["conv2d circular, same"] = (nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular"), (2, 3, 7, 7))


@pytest.mark.parametrize("place", [0, 1])
def test_nothing_is_folded_where_a_hook_sees_what_is_between(place):
    pair = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
    assert foldable(*pair)
    handle = pair[0].register_forward_pre_hook(print)
    assert foldable(*pair)
    handle.remove()
    pair[place].register_forward_hook(print)
    assert not foldable(*pair)


def test_complex_weights_are_refused():
    assert "of type torch.complex64, not floating point" in refusal(nn.Linear(2, 2, dtype=torch.complex64))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(layer, given, weight):
    return quantized_class(layer).from_float(layer, input_quantizer=given, weight_quantizer=weight)


@pytest.mark.parametrize("name", CASES)
def test_observed_it_computes_exactly_what_the_float_layer_does(name):
    layer, shape = CASES[name]
    made, x = quantized(layer, Observer(), WeightObserver()), normal(*shape)
    assert torch.equal(made(x), layer(x))
    assert made.input_quantizer.statistics().samples == 2
    assert isinstance(made, type(layer)) and made.weight is layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        assert torch.equal(made(x, output_size=layer(x).shape[2:]), layer(x))
        assert torch.equal(made(x, layer(x).shape[2:]), layer(x))


@pytest.mark.parametrize("name", CASES)
def test_quantized_it_is_the_float_layer_of_a_quantized_input_and_weight(name):
    layer, shape = CASES[name]
    x = normal(*shape)
    axis = 1 if "transpose" in name else 0
    of_weight = weight_encoding(layer.weight.detach().numpy(), axis=axis)
    assert len(of_weight.scale) == layer.weight.shape[axis]
    of_input = Encoding.symmetric(1.5)
    made = quantized(layer, FixedQuantizer(of_input), FixedQuantizer(of_weight))
    expected = copy.deepcopy(layer)
    expected.weight.data = torch.from_numpy(of_weight.fake_quantize(layer.weight.detach().numpy()))
    torch.testing.assert_close(made(x), expected(torch.from_numpy(of_input.fake_quantize(x.numpy()))))
    assert made.weight_encoding() == of_weight
    assert type(made).weight_axis == axis


@pytest.mark.parametrize("name", CASES)
def test_parameters_keep_their_names_and_hooks_their_place(name):
    layer = copy.deepcopy(CASES[name][0])
    called = []
    layer.register_forward_hook(lambda *_: called.append("hook"))
    made = quantized(layer, Observer(), WeightObserver())
    assert {key for key, _ in made.named_parameters()} == {key for key, _ in layer.named_parameters()}
    made(normal(*CASES[name][1]))
    assert called == ["hook"]
    assert "input_quantizer" not in layer._modules  # the float layer is as it was


def test_every_quantized_class_is_derived_from_its_float_one():
    for base, made in QUANTIZED.items():
        assert issubclass(made, base)


class Same(nn.Conv2d):
    pass


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Standardized(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


def test_derived_classes_are_taken_if_they_compute_the_same():
    same = Same(3, 4, 1)
    x = normal(2, 3, 5, 5)
    assert refusal(same) == ""
    assert torch.equal(quantized(same, Observer(), WeightObserver())(x), same(x))
    for kind in (Scaled, Standardized):
        assert "computes something else than Conv2d: map its class" in refusal(kind(3, 4, 1))


def test_what_is_no_layer_is_told_from_what_is_not_known():
    for harmless in (
        nn.ReLU(),
        nn.BatchNorm2d(3),
        nn.LayerNorm((3, 3)),
        nn.Embedding(3, 4),
        nn.Sequential(),
        nn.PReLU(),
    ):
        assert refusal(harmless) is None
    for unknown in (nn.LSTM(3, 4), nn.Bilinear(2, 2, 2)):
        assert f"{type(unknown).__name__} is no layer that is known: map its class" in refusal(unknown)
    for closed in (nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2)):
        assert f"what is in {type(closed).__name__} cannot be reached: write it with nn.Linear" in refusal(closed)
    parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    assert "remove_parametrizations" in refusal(parametrized)
    assert "run the model once" in refusal(nn.LazyConv2d(4, 1))


def test_what_can_be_folded():
    conv, norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
    assert foldable(conv, norm)
    assert foldable(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert foldable(nn.ConvTranspose2d(3, 4, 1), norm)
    assert not foldable(conv, nn.BatchNorm2d(5))
    assert not foldable(conv, nn.BatchNorm2d(4, track_running_stats=False))
    assert not foldable(conv, nn.SyncBatchNorm(4))
    assert not foldable(conv, nn.InstanceNorm2d(4))
    assert not foldable(nn.ConvTranspose2d(4, 4, 1, groups=2), norm)
    assert not foldable(Scaled(3, 4, 1), norm)
    assert not foldable(nn.ReLU(), norm)


def test_a_layer_under_autocast_is_computed_in_half_precision():
    layer = nn.Conv2d(3, 4, 3)
    made = quantized(layer, FixedQuantizer(Encoding.symmetric(3.0)), FixedQuantizer(Encoding.symmetric(0.2)))
    x = normal(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = made(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), made(x), atol=0.05, rtol=0.05)


def test_the_grid_is_tensorrt_s():
    x = normal(2, 5)
    made = quantized(nn.Linear(5, 7), FixedQuantizer(Encoding.symmetric(1.0)), FixedQuantizer(Encoding.symmetric(1.0)))
    levels = np.unique(np.rint(made.input_quantizer(100 * x).numpy() * 127))
    assert (levels.min(), levels.max()) == (TENSORRT_INT8.minimum, TENSORRT_INT8.maximum)
    assert functional.linear(made.input_quantizer(x), made.weight_quantizer(made.weight), made.bias).equal(made(x))
