"""Batch normalization in the weight before it: in training as without folding, afterwards as deployed."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn

from calibrators.errors import DataError, ModelError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS
from trtcal.qat.layers import bake_norms, fold_norms, quantized_class
from trtcal.qat.quantizers import LSQ, Absmax

PAIRS = {
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d, (8, 3, 6, 6)),
    "conv2d with bias": (lambda: nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d, (8, 4, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), nn.BatchNorm1d, (8, 3, 6)),
    "transpose2d": (lambda: nn.ConvTranspose2d(3, 4, 2, 2), nn.BatchNorm2d, (8, 3, 5, 5)),
    "linear": (lambda: nn.Linear(5, 4), nn.BatchNorm1d, (16, 5)),
}


def pair(name, **norm_options):
    torch.manual_seed(0)
    layer, norm, shape = PAIRS[name]
    model = nn.Sequential(layer(), norm(4, **norm_options))
    if model[1].affine:
        model[1].weight.data = torch.tensor([0.5, -1.2, 0.0, 2.0])
        model[1].bias.data = torch.tensor([0.1, 0.2, -0.3, 0.0])
    return model, torch.randn(shape)


def folded(model, *, quantizes=False, freeze_after=None):
    model = copy.deepcopy(model)
    kind = quantized_class(model[0])
    channels = model[0].weight.shape[kind.weight_axis]
    weight = Absmax(TENSORRT_WEIGHTS, of="weight", axis=kind.weight_axis, channels=channels)
    weight.enabled = quantizes
    given = LSQ(TENSORRT_INT8)
    given.enabled = quantizes
    model[0] = kind.from_float(model[0], input_quantizer=given, weight_quantizer=weight)
    fold_norms(model, {"0": "1"}, freeze_after=freeze_after)
    return model


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}, {"momentum": 0.3, "eps": 1e-2}])
@pytest.mark.parametrize("name", PAIRS)
def test_in_training_it_is_batch_normalization(name, options):
    """Unquantized: the same outputs, gradients and running statistics as of the layer and the normalization."""
    model, x = pair(name, **options)
    made = folded(model)
    for step in range(3):
        results, slopes = [], []
        for each in (model, made):
            each.zero_grad()
            given = (x + step).requires_grad_()
            result = each(given)
            (result**3).sum().backward()
            results.append(result)
            slopes.append([given.grad, *(p.grad for n, p in each.named_parameters() if "quantizer" not in n)])
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)
        if "0.bias" in dict(model.named_parameters()):  # whose gradient is 0, but for rounding
            slopes = [[g for (n, _), g in zip(named(model), s, strict=True) if n != "0.bias"] for s in slopes]
        for one, other in zip(*slopes, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)
    buffers = dict(made.named_buffers())
    for key, value in model.named_buffers():
        torch.testing.assert_close(buffers[key], value)


def named(model):
    return [("x", None), *model.named_parameters()]


@pytest.mark.parametrize("name", PAIRS)
def test_in_evaluation_and_when_frozen_it_has_the_running_statistics(name):
    model, x = pair(name)
    for _ in range(3):
        model(x)
    made = folded(model, freeze_after=0)
    before = copy.deepcopy(made[1].state_dict())
    torch.testing.assert_close(made.train()(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.eval()(x), model(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in made[1].named_buffers())


def test_it_freezes_after_so_many_steps_of_training():
    model, x = pair("conv2d")
    made = folded(model, freeze_after=2)
    seen = []
    for _ in range(4):
        made(x)
        seen.append(made[1].running_mean.clone())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2]) and torch.equal(seen[2], seen[3])
    assert made[1].steps == 2 and made[1].num_batches_tracked == 2
    made.eval()(x)
    assert made[1].steps == 2


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_quantized_is_the_weight_as_deployed(name):
    model, x = pair(name)
    for _ in range(3):
        model(x)
    made = folded(model, quantizes=True)
    made(x)
    norm, layer = made[1], made[0]
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shape = [-1 if axis == type(layer).weight_axis else 1 for axis in range(layer.weight.dim())]
    torch.testing.assert_close(layer.folded_weight(), layer.weight * factor.reshape(shape))
    expected = made.eval()(x)
    encoding = layer.weight_encoding()
    bake_norms(made)
    assert isinstance(made[1], nn.Identity) and layer.norm is None and layer.bias is not None
    assert layer.weight_encoding() == encoding
    torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_training_takes_one_product_whose_statistics_are_the_batch_s(name, monkeypatch):
    model, x = pair(name)
    made = folded(model, quantizes=True)
    made(x)
    layer, norm = made[0], made[1]
    products = []
    product = layer.product
    monkeypatch.setattr(layer, "product", lambda *given: products.append(given) or product(*given))
    before, mean, variance = norm.factor(), norm.running_mean.clone(), norm.running_var.clone()
    result = made(x)
    assert len(products) == 1
    axis = type(layer).weight_axis
    factor = before.reshape([-1 if each == axis else 1 for each in range(layer.weight.dim())])
    weight = layer.weight_quantizer(layer.weight * factor) / factor
    weight = torch.where(factor == 0, layer.weight, weight)
    raw = product(layer.input_quantizer(x), weight, layer.bias)
    expected = nn.functional.batch_norm(raw, mean, variance, norm.weight, norm.bias, training=True)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_through_weights_of_8_bits_are_near_those_of_batch_normalization(name):
    model, x = pair(name)
    model(x)
    made = folded(model, quantizes=True)
    made[0].input_quantizer.enabled = False
    slopes = []
    for each in (model, made):
        each.zero_grad()
        (each(x) ** 3).sum().backward()
        slopes.append([p.grad for n, p in each.named_parameters() if "quantizer" not in n and n != "0.bias"])
    for float_one, quantized in zip(*slopes, strict=True):
        assert (float_one - quantized).norm() < 0.03 * float_one.norm()


@pytest.mark.parametrize("small", [0.0, 1e-4])
def test_a_channel_of_which_quantization_leaves_nothing_keeps_the_statistics_of_its_float_weight(small):
    """Else they would be 0, and the factor that is folded would grow without bounds."""
    model, x = pair("conv2d")
    model[1].weight.data = torch.tensor([small, 1.0, 1.0, 1.0])
    made = folded(model)
    made[0].weight_quantizer = Absmax(TENSORRT_WEIGHTS, of="weight")
    for _ in range(20):
        result = made(x)
    (result * torch.randn_like(result)).sum().backward()
    assert not made[0].weight_quantizer(made[0].folded_weight())[0].any()
    assert all(bool(torch.isfinite(each.grad).all()) for each in (*made[0].parameters(), *made[1].parameters()))
    assert made[1].weight.grad[0] != 0
    for _ in range(20):
        model(x)
    torch.testing.assert_close(made[1].running_var[0], model[1].running_var[0])
    torch.testing.assert_close(made[1].running_mean, model[1].running_mean, rtol=0.05, atol=0.01)


def test_training_through_quantized_and_folded_weights_learns():
    model, x = pair("conv2d")
    torch.manual_seed(1)
    target = torch.randn(8, 4, 4, 4)
    for freeze_after in (None, 0, 20):
        made = folded(model, quantizes=True, freeze_after=freeze_after)
        optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
        losses = []
        for _ in range(60):
            loss = ((made(x) - target) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.75 * losses[0]


def test_its_state_is_that_of_batch_normalization_and_the_steps():
    model, x = pair("conv2d")
    made = folded(model)
    made(x)
    made(x)
    fresh = folded(model)
    fresh.load_state_dict(made.state_dict())
    assert fresh[1].steps == 2
    torch.testing.assert_close(fresh.eval()(x), made.eval()(x))
    fresh.load_state_dict(model.state_dict())  # the float model's, strictly
    assert fresh[1].steps == 0
    torch.testing.assert_close(fresh(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_a_copy_folds_its_own():
    made = folded(pair("conv2d")[0])
    other = copy.deepcopy(made)
    assert other[0].norm is other[1] and other[1] is not made[1]


def test_one_value_per_channel_is_too_few():
    made = folded(pair("linear")[0])
    with pytest.raises(
        DataError, match=r"one value per channel in a batch of shape \(1, 5\): train with larger batches"
    ):
        made(torch.ones(1, 5))


@pytest.mark.parametrize("baked", [False, True])
def test_a_linear_layer_s_normalization_wants_a_matrix(baked):
    """`nn.BatchNorm1d` works on axis 1, which is not that of the features where there are three axes."""
    made = folded(pair("linear")[0])
    if baked:
        bake_norms(made)
    with pytest.raises(ModelError, match=r"folded into it, but its input of shape .* is no matrix"):
        made(torch.ones(2, 4, 5))


def test_autocast_keeps_statistics_in_float32():
    model, x = pair("conv2d")
    made = folded(model, quantizes=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = made(x)
    assert result.dtype == torch.bfloat16 and made[1].running_var.dtype == torch.float32
    other = folded(model, quantizes=True)
    torch.testing.assert_close(result.float(), other(x), atol=0.1, rtol=0.1)
    torch.testing.assert_close(made[1].running_var, other[1].running_var, atol=0.01, rtol=0.01)
