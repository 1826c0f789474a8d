import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrators.cache.text import CalibrationCache
from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.methods.entropy import entropy_range
from calibrators.methods.names import REMARKS
from calibrators.range import Range
from calibrators.ranges import METHODS, Method, calibrate, encodings, method_named, range_of
from calibrators.statistics.file import Provenance, ScaleGroup, Statistics
from calibrators.statistics.tensor import TensorStatistics

RNG = np.random.default_rng(0)
TENSORS = {
    "wide": TensorStatistics.of(4 * RNG.standard_normal(5000)),
    "narrow": TensorStatistics.of(RNG.standard_normal(5000)),
    "constant": TensorStatistics.of(np.full(100, -2.54)),
    "zeros": TensorStatistics.of(np.zeros(100)),
}


def scale_of(statistics: TensorStatistics, method: str = "minmax") -> float:
    """What a cache holds of a tensor that shares no scale."""
    return float(np.float32(METHODS[method].find(statistics, TENSORRT_INT8).amax / 127))


def group(*members: str, sources: tuple[str, ...]) -> ScaleGroup:
    return ScaleGroup(members, sources)


# Methods and ranges


def test_methods_are_known_by_name() -> None:
    assert list(METHODS) == list(REMARKS)
    for name, method in METHODS.items():
        assert method_named(name) is method
        assert method.algorithm == ("EntropyCalibration2" if name == "entropy" else "MinMaxCalibration")


def test_absmax_is_minmax() -> None:
    assert method_named("absmax") is METHODS["minmax"]


def test_a_percentile_may_be_given() -> None:
    assert range_of(TENSORS["wide"], "percentile:99.99") == range_of(TENSORS["wide"], "percentile")
    amax = [range_of(TENSORS["wide"], f"percentile:{percent}").amax for percent in ("90", "99.9", "100")]
    assert amax[0] < amax[1] < amax[2] == TENSORS["wide"].amax
    assert method_named("percentile:90").algorithm == "MinMaxCalibration"


@pytest.mark.parametrize(
    "name",
    [
        "percentile:many",
        "percentile:49",
        "percentile:100.1",
        "percentile:nan",
        "percentile:9_9",
        "percentile: 99",
        "percentile:٩٩",
    ],
)
def test_a_percentile_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RangeError, match="percentile"):
        method_named(name)


@pytest.mark.parametrize(
    "ask",
    [method_named, lambda name: range_of(TENSORS["wide"], name), lambda name: calibrate(Statistics(TENSORS), name)],
)
@pytest.mark.parametrize("name", ["kk", "", "mse:3", "percentile:", "absmax:1", "kl:2", "Entropie"])
def test_an_unknown_method_is_told_the_names(ask: Callable[[str], object], name: str) -> None:
    with pytest.raises(RangeError) as error:
        ask(name)
    known = "entropy, minmax, mean, percentile, "
    assert str(error.value).startswith(f"there is no range method {name!r}: choose among {known}")
    assert str(error.value).endswith(", best and percentile:99.9")
    assert error.value.exit_code == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", TENSORS)
def test_a_range_is_symmetric(name: str, method: str) -> None:
    found = range_of(TENSORS[name], method)
    assert found.maximum == -found.minimum == found.amax == METHODS[method].find(TENSORS[name], TENSORRT_INT8).amax
    narrow = range_of(TENSORS[name], method, TENSORRT_WEIGHTS)
    assert narrow.maximum == -narrow.minimum == pytest.approx(found.amax, rel=0.05)


def test_the_default_is_what_measures_best_and_entropy_one_word_away() -> None:
    entropy = range_of(TENSORS["wide"], "entropy").amax
    assert entropy == entropy_range(TENSORS["wide"], TENSORRT_INT8).amax != TENSORS["wide"].amax
    assert range_of(TENSORS["wide"]).amax == range_of(TENSORS["wide"], "mse").amax != entropy


@pytest.mark.parametrize("method", METHODS)
def test_without_a_sample_there_is_no_range(method: str) -> None:
    with pytest.raises(RangeError, match="the statistics hold no sample: calibrate on at least one"):
        range_of(TensorStatistics.empty(), method)


def test_an_asymmetric_grid_has_both_ends_of_its_own() -> None:
    statistics = TensorStatistics.of([-1.0, 0.0, 3.0])
    assert range_of(statistics, "minmax", Grid(symmetric=False)) == Range(-1.0, 3.0)


@pytest.mark.parametrize(
    ("minimum", "maximum"), [(0.5, 1.0), (-1.0, -0.5), (1.0, -1.0), (math.nan, 1.0), (-1.0, math.nan)]
)
def test_a_range_without_0_is_refused(minimum: float, maximum: float) -> None:
    with pytest.raises(RangeError, match="a range must contain 0"):
        Range(minimum, maximum)


