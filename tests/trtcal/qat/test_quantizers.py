"""Quantizers: what they learn, their switches, their state, the encoding that they stand for."""

import copy
import io
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.encoding import Encoding
from calibrators.errors import ModelError, RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS
from calibrators.weights import weight_encoding
from tests.trtcal.qat.quantizing import ASYMMETRIC, INT4, UINT4, WEIGHTS4, activation, normal, weight
from trtcal.config.quantizer_names import TRAINED_ACTIVATIONS, TRAINED_WEIGHTS
from trtcal.qat.quantizer import FixedQuantizer, Follower
from trtcal.qat.quantizers import (
    ACTIVATION_QUANTIZERS,
    LSQ,
    PACT,
    WEIGHT_QUANTIZERS,
    Absmax,
    LearnedRange,
    LSQPlus,
    MovingAverageAbsmax,
)


def test_the_names_are_those_that_a_configuration_knows():
    assert tuple(ACTIVATION_QUANTIZERS) == TRAINED_ACTIVATIONS
    assert set(WEIGHT_QUANTIZERS) == {"absmax", *TRAINED_WEIGHTS}


@pytest.mark.parametrize("grid", [TENSORRT_INT8, INT4, UINT4, ASYMMETRIC])
@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
@pytest.mark.parametrize("signed", [True, False])
def test_an_activation_is_quantized_as_its_encoding_says(name, grid, signed):
    quantizer, x = activation(name, grid), normal()
    x = x if signed else x.relu()
    for _ in range(5):
        result = quantizer(x)
    quantizer.eval()
    x = 1.7 * x + (0.3 if signed else 0.0)
    result = quantizer(x)
    encoding = quantizer.encoding()
    assert encoding.grid == grid and encoding.axis is None
    np.testing.assert_array_equal(result.detach().numpy(), encoding.fake_quantize(x.numpy()))
    if not signed and not grid.symmetric:
        assert encoding.zero_point == grid.minimum  # all levels are used


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("name", WEIGHT_QUANTIZERS)
def test_a_weight_is_quantized_as_its_encoding_says(name, axis):
    w = normal(5, 4, 3, 3)
    quantizer = weight(name, w.shape, axis)
    result = quantizer.eval()(w)
    encoding = quantizer.encoding(w)
    assert encoding.axis == axis and encoding.grid == WEIGHTS4
    np.testing.assert_array_equal(result.detach().numpy(), encoding.fake_quantize(w.numpy()))


def test_the_moving_average_weighs_batches_by_their_age():
    quantizer = MovingAverageAbsmax(TENSORRT_INT8, rate=0.9)
    largest = [1.0, 3.0, 2.0]
    for value in largest:
        quantizer(torch.tensor([[0.1, -value]]))
    expected = (2.0 + 0.9 * 3.0 + 0.81 * 1.0) / (1 + 0.9 + 0.81)
    assert quantizer.scale().item() == pytest.approx(expected / 127)
    quantizer.eval()(torch.full((1, 2), 50.0))
    assert quantizer.scale().item() == pytest.approx(expected / 127)
    quantizer.train().observing = False
    quantizer(torch.full((1, 2), 50.0))
    assert quantizer.scale().item() == pytest.approx(expected / 127)
    assert not list(quantizer.parameters())


def test_absmax_follows_the_weight_until_it_is_told_not_to():
    w = normal(5, 4, 3, 3)
    quantizer = weight("absmax", w.shape)
    quantizer(w)
    assert quantizer.encoding() == weight_encoding(w, axis=0, grid=WEIGHTS4)
    quantizer(2 * w)
    assert quantizer.encoding() == weight_encoding(2 * w, axis=0, grid=WEIGHTS4)
    assert quantizer.encoding(3 * w) == weight_encoding(3 * w, axis=0, grid=WEIGHTS4)
    quantizer.observing = False
    quantizer(5 * w)
    assert quantizer.encoding() == weight_encoding(3 * w, axis=0, grid=WEIGHTS4)


@pytest.mark.parametrize("name", ["lsq", "lsq+", "pact", "learned-range"])
def test_a_range_that_training_has_lost_is_told_of(name):
    quantizer = activation(name, TENSORRT_INT8)
    quantizer(normal())
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.zero_()
    with pytest.raises(
        ModelError, match=r"the scale of the input of conv1 has become .*: train with a lower learning rate"
    ):
        quantizer.encoding()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(ModelError, match="has become nan"):
        quantizer.encoding()


@pytest.mark.parametrize("name", ["lsq", "lsq+", "pact"])
def test_an_update_larger_than_the_step_does_not_clip_everything(name):
    quantizer = activation(name, TENSORRT_INT8)
    x = normal()
    for _ in range(quantizer.first_batches):
        quantizer(x)
    quantizer(x).square().sum().backward()
    learned = next(quantizer.parameters())
    first = learned.item()
    torch.optim.SGD([learned], lr=1.5 * first / learned.grad.item()).step()
    assert learned.item() == pytest.approx(-first / 2)
    result = quantizer(x)
    assert float((result != 0).float().mean()) > 0.9
    np.testing.assert_array_equal(result.detach().numpy(), quantizer.encoding().fake_quantize(x.numpy()))


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
@pytest.mark.parametrize("batches", [0, 1, 5])
def test_a_state_dict_goes_around_before_and_after_the_first_batch(name, batches):
    quantizer = activation(name, ASYMMETRIC)
    for seed in range(batches):
        quantizer(normal(seed=seed).relu())
    quantizer.observing = False
    file = io.BytesIO()
    torch.save(quantizer.state_dict(), file)
    file.seek(0)
    fresh = activation(name, ASYMMETRIC)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert not fresh.observing
    for each in (fresh, copy.deepcopy(quantizer)):
        assert each.started == (batches > 0)
        if batches:
            assert each.encoding() == quantizer.encoding()
        else:
            each.observing = True
            each(normal())
            assert each.started


