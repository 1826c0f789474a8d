"""Observers: the statistics of `calibrators`, sample by sample, whatever the batches and the type."""

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.encoding import Encoding
from calibrators.errors import DataError, RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.ranges import METHODS, range_of
from calibrators.statistics.tensor import TensorStatistics
from calibrators.weights import weight_encoding
from trtcal.qat.observers import Observer, WeightObserver


def samples(count=6, *shape, seed=0):
    return torch.randn(count, *(shape or (3, 5)), generator=torch.Generator().manual_seed(seed))


def observed(observer, x, size):
    for batch in x.split(size):
        observer._axes.size, observer._axes.run = len(batch), observer._axes.run + 1
        assert observer(batch) is batch
    return observer


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_statistics_are_those_of_the_samples_however_they_are_batched(size):
    x = samples()
    found = observed(Observer(), x, size).statistics()
    assert found == TensorStatistics.of(*x.numpy())
    assert found.samples == 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_count_as_the_float32_that_they_are(dtype):
    x = samples().to(dtype)
    assert observed(Observer(), x, 3).statistics() == TensorStatistics.of(*x.float().numpy())


@pytest.mark.parametrize("method", [*METHODS, "absmax", "percentile:99.5"])
@pytest.mark.parametrize(
    "grid", [TENSORRT_INT8, Grid(4), Grid(8, symmetric=False), Grid(4, signed=False, symmetric=False)]
)
def test_any_method_gives_the_range_that_it_gives_elsewhere(method, grid):
    x = samples(4, 200).relu()
    observer = observed(Observer(method, grid), x, 4)
    expected = range_of(TensorStatistics.of(*x.numpy()), method, grid)
    assert observer.range() == expected
    assert observer.encoding() == Encoding.of_range(expected, grid)


def test_what_is_switched_off_does_not_count():
    observer = Observer()
    observer.observing = False
    observer(samples())
    assert observer.statistics().samples == 0
    with pytest.raises(DataError, match="was not calibrated: run data through the model"):
        observer.range()


@pytest.mark.parametrize("value, word", [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_what_is_no_number_is_refused_with_the_tensor_and_the_sample(value, word):
    x = samples()
    x[4, 1, 1] = value
    with pytest.raises(DataError, match=f"the input of conv1 is {word} for sample 1 of batch 1"):
        observed(Observer(name="the input of conv1"), x, 3)


def test_a_batch_that_is_refused_does_not_count_and_those_before_it_do():
    x, spoilt = samples(), samples()
    spoilt[1, 1, 1] = float("nan")
    observer = observed(Observer(), x, 3)
    with pytest.raises(DataError, match="NaN"):
        observed(observer, spoilt, 3)
    assert observer.statistics() == TensorStatistics.of(*x.numpy())


def test_a_batch_without_samples_is_none():
    observer = observed(Observer(), samples()[:0], 1)
    assert observer.statistics() == TensorStatistics.empty()


def test_an_unknown_method_is_refused_at_once():
    with pytest.raises(RangeError, match="no range method 'entropie'"):
        Observer("entropie")
    with pytest.raises(RangeError, match="no weight method 'lsq'"):
        WeightObserver("lsq")


def test_statistics_survive_a_state_dict_a_copy_and_go_on_from_there():
    x = samples()
    observer = observed(Observer(), x[:4], 4)
    file = io.BytesIO()
    torch.save(observer.state_dict(), file)
    file.seek(0)
    fresh = Observer()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for each in (fresh, copy.deepcopy(observer)):
        assert observed(each, x[4:], 1).statistics() == TensorStatistics.of(*x.numpy())
    assert observer.statistics().samples == 4


def test_an_empty_observer_has_a_state_dict_too():
    fresh = Observer()
    fresh.load_state_dict(Observer().state_dict())
    assert fresh.statistics() == TensorStatistics.empty()


@pytest.mark.parametrize("method", ["absmax", "mse"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_have_the_encoding_of_calibrators(method, axis):
    weight = samples(4, 3, 5)
    observer = WeightObserver(method, TENSORRT_WEIGHTS, axis=axis)
    assert observer(weight) is weight
    expected = weight_encoding(weight.numpy(), axis=axis, method=method)
    assert observer.encoding(weight) == observer.encoding() == expected


def test_a_weight_that_is_no_number_is_named():
    with pytest.raises(DataError, match="the weight of fc: a weight is NaN"):
        WeightObserver(name="the weight of fc").encoding(torch.full((2, 2), np.nan))
    with pytest.raises(DataError, match="the weight of fc was not seen"):
        WeightObserver(name="the weight of fc").encoding()
