"""Quantizers: where their ranges begin, with the first batch or weight, and without."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.encoding import Encoding
from calibrators.errors import DataError, ModelError, RangeError
from calibrators.grid import TENSORRT_INT8
from calibrators.ranges import range_of
from calibrators.statistics.tensor import TensorStatistics
from calibrators.weights import SMALLEST_SCALE, weight_encoding
from tests.trtcal.qat.quantizing import ASYMMETRIC, INT4, UINT4, WEIGHTS4, activation, normal, weight
from trtcal.config.quantizer_names import TRAINED_ACTIVATIONS, TRAINED_WEIGHTS
from trtcal.qat import functional
from trtcal.qat.quantizers import PACT, WEIGHT_QUANTIZERS, LSQPlus


def test_lsq_begins_as_the_paper_says():
    x = normal()
    quantizer = activation("lsq", TENSORRT_INT8)
    quantizer(x)
    assert quantizer.step.item() == pytest.approx(2 * x.abs().mean().item() / math.sqrt(127), rel=1e-6)
    quantizer(100 * x)
    assert quantizer.step.item() == pytest.approx(2 * x.abs().mean().item() / math.sqrt(127), rel=1e-6)
    unsigned = activation("lsq", UINT4)
    unsigned(x.relu())
    assert unsigned.step.item() == pytest.approx(2 * x.relu().mean().item() / math.sqrt(15), rel=1e-6)
    w = normal(5, 4, 3, 3)
    of_weight = weight("lsq", w.shape)
    of_weight(w)
    expected = 2 * w.abs().flatten(1).mean(1) / math.sqrt(7)
    torch.testing.assert_close(of_weight.step.detach(), expected)


@pytest.mark.parametrize("axis, count", [(None, 5 * 4 * 9), (0, 4 * 9), (1, 5 * 9)])
def test_the_step_of_a_weight_has_the_paper_s_gradient_scale(axis, count):
    w = normal(5, 4, 3, 3)
    quantizer = weight("lsq", w.shape, axis)
    quantizer(w).sum().backward()
    plain = quantizer.step.detach().clone().requires_grad_()
    functional.lsq(w, plain, -7, 7, axis=axis).sum().backward()
    torch.testing.assert_close(quantizer.step.grad, plain.grad / math.sqrt(count * 7))


def test_the_step_of_an_activation_counts_the_values_of_a_sample():
    x = normal()
    quantizer = activation("lsq", INT4)
    quantizer(x).sum().backward()
    plain = quantizer.step.detach().clone().requires_grad_()
    functional.lsq(x, plain, -8, 7).sum().backward()
    torch.testing.assert_close(quantizer.step.grad, plain.grad / math.sqrt(3 * 6 * 6 * 7))


def test_lsq_plus_begins_where_the_first_batches_have_the_least_squared_error():
    batches = [normal(seed=seed).relu() * (seed + 1) - 0.1 for seed in range(6)]
    for grid in (TENSORRT_INT8, INT4, ASYMMETRIC, UINT4):
        quantizer = activation("lsq+", grid)
        for batch in batches:
            quantizer(batch)
        seen = TensorStatistics.of(*(batch.numpy() for batch in batches[: LSQPlus.first_batches]))
        expected = Encoding.of_range(range_of(seen, "mse", grid), grid)
        found = quantizer.encoding()
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-6)
        assert found.zero_point == expected.zero_point
        assert (quantizer.offset is None) == grid.symmetric


def test_lsq_plus_begins_a_weight_as_the_paper_says():
    w = normal(5, 4, 3, 3)
    quantizer = weight("lsq+", w.shape)
    quantizer(w)
    torch.testing.assert_close(quantizer.step.detach(), functional.lsq_plus_weight_scale(w, 4, axis=0))
    assert quantizer.offset is None


def test_pact_begins_where_nothing_is_clipped_or_where_it_is_told():
    x = normal().relu()
    quantizer = activation("pact", UINT4)
    quantizer(x)
    assert quantizer.alpha.item() == x.max().item()
    assert quantizer.scale().item() == pytest.approx(x.max().item() / 15)
    told = PACT(UINT4, alpha=10.0)
    told(x)
    assert told.alpha.item() == 10.0
    assert told.penalty().item() == 100.0
    told.penalty().backward()
    assert told.alpha.grad.item() == 20.0


def test_a_learned_range_begins_at_the_whole_range():
    x = normal()
    quantizer = activation("learned-range", ASYMMETRIC)
    quantizer(x)
    assert (quantizer.low.item(), quantizer.high.item()) == (x.min().item(), x.max().item())
    symmetric = activation("learned-range", TENSORRT_INT8)
    symmetric(x)
    amax = x.abs().max().item()
    assert symmetric.high.item() == amax and symmetric.low.item() == pytest.approx(-amax * 128 / 127)
    assert symmetric.encoding() == Encoding.symmetric(amax)
    w = normal(5, 4, 3, 3)
    of_weight = weight("learned-range", w.shape)
    of_weight(w)
    np.testing.assert_allclose(of_weight.encoding().scale, weight_encoding(w, axis=0, grid=WEIGHTS4).scale, rtol=1e-6)


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_without_a_batch_there_is_no_range(name):
    quantizer = activation(name, TENSORRT_INT8)
    with pytest.raises(ModelError, match=r"the input of conv1 has no range yet: run a batch .* in training mode"):
        quantizer.eval()(normal())
    with pytest.raises(ModelError, match="the input of conv1 has no range yet: train the model first"):
        quantizer.encoding()
    quantizer.train().observing = False
    with pytest.raises(ModelError, match="observers enabled"):
        quantizer(normal())


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_a_batch_of_zeros_leaves_the_range_to_the_next(name):
    quantizer, x = activation(name, UINT4), normal().relu()
    assert not quantizer(torch.zeros(4, 4)).any()
    with pytest.raises(RangeError, match="the input of conv1 was 0 throughout"):
        quantizer.encoding()
    quantizer(x)
    fresh = activation(name, UINT4)
    fresh(x)
    if name != "moving-average-absmax":  # in which zeros count
        assert quantizer.encoding() == fresh.encoding()
    assert quantizer.encoding().scale > 0


@pytest.mark.parametrize("name", WEIGHT_QUANTIZERS)
def test_a_channel_of_zeros_begins_when_it_is_none_any_more(name):
    w = normal(5, 4, 3, 3)
    zeroed = w.clone()
    zeroed[2] = 0
    quantizer = weight(name, w.shape)
    result = quantizer(zeroed)
    assert not result[2].any()
    assert quantizer.encoding().scale[2] == np.float32(SMALLEST_SCALE)
    quantizer(w)
    fresh = weight(name, w.shape)
    fresh(w)
    assert quantizer.encoding() == fresh.encoding()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_a_first_batch_that_is_no_number_is_refused(name, value):
    x = normal()
    x[0, 0, 0, 0] = value
    with pytest.raises(DataError, match="the input of conv1 is NaN or infinite in the first batch"):
        activation(name, TENSORRT_INT8)(x)


@pytest.mark.parametrize("name", TRAINED_WEIGHTS)
def test_a_weight_that_is_no_number_is_refused(name):
    with pytest.raises(DataError, match="the weight of conv1 is NaN or infinite in the weight"):
        weight(name, (2, 2))(torch.full((2, 2), math.nan))
