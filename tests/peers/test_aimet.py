"""AIMET's quantizers: aimet-onnx."""

import numpy as np
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_WEIGHTS
from calibrators.range import Range
from calibrators.weights import weight_encoding
from tests.peers.installed import differs, needed
from tests.peers.tensors import DRAWN, NAMES, UNSIGNED, our_amax, ours, tensor

quantizers = needed("aimet-onnx", "aimet_onnx.qc_quantize_op")
info = needed("aimet-onnx", "aimet_onnx.common.libquant_info")
Scheme = needed("aimet-onnx", "aimet_onnx.common.defs").QuantScheme
as_read = differs("aimet-onnx", read="2.42.0")

EPSILON = float(np.finfo(np.float32).eps)
BINS = 512
SPREAD = 3.0
"""Their histogram has so many bins over so many times the range of the first batch."""


def quantizer(scheme, *batches, symmetric=True, strict=False, percent=None, shape=None):
    parameters = quantizers.TensorQuantizerParams(shape, channel_axis=0, block_axis=None) if shape else None
    made = quantizers.QcQuantizeOp(
        info.QcQuantizeInfo(),
        quant_scheme=scheme,
        op_mode=quantizers.OpMode.updateStats,
        use_symmetric_encodings=symmetric,
        tensor_quantizer_params=parameters,
    )
    made.use_strict_symmetric = strict
    if shape:
        made.enable_per_channel_quantization()
    if percent is not None:
        made._tensor_quantizer.setPercentileValue(percent)
    for batch in batches:
        made.update_encoding_stats(np.ascontiguousarray(batch))
    return made.compute_encodings()


def encoding(scheme, *batches, **options):
    (found,) = quantizer(scheme, *batches, **options)
    return found


def loss(values, delta, lowest, highest):
    """What both tf_enhanced and sqnr minimise: the squared error, three times where values are cut off."""
    levels = np.rint(values.astype(np.float64) / delta)
    errors = (values - np.clip(levels, lowest, highest) * delta) ** 2
    return float((errors * np.where((levels < lowest) | (levels > highest), 3.0, 1.0)).mean())


@pytest.mark.parametrize("name", NAMES)
def test_minmax_is_the_same_where_the_largest_magnitude_is_above_0(name: str) -> None:
    values = tensor(name) if tensor(name).max() == np.abs(tensor(name)).max() else -tensor(name)
    found = encoding(Scheme.min_max, values)
    assert np.float32(found.delta) == Encoding.symmetric(our_amax(values, "minmax")).scale
    assert (found.offset, found.bw) == (-128, 8)


@as_read
@pytest.mark.parametrize("name", NAMES)
def test_where_it_is_below_0_theirs_is_on_the_level_minus_128(name: str) -> None:
    values = -np.abs(tensor(name))
    found = encoding(Scheme.min_max, values)
    assert found.delta == pytest.approx(our_amax(values, "minmax") / 128, rel=1e-6)
    strict = encoding(Scheme.min_max, values, strict=True)
    assert np.float32(strict.delta) == Encoding.symmetric(our_amax(values, "minmax")).scale
    assert strict.offset == -127


@pytest.mark.parametrize("name", NAMES)
def test_asymmetric_minmax_is_the_same(name: str) -> None:
    values = tensor(name)
    found = encoding(Scheme.min_max, values, symmetric=False)
    expected = Encoding.of_range(Range(*ours(values, "minmax", UNSIGNED)), UNSIGNED)
    assert (np.float32(found.delta), -found.offset) == (pytest.approx(expected.scale, rel=1e-6), expected.zero_point)


@as_read
@pytest.mark.parametrize("symmetric", [True, False])
def test_their_scales_have_a_floor(symmetric: bool) -> None:
    """The spacing of float32 at 1: all but lost are tensors of a millionth."""
    values = DRAWN["laplace"] * np.float32(1e-6)
    assert encoding(Scheme.min_max, values, symmetric=symmetric).delta == EPSILON
    assert Encoding.symmetric(our_amax(values, "minmax")).scale < 0.8 * EPSILON
    zeros = np.zeros(10, np.float32)
    assert encoding(Scheme.min_max, zeros, symmetric=symmetric).delta == EPSILON
    assert our_amax(zeros, "minmax") == 0.0