def test_a_range_of_two_different_ends() -> None:
    assert (Range(-3.0, 1.0).amax, Range(-1.0, 3.0).amax, Range(0.0, 0.0).amax) == (3.0, 3.0, 0.0)


# From statistics to a cache


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_by_itself_has_its_own_scale(method: str) -> None:
    cache = calibrate(Statistics(TENSORS), method)
    assert list(cache) == list(TENSORS)
    for name, statistics in TENSORS.items():
        assert cache[name] == scale_of(statistics, method)
        assert cache.amax(name) == pytest.approx(METHODS[method].find(statistics, TENSORRT_INT8).amax, rel=1e-7)
    assert cache.algorithm == METHODS[method].algorithm
    assert cache.sidecar is not None and cache.sidecar.explicit == {}


def test_a_tensor_of_zeros_has_scale_0_as_tensorrt_writes_it() -> None:
    for method in METHODS:
        cache = calibrate(Statistics(TENSORS), method)
        assert cache["zeros"] == 0.0
        assert b"\nzeros: 0\n" in cache.dumps()


def test_both_sides_of_a_pooling_layer_share_the_inputs_scale() -> None:
    tensors = {"in": TENSORS["wide"], "out": TENSORS["narrow"], "else": TENSORS["constant"]}
    groups = [group("in", "out", sources=("in",))]
    for method in METHODS:
        cache = calibrate(Statistics(tensors, groups=groups, explicit_groups=groups), method)
        assert cache["in"] == cache["out"] == scale_of(TENSORS["wide"], method)
        assert cache["else"] == scale_of(TENSORS["constant"], method)
        assert cache.sidecar is not None and cache.sidecar.explicit == {}


def test_the_inputs_scale_is_shared_even_if_the_output_is_wider() -> None:
    tensors = {"in": TENSORS["narrow"], "out": TENSORS["wide"]}
    cache = calibrate(Statistics(tensors, groups=[group("in", "out", sources=("in",))]), "minmax")
    assert cache["in"] == cache["out"] == scale_of(TENSORS["narrow"])


def test_all_of_a_concatenation_share_the_largest_scale() -> None:
    tensors = {"a": TENSORS["narrow"], "b": TENSORS["wide"], "c": TENSORS["zeros"], "concat": TENSORS["constant"]}
    statistics = Statistics(tensors, groups=[group("a", "b", "c", "concat", sources=("a", "b", "c"))])
    for method in METHODS:
        assert set(calibrate(statistics, method).values()) == {scale_of(TENSORS["wide"], method)}


def test_a_group_of_zeros_has_scale_0() -> None:
    tensors = {"in": TENSORS["zeros"], "out": TENSORS["zeros"]}
    cache = calibrate(Statistics(tensors, groups=[group("in", "out", sources=("in",))]))
    assert dict(cache) == {"in": 0.0, "out": 0.0}


def test_of_a_groups_sources_those_that_were_collected_decide() -> None:
    tensors = {"b": TENSORS["narrow"], "concat": TENSORS["wide"], "alone": TENSORS["constant"]}
    groups = [group("a", "b", "concat", sources=("a", "b")), group("gone", "alone", sources=("gone",))]
    cache = calibrate(Statistics(tensors, groups=groups), "minmax")
    assert cache["concat"] == cache["b"] == scale_of(TENSORS["narrow"])
    assert cache["alone"] == scale_of(TENSORS["constant"])
    assert set(cache) == set(tensors)


def test_a_member_that_was_not_collected_has_no_scale() -> None:
    tensors = {"in": TENSORS["wide"]}
    cache = calibrate(Statistics(tensors, groups=[group("in", "out", sources=("in",))]))
    assert list(cache) == ["in"]


def test_scales_that_qdq_nodes_want_otherwise_stand_in_the_side_car() -> None:
    """TensorRT's caches give an average pooling's output its input's scale; between Q/DQ nodes it keeps its own."""
    tensors = {
        "in": TENSORS["wide"],
        "max": TENSORS["narrow"],
        "average": TENSORS["constant"],
        "flat": TENSORS["narrow"],
    }
    statistics = Statistics(
        tensors,
        groups=[group("in", "max", "average", "flat", sources=("in",))],
        explicit_groups=[group("in", "max", sources=("in",)), group("average", "flat", sources=("average",))],
    )
    cache = calibrate(statistics, "minmax")
    assert set(cache.values()) == {scale_of(TENSORS["wide"])}
    assert cache.sidecar is not None
    own = scale_of(TENSORS["constant"])
    assert cache.sidecar.explicit == {"average": own, "flat": own}


