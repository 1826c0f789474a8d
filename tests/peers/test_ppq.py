"""PPQ's observers."""

import numpy as np
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import Grid
from calibrators.range import Range
from tests.peers.installed import differs, needed
from tests.peers.tensors import DRAWN, NAMES, UNSIGNED, error_of, mean_squared_error, our_amax, ours, sqnr, tensor

core = needed("ppq", "ppq.core")
observers = needed("ppq", "ppq.quantization.observer.range")
torch = needed("torch", "torch")
as_read = differs("ppq", read="0.6.6")

POWERS_OF_TWO = Grid(power_of_two=True)


def observed(kind: str, *batches, symmetric: bool = True, power_of_two: bool = False) -> tuple[float, int]:
    """Their scale and offset."""
    properties = core.QuantizationProperty
    policy = properties.PER_TENSOR + properties.LINEAR
    policy += properties.SYMMETRICAL if symmetric else properties.ASYMMETRICAL
    policy += properties.POWER_OF_2 if power_of_two else 0
    lowest, highest = (-128, 127) if symmetric else (0, 255)
    config = core.TensorQuantizationConfig(
        policy=core.QuantizationPolicy(policy), num_of_bits=8, quant_min=lowest, quant_max=highest
    )
    observer = getattr(observers, f"Torch{kind}Observer")(None, config)
    while config.state == core.QuantizationStates.INITIAL:  # some look twice
        for batch in batches:
            observer.observe(torch.from_numpy(batch))
        observer.render_quantization_config()
    return float(config.scale), int(config.offset)


@as_read
@pytest.mark.parametrize("name", NAMES)
def test_minmax_has_half_a_step_more(name: str) -> None:
    """2 A over 255 steps instead of 254."""
    values = tensor(name)
    assert observed("MinMax", values) == (pytest.approx(our_amax(values, "minmax") / 127.5, rel=1e-6), 0)


@pytest.mark.parametrize("name", NAMES)
def test_asymmetric_minmax_is_the_same(name: str) -> None:
    values = tensor(name)
    own = Encoding.of_range(Range(*ours(values, "minmax", UNSIGNED)), UNSIGNED)
    assert observed("MinMax", values, symmetric=False) == (pytest.approx(float(own.scale), rel=1e-6), own.zero_point)


@pytest.mark.parametrize("name", NAMES)
def test_powers_of_two_are_the_same(name: str) -> None:
    """Both round up, so half a step does not matter here."""
    values = tensor(name)
    own = Encoding.of_range(Range(*ours(values, "minmax")), POWERS_OF_TWO)
    assert observed("MinMax", values, power_of_two=True)[0] == own.scale


@as_read
@pytest.mark.parametrize("name", NAMES)
def test_percentiles_are_single_values(name: str) -> None:
    """Of rank int(0.9999 n), ours lies between it and its neighbour; their symmetric one is the larger of both ends."""
    values = tensor(name)
    ranked = np.sort(values.reshape(-1))
    low, high = ranked[int(1e-4 * values.size)], ranked[min(int(0.9999 * values.size), values.size - 1)]
    assert observed("Percentile", values)[0] == pytest.approx(max(-low, high) / 127.5, rel=1e-6)
    assert observed("Percentile", values, symmetric=False)[0] == pytest.approx((high - min(low, 0)) / 255, rel=1e-6)
    gap = float(max(np.diff(ranked[:3]).max(), high - ranked[int(0.9999 * values.size) - 1]))
    bin_width = float(np.abs(values).max()) / 4096
    assert ours(values, "percentile", UNSIGNED) == pytest.approx((min(low, 0), high), abs=gap + bin_width)


@as_read
def test_over_batches_theirs_is_the_mean() -> None:
    """Of the batches' percentiles, which is less than that of all values."""
    values = DRAWN["laplace"]
    batches = [values * np.float32(factor) for factor in (0.1, 1)]
    scales = [observed("Percentile", batch)[0] for batch in batches]
    assert observed("Percentile", *batches)[0] == pytest.approx(sum(scales) / 2, rel=1e-6)
    assert our_amax(np.concatenate(batches), "percentile") > 1.5 * 127.5 * sum(scales) / 2


@as_read
@pytest.mark.parametrize(("name", "amax", "decibels"), [("laplace", 11.8555, 0.5), ("relu", 3.6680, 1.4)])
def test_entropy(name: str, amax: float, decibels: float) -> None:
    """32 candidates, the first 8 of 4096 bins emptied, and the threshold on level 128."""
    values = DRAWN[name]
    scale, _ = observed("Hist", values)
    assert scale * 127 == pytest.approx(amax, abs=1e-4)
    gained = sqnr(values, our_amax(values, "entropy")) - sqnr(values, 127 * scale)
    assert gained == pytest.approx(decibels, abs=0.1)


@as_read
@pytest.mark.parametrize(("name", "better"), [("laplace", 0.1365), ("relu", 0.0835)])
def test_least_squared_error(name: str, better: float) -> None:
    """Of 9 candidates, judged by a step of half the size, the whole range wins."""
    values = DRAWN[name]
    scale, _ = observed("MSE", values)
    assert scale == pytest.approx(our_amax(values, "minmax") / 127.5, rel=1e-6)
    of_theirs, of_ours = (mean_squared_error(values, each) for each in (127 * scale, our_amax(values, "mse")))
    assert 1 - of_ours / of_theirs == pytest.approx(better, abs=0.001)


@as_read
@pytest.mark.parametrize(("name", "scale", "better"), [("laplace", 0.0752899, 0.0587), ("relu", 0.0185567, 0.0224)])
def test_least_squared_error_with_two_ends(name: str, scale: float, better: float) -> None:
    """Starts every 8 bins, steps of a whole number of bins."""
    values = DRAWN[name]
    found, offset = observed("MSE", values, symmetric=False)
    assert found == pytest.approx(scale, abs=1e-6)
    theirs = Encoding(np.float32(found), np.int32(offset), UNSIGNED)
    own = Encoding.of_range(Range(*ours(values, "mse", UNSIGNED)), UNSIGNED)
    of_theirs, of_ours = error_of(values, theirs), error_of(values, own)
    assert 1 - of_ours / of_theirs == pytest.approx(better, abs=0.001)
