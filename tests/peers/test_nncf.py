"""NNCF's statistics, on its NumPy backend."""

import numpy as np
import pytest

from calibrators.encoding import Encoding
from calibrators.range import Range
from calibrators.ranges import range_of
from calibrators.statistics.tensor import TensorStatistics
from calibrators.weights import weight_encoding
from tests.peers.installed import differs, needed
from tests.peers.tensors import DRAWN, NAMES, UNSIGNED, activations, error_of, our_amax, ours, tensor

collectors = needed("nncf", "nncf.common.tensor_statistics.collectors")
statistics = needed("nncf", "nncf.common.tensor_statistics.statistics")
structs = needed("nncf", "nncf.common.quantization.structs")
fake = needed("nncf", "nncf.quantization.fake_quantize")
Tensor = needed("nncf", "nncf.tensor").Tensor
as_read = differs("nncf", read="3.4.0")


def reduced(reducer, aggregator, samples) -> float:
    """A statistic of each sample, then one of all."""
    for sample in samples:
        aggregator.register_reduced_input(reducer([Tensor(sample)])[0])
    return float(np.asarray(aggregator.aggregate().data).item())


def parameters(low, high, *, symmetric=True, per_channel=False, narrow=False):
    """The ends that they make of a smallest and a largest value."""
    mode = structs.QuantizationScheme.SYMMETRIC if symmetric else structs.QuantizationScheme.ASYMMETRIC
    config = structs.QuantizerConfig(num_bits=8, mode=mode, per_channel=per_channel, narrow_range=narrow)
    ends = statistics.MinMaxTensorStatistic(
        min_values=Tensor(np.asarray(low, np.float32)), max_values=Tensor(np.asarray(high, np.float32))
    )
    group = structs.QuantizerGroup.WEIGHTS if per_channel else structs.QuantizerGroup.ACTIVATIONS
    found = fake.calculate_quantizer_parameters(ends, config, group)
    return np.asarray(found.input_low.data), np.asarray(found.input_high.data), found.levels


@pytest.mark.parametrize("name", NAMES)
def test_minimum_and_maximum(name: str) -> None:
    values = tensor(name)
    low = reduced(collectors.MinReducer(), collectors.MinAggregator(), values)
    high = reduced(collectors.MaxReducer(), collectors.MaxAggregator(), values)
    assert ours(values, "minmax", UNSIGNED) == (min(low, 0), max(high, 0))


@pytest.mark.parametrize("name", activations())
def test_means_over_samples(name: str) -> None:
    """Theirs adds up float32."""
    values = tensor(name)
    low = reduced(collectors.MinReducer(), collectors.MeanAggregator(), values)
    high = reduced(collectors.MaxReducer(), collectors.MeanAggregator(), values)
    absolute = reduced(collectors.AbsMaxReducer(), collectors.MeanAggregator(), values)
    collected = TensorStatistics.of(*values)
    found = range_of(collected, "mean", UNSIGNED)
    assert range_of(collected, "mean").amax == pytest.approx(absolute, rel=1e-6)
    if (values.min(tuple(range(1, values.ndim))) <= 0).all():
        assert (found.minimum, found.maximum) == (pytest.approx(low, rel=1e-6), pytest.approx(max(high, 0), rel=1e-6))


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("name", NAMES)
def test_percentiles_are_the_same_to_one_of_our_bins(name: str, percent: float) -> None:
    values, width = tensor(name), float(np.abs(tensor(name)).max()) / 4096
    low, high = collectors.QuantileReducer(quantile=(1 - percent / 100, percent / 100))([Tensor(values)])
    (absolute,) = collectors.AbsQuantileReducer(quantile=(percent / 100,))([Tensor(values)])
    expected = min(np.asarray(low.data).item(), 0), max(np.asarray(high.data).item(), 0)
    assert ours(values, f"percentile:{percent}", UNSIGNED) == pytest.approx(expected, abs=width)
    assert our_amax(values, f"percentile:{percent}") == pytest.approx(np.asarray(absolute.data).item(), abs=width)


@as_read
@pytest.mark.parametrize(
    ("name", "ends", "better"), [("laplace", (-9.992759, 11.938153), 0.0767), ("relu", (0, 4.729647), 0.0232)]
)
def test_their_histogram_stops_at_the_first_step_that_is_no_better(name, ends, better) -> None:
    """It cuts off 0.001 % at a time; ours looks at the whole of either end."""
    values = DRAWN[name]
    aggregator = collectors.HistogramAggregator()
    aggregator.register_reduced_input(Tensor(values))
    found = aggregator.aggregate()
    low, high = (np.asarray(found[key].data).item() for key in ("min_values", "max_values"))
    assert (low, high) == pytest.approx(ends, abs=1e-5)
    encodings = [Encoding.of_range(Range(*each), UNSIGNED) for each in ((low, high), ours(values, "mse", UNSIGNED))]
    of_theirs, of_ours = (error_of(values, each) for each in encodings)
    assert 1 - of_ours / of_theirs == pytest.approx(better, abs=0.002)


@pytest.mark.parametrize("name", NAMES)
def test_symmetric_scales_are_the_same(name: str) -> None:
    """Signed ones; where no value is below 0, theirs are unsigned, with a step of half the size."""
    values = tensor(name)
    amax = our_amax(values, "minmax")
    low, high, levels = parameters(values.min(), amax)
    own = float(Encoding.symmetric(amax).scale)
    if values.min() < 0:
        assert low == pytest.approx(-amax * 256 / 254, rel=1e-6)
    assert (high - low) / (levels - 1) == pytest.approx(own if values.min() < 0 else own * 127 / 255, rel=1e-6)


@as_read
@pytest.mark.parametrize("name", NAMES)
def test_of_an_asymmetric_range_they_move_one_end_outwards(name: str) -> None:
    """So that 0 is a level; ours rounds the zero point, and moves both ends by half a step at most."""
    values = tensor(name)
    low, high, levels = parameters(values.min(), values.max(), symmetric=False)
    expected = ours(values, "minmax", UNSIGNED)
    own = Encoding.of_range(Range(*expected), UNSIGNED)
    scale = (high - low) / (levels - 1)
    assert low <= expected[0] * (1 - 1e-6) and expected[1] * (1 - 1e-6) <= high
    assert 1 - 1e-6 <= scale / own.scale <= 1 + 1 / 127
    assert np.rint(-low / scale) == own.zero_point


@as_read
def test_their_channels_of_small_weights_get_the_scale_of_larger_ones() -> None:
    """A hundredth of the largest channel's at least; the other channels are equal."""
    weight = np.random.default_rng(1).standard_normal((8, 4, 3, 3)).astype(np.float32)
    weight[2] *= 1e-4
    amax = np.abs(weight).reshape(8, -1).max(1)
    low, high, levels = parameters(weight.reshape(8, -1).min(1), amax, per_channel=True, narrow=True)
    scale, own = (high - low) / (levels - 1), weight_encoding(weight, axis=0).scale
    others = np.arange(8) != 2
    assert scale[others] == pytest.approx(own[others], rel=1e-6)
    assert scale[2] == pytest.approx(0.01 * amax.max() / 127, rel=1e-6)
    assert own[2] < 0.05 * scale[2]