def test_the_side_car_tells_where_the_scales_come_from() -> None:
    known = Provenance("f" * 64, {"resize": [8, 8]}, ("0" * 64, "1" * 64), 30, 7, "quantizable")
    sidecar = calibrate(Statistics(TENSORS, provenance=known), "minmax").sidecar
    assert sidecar is not None
    assert (sidecar.model_sha256, sidecar.method, sidecar.tensors) == ("f" * 64, "minmax", "quantizable")
    assert (sidecar.image_sets, sidecar.images, sidecar.seed) == (("0" * 64, "1" * 64), 30, 7)
    assert sidecar.preprocess == {"resize": [8, 8]}
    assert sidecar.versions["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("asked", "method"),
    [("best", "best"), ("absmax", "minmax"), ("kl", "entropy"), ("percentile:99.9", "percentile:99.9")],
)
def test_the_side_car_says_the_method_that_was_asked_for(asked: str, method: str) -> None:
    sidecar = calibrate(Statistics(TENSORS), asked).sidecar
    assert sidecar is not None and sidecar.method == method


def test_statistics_that_several_tensors_share_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides of a reshape have the very same object."""
    seen = []

    def find(statistics: TensorStatistics, grid: Grid) -> Range:
        seen.append(statistics)
        return Range.symmetric(statistics.amax)

    monkeypatch.setattr("calibrators.ranges.METHODS", {"spy": Method(find)})
    tensors = {"in": TENSORS["wide"], "reshaped": TENSORS["wide"], "equal": TensorStatistics.empty() + TENSORS["wide"]}
    cache = calibrate(Statistics(tensors), "spy")
    assert sorted(map(id, seen)) == sorted({id(tensors["in"]), id(tensors["equal"])})
    assert cache["in"] == cache["reshaped"] == cache["equal"]
    assert len(encodings(Statistics(tensors), "spy")) == 3 and len(seen) == 4


@pytest.mark.parametrize("method", ["entropy", "mse", "best"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_tensors_that_are_searched_side_by_side_have_their_own_ranges(method: str, count: int) -> None:
    tensors = {f"t{place}": TensorStatistics.of(RNG.standard_normal(2000) * (place + 1)) for place in range(count)}
    cache = calibrate(Statistics(tensors), method)
    assert dict(cache) == {name: scale_of(statistics, method) for name, statistics in tensors.items()}


def test_the_header_is_of_the_tensorrt_asked_for() -> None:
    assert calibrate(Statistics(TENSORS), "entropy", version=8601).header == "TRT-8601-EntropyCalibration2"
    assert calibrate(Statistics(TENSORS), "minmax", version=101401).header == "TRT-101401-MinMaxCalibration"


def test_nothing_calibrates_nothing() -> None:
    with pytest.raises(RangeError, match="there are no statistics to calibrate from: collect some first"):
        calibrate(Statistics({}))


def test_a_tensor_without_samples_is_refused() -> None:
    with pytest.raises(RangeError, match="no sample"):
        calibrate(Statistics({**TENSORS, "x": TensorStatistics.empty()}))


# From statistics to encodings


@pytest.mark.parametrize("method", METHODS)
def test_on_tensorrts_grid_encodings_have_the_caches_scales(method: str) -> None:
    cache = calibrate(Statistics(TENSORS), method)
    found = encodings(Statistics(TENSORS), method)
    assert {name: float(encoding.scale) for name, encoding in found.items()} == {
        name: scale for name, scale in cache.items() if scale > 0
    }


@pytest.mark.parametrize("grid", [Grid(symmetric=False, signed=False), Grid(bits=4, symmetric=False), Grid(bits=16)])
def test_encodings_are_those_of_the_ranges(grid: Grid) -> None:
    found = encodings(Statistics(TENSORS), "mse", grid)
    assert list(found) == [name for name in TENSORS if name != "zeros"]
    for name, encoding in found.items():
        assert encoding == Encoding.of_range(range_of(TENSORS[name], "mse", grid), grid)


def test_a_group_shares_the_encoding_that_holds_all_of_its_sources() -> None:
    tensors = {
        "a": TensorStatistics.of([-1.0, 2.0]),
        "b": TensorStatistics.of([-3.0, 1.0]),
        "concat": TensorStatistics.of([-9.0, 9.0]),
        "else": TensorStatistics.of([0.0, 5.0]),
    }
    grid = Grid(symmetric=False)
    statistics = Statistics(tensors, explicit_groups=[group("a", "b", "concat", sources=("a", "b"))])
    found = encodings(statistics, "minmax", grid)
    assert found["a"] == found["b"] == found["concat"] == Encoding.of_range(Range(-3.0, 2.0), grid)
    assert found["else"] == Encoding.of_range(Range(0.0, 5.0), grid)


def test_encodings_of_some_tensors_are_those_among_all() -> None:
    """One of a concatenation too, whose range the others decide; no other range is looked for."""
    tensors = {**TENSORS, "concat": TensorStatistics.of([0.0]), "empty": TensorStatistics.empty()}
    first, second = list(TENSORS)[:2]
    groups = [ScaleGroup((first, second, "concat"), (first, second))]
    statistics = Statistics(tensors, explicit_groups=groups)
    every = encodings(Statistics({**TENSORS, "concat": tensors["concat"]}, explicit_groups=groups), "mse")
    assert encodings(statistics, "mse", names=["concat", "absent"]) == {"concat": every["concat"]}
    assert encodings(statistics, "mse", names=[]) == {}


def test_encodings_of_an_unknown_method_or_of_no_samples_are_refused() -> None:
    with pytest.raises(RangeError, match="no range method 'kk'"):
        encodings(Statistics(TENSORS), "kk")
    with pytest.raises(RangeError, match="no sample"):
        encodings(Statistics({"x": TensorStatistics.empty()}))


@given(st.floats(2.0**-149, float(np.finfo(np.float32).max), width=32))
@settings(max_examples=25)
def test_any_magnitude_has_a_scale_that_a_cache_can_hold(value: float) -> None:
    for method in METHODS:
        cache = calibrate(Statistics({"x": TensorStatistics.of([value])}), method)
        assert 0 <= cache["x"] < math.inf
        assert CalibrationCache.parse(cache.dumps()) == cache


def test_the_order_of_collection_and_of_calibration_is_the_caches() -> None:
    tensors = dict(reversed(TENSORS.items()))
    assert list(calibrate(Statistics(tensors))) == list(tensors)


# Against TensorRT itself


@pytest.fixture(scope="session")
def lenet(shared_data: Path) -> Statistics:
    """LeNet's activations on MNIST images, x / 255: a model of which TensorRT 7.2 wrote a cache."""
    from engines.collection.collect import collect

    with np.load(shared_data / "images" / "mnist_train_1000.npz") as file:
        images = file["images"].astype(np.float32)[:, None] / np.float32(255)
    return collect(shared_data / "models" / "lenet_mnist.onnx", [images])