@pytest.mark.parametrize("name", WEIGHT_QUANTIZERS)
def test_a_weight_s_range_begins_anew_with_a_float_model_s_weight(name):
    quantizer = weight(name, (5, 4))
    quantizer(normal(5, 4))
    quantizer.load_state_dict({})  # nothing of it, as in the float model's
    other = 3 * normal(5, 4, seed=1)
    quantizer(other)
    fresh = weight(name, (5, 4))
    fresh(other)
    assert quantizer.encoding() == fresh.encoding()


def test_what_is_missing_of_a_quantizer_s_own_state_is_an_error():
    quantizer = activation("lsq+", ASYMMETRIC)
    state = quantizer.state_dict()
    del state["offset"]
    with pytest.raises(RuntimeError, match="offset"):
        activation("lsq+", ASYMMETRIC).load_state_dict(state)


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_a_disabled_quantizer_passes_values_and_gives_its_parameters_zero_gradients(name):
    quantizer, x = activation(name, INT4), normal().requires_grad_()
    quantizer(x)
    quantizer.enabled = False
    result = quantizer(x)
    assert torch.equal(result, x)
    result.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert all(torch.equal(each.grad, torch.zeros_like(each)) for each in quantizer.parameters())


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_autocast_and_half_precision_change_neither_range_nor_grid(name):
    x = normal().bfloat16()
    quantizer, plain = activation(name, TENSORRT_INT8), activation(name, TENSORRT_INT8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantizer(x)
    expected = plain(x.float())
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16())
    assert quantizer.encoding() == plain.encoding()
    assert all(each.dtype == torch.float32 for each in quantizer.parameters())


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding.symmetric(3.0),
        Encoding(np.array([0.1, 0.2], np.float32), np.array([3, -4]), ASYMMETRIC, 1),
    ],
)
def test_a_fixed_quantizer_does_what_its_encoding_does(encoding):
    quantizer, x = FixedQuantizer(encoding), normal(4, 2)
    assert quantizer.encoding() == encoding
    np.testing.assert_array_equal(quantizer(x).numpy(), encoding.fake_quantize(x.numpy()))
    fresh = FixedQuantizer(encoding)
    fresh.load_state_dict(quantizer.state_dict())
    assert fresh.encoding() == encoding
    quantizer.enabled = False
    assert quantizer(x) is x


def test_blocks_are_not_simulated():
    blocks = Encoding(np.ones((2, 2), np.float32), np.zeros((2, 2)), axis=1, block_size=2)
    with pytest.raises(RangeError, match="scales by blocks"):
        FixedQuantizer(blocks, name="the weight of fc")


def test_learning_lowers_the_error():
    """Each learnable quantizer, trained for nothing but to give its input back, gets better than its beginning."""
    x = normal(64, 50)
    for kind in (LSQ, LSQPlus, PACT, LearnedRange):
        quantizer = kind(INT4)
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
        errors = []
        for _ in range(120):
            loss = ((quantizer(x) - x) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            errors.append(loss.item())
        best = min(
            ((Encoding.symmetric(a, INT4).fake_quantize(x.numpy()) - x.numpy()) ** 2).mean()
            for a in np.linspace(1, 5, 81)
        )
        assert errors[-1] <= errors[0] + 1e-6
        assert errors[-1] < 1.1 * best or kind is PACT  # PACT learns from what is clipped alone


def test_absmax_needs_no_training():
    assert not list(Absmax(TENSORRT_WEIGHTS, of="weight", axis=0, channels=3).parameters())


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_what_follows_takes_the_result_that_is_there_already(name):
    quantizer, x = activation(name, INT4), normal().requires_grad_()
    followers = [Follower(quantizer), Follower(quantizer)]
    results = [quantizer(x), *(each(x) for each in followers)]
    assert all(each is results[0] for each in results)
    assert followers[0](x) is not results[0]  # all have it: it is held no longer
    sum((each * factor).sum() for factor, each in enumerate(results, 1)).backward()
    found = [x.grad, *(each.grad for each in quantizer.parameters())]
    x.grad = None
    quantizer.zero_grad()
    sum((quantizer.passed(x) * factor).sum() for factor in (1, 2, 3)).backward()
    for one, other in zip(found, [x.grad, *(each.grad for each in quantizer.parameters())], strict=True):
        torch.testing.assert_close(one, other)


def test_what_follows_never_takes_a_result_of_other_values():
    quantizer, x = activation("lsq", INT4), normal()
    follower = Follower(quantizer)
    quantizer(x)
    assert torch.equal(follower(2 * x), quantizer.passed(2 * x))
    first = quantizer(x)
    x.mul_(2)
    assert torch.equal(follower(x), quantizer.passed(x)) and not torch.equal(follower(x), first)
    quantizer(x).data.zero_()
    changed = quantizer(x)
    with torch.no_grad():
        changed.zero_()
    assert torch.equal(follower(x), quantizer.passed(x))
    quantizer(x)
    with torch.no_grad():
        assert not follower(x).requires_grad
    with torch.inference_mode():
        assert torch.equal(quantizer(x), follower(x))
    quantizer(x)
    other = copy.deepcopy(follower)  # also where a result with gradients is held
    assert other.leader is not quantizer and torch.equal(other(x), follower(x))