@as_read
@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("name", NAMES)
def test_percentiles_differ_by_a_wide_bin(name: str, percent: float) -> None:
    """And their symmetric one is the larger of both ends, where ours is that of the magnitudes."""
    values = tensor(name)
    width = SPREAD * float(values.max() - min(values.min(), 0)) / BINS
    ranked = np.sort(values.reshape(-1))
    places = [(1 - percent / 100) * (ranked.size - 1), percent / 100 * (ranked.size - 1)]
    gap = max(float(ranked[min(int(place) + 1, ranked.size - 1)] - ranked[int(place)]) for place in places)
    low, high = ours(values, f"percentile:{percent}", UNSIGNED)
    found = encoding(Scheme.post_training_percentile, values, percent=percent)
    assert found.max == pytest.approx(max(-low, high), abs=1.1 * width + gap)
    asymmetric = encoding(Scheme.post_training_percentile, values, percent=percent, symmetric=False)
    moved = 1.1 * width + gap + asymmetric.delta
    assert (asymmetric.min, asymmetric.max) == (pytest.approx(low, abs=moved), pytest.approx(high, abs=moved))


@as_read
@pytest.mark.parametrize(("name", "delta", "better"), [("laplace", 0.0859649, 0.030), ("relu", 0.0363711, 0.0044)])
def test_our_sqnr_is_the_better_one_by_their_own_loss(name: str, delta: float, better: float) -> None:
    """They look at the middles of wide bins, and at 101 scales; ours is the loss of the values, on a fine grid."""
    values = DRAWN[name]
    found = encoding(Scheme.post_training_tf_enhanced, values)
    assert (found.delta, found.offset) == (pytest.approx(delta, abs=1e-6), -128)
    theirs, own = (loss(values, each, -128, 127) for each in (found.delta, our_amax(values, "sqnr") / 127))
    assert 1 - own / theirs == pytest.approx(better, abs=0.001)


@as_read
@pytest.mark.parametrize(
    ("name", "delta", "offset", "better"), [("laplace", 0.0853707, -118, 0.021), ("relu", 0.0185567, 0, 0.006)]
)
def test_so_it_is_with_two_ends(name: str, delta: float, offset: int, better: float) -> None:
    values = DRAWN[name]
    found = encoding(Scheme.post_training_tf_enhanced, values, symmetric=False)
    assert (found.delta, found.offset) == (pytest.approx(delta, abs=1e-6), offset)
    own = Encoding.of_range(Range(*ours(values, "sqnr", UNSIGNED)), UNSIGNED)
    theirs = loss(values, found.delta, offset, offset + 255)
    mine = loss(values, float(own.scale), -int(own.zero_point), 255 - int(own.zero_point))
    assert 1 - mine / theirs == pytest.approx(better, abs=0.001)


@as_read
def test_what_they_learn_of_a_small_first_batch_they_keep() -> None:
    """Values beyond three times its range are dropped, so the order of the batches matters; here it never does."""
    values = DRAWN["laplace"]
    small = values * np.float32(0.1)
    first, last = (
        encoding(Scheme.post_training_tf_enhanced, *batches).max for batches in ((small, values), (values, small))
    )
    assert first < SPREAD * np.abs(small).max() < 0.4 * last
    assert our_amax(np.concatenate([small, values]), "sqnr") == our_amax(np.concatenate([values, small]), "sqnr")


@as_read
def test_of_zeros_they_say_1() -> None:
    zeros = np.zeros(10, np.float32)
    found = encoding(Scheme.post_training_tf_enhanced, zeros)
    assert found.delta == pytest.approx(2 / 255)
    assert our_amax(zeros, "sqnr") == 0.0


def test_scales_of_weights_are_the_same_per_channel() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 4, 3, 3)).astype(np.float32)
    found = quantizer(Scheme.min_max, weight, strict=True, shape=list(weight.shape))
    expected = weight_encoding(weight, axis=0, grid=TENSORRT_WEIGHTS)
    assert np.array_equal(np.float32([each.delta for each in found]), expected.scale)
    assert {each.offset for each in found} == {-127}


@as_read
def test_theirs_use_the_level_minus_128_unless_told_not_to() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 4, 3, 3)).astype(np.float32)
    found = quantizer(Scheme.min_max, weight, shape=list(weight.shape))
    flat = weight.reshape(8, -1).astype(np.float64)
    expected = np.maximum(flat.max(1) / 127, -flat.min(1) / 128)
    assert [each.delta for each in found] == pytest.approx(expected, rel=1e-6)
    below = -flat.min(1) > flat.max(1)
    assert below.any()
    own = weight_encoding(weight, axis=0).scale
    assert (expected[below] < own[below]).all()