@pytest.fixture(scope="session")
def tensorrts(shared_data: Path) -> CalibrationCache:
    return CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache", alone=True)


def test_entropy_finds_tensorrts_scales(lenet: Statistics, tensorrts: CalibrationCache) -> None:
    cache = calibrate(lenet, "entropy")
    assert cache["data"] == pytest.approx(tensorrts["data"], rel=1e-4)
    for name in ("conv1", "pool1"):
        assert cache[name] == pytest.approx(tensorrts[name], rel=0.02)
    for name in tensorrts:  # TensorRT's images are not known
        assert cache[name] == pytest.approx(tensorrts[name], rel=0.1)


def test_tensors_share_scales_as_tensorrt_has_them(lenet: Statistics, tensorrts: CalibrationCache) -> None:
    for scales in (tensorrts, calibrate(lenet), calibrate(lenet, "minmax")):
        assert scales["pool1"] == scales["conv1"]
        assert scales["pool2"] == scales["conv2"]


def test_minmax_of_images_from_0_to_1_is_tensorrts_to_the_bit(lenet: Statistics) -> None:
    assert calibrate(lenet, "minmax").bits("data") == "3c010204"


def test_a_calibration_in_shards_writes_the_same_cache(lenet: Statistics, shared_data: Path) -> None:
    from engines.collection.collect import collect

    with np.load(shared_data / "images" / "mnist_train_1000.npz") as file:
        images = file["images"].astype(np.float32)[:, None] / np.float32(255)
    model = shared_data / "models" / "lenet_mnist.onnx"
    shards = [collect(model, [images[700:], images[300:350]]), collect(model, [images[:300], images[350:700]])]
    merged = shards[0] + shards[1]
    assert merged == lenet
    assert calibrate(merged).dumps() == calibrate(lenet).dumps()


def test_the_scale_of_unclipped_images_from_0_to_1_is_known_from_the_wild() -> None:
    uniform = TensorStatistics.of((np.arange(2**16) / (2**16 - 1)).astype(np.float32))
    cache = calibrate(Statistics({"data": uniform}), "entropy")
    assert cache.bits("data") == "3c010a14" == struct.pack(">f", 2048.5 / 2048 / 127).hex()
    assert TENSORRT_INT8.symmetric_amax(cache["data"]) == pytest.approx(2048.5 / 2048)
