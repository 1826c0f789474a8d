"""Plans of layers: what they tell of themselves, and the scales that they take."""

import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheError
from calibrators.ranges import calibrate
from engines.build.layer_plan import NO_PLAN, LayerPlan, method_of, scales_for, some
from engines.collection.collect import collect
from engines.qdq.weights import Granularity, WeightOptions
from tests.engines.networks import classifier, samples_of

PLAN = LayerPlan(
    {"a": "int8", "b": "int8", "c": "fp16", "d": "float", "e": "int8"},
    {"a": WeightOptions("mse", Granularity("tensor"), 4)},
    {"b": "mse"},
)


@pytest.fixture(scope="module")
def statistics():
    model = classifier()
    return collect(model, samples_of(model, 4))


def test_what_quantize_is_told():
    assert PLAN.choices == {
        "a": WeightOptions("mse", Granularity("tensor"), 4),
        "c": "the configuration has it in fp16",
        "d": "the configuration has it in float",
    }
    assert PLAN.named("fp16", "float") == ("c", "d")


def test_how_it_is_described():
    assert PLAN.described({"a": 0.5, "b": 0.25}, "entropy") == {
        "a": {
            "precision": "int8",
            "activation": "entropy",
            "scale": 0.5,
            "weight": "mse",
            "weight_bits": 4,
            "granularity": "tensor",
        },
        "b": {"precision": "int8", "activation": "mse", "scale": 0.25},
        "c": {"precision": "fp16"},
        "d": {"precision": "float"},
        "e": {"precision": "float"},  # it had no scale
    }


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ({}, "mse"),
        ({"a": "entropy"}, "mse"),
        ({"a": "entropy", "b": "entropy"}, "entropy"),
        ({"a": "absmax", "b": "minmax"}, "minmax"),
        ({"a": "entropy", "b": "minmax"}, "mse"),
    ],
)
def test_the_method_of_most(methods, expected):
    plan = LayerPlan(dict.fromkeys("abc", "int8"), {}, methods)
    assert plan.common_method() == expected


def test_statistics_give_every_method(statistics):
    plan = LayerPlan(dict.fromkeys("abcd", "int8"), {}, {"b": "mse", "c": "absmax", "d": "minmax"})
    main, others = scales_for(plan, statistics, method="entropy")
    assert main.sidecar.method == "minmax"
    assert {name: cache.sidecar.method for name, cache in others.items()} == {"a": "entropy", "b": "mse"}
    assert others["b"].dumps() == calibrate(statistics, "mse").dumps()
    main, others = scales_for(plan, statistics, method="entropy", main="entropy")
    assert main.dumps() == calibrate(statistics, "entropy").dumps()
    assert {name: cache.sidecar.method for name, cache in others.items()} == {
        "b": "mse",
        "c": "minmax",
        "d": "minmax",
    }
    assert others["c"] is others["d"]


def test_without_a_plan_statistics_give_the_default(statistics):
    main, others = scales_for(NO_PLAN, statistics)
    assert (main.dumps(), others) == (calibrate(statistics, "mse").dumps(), {})


def test_a_cache_gives_its_own_method(statistics):
    cache = calibrate(statistics, "minmax")
    assert scales_for(LayerPlan({"a": "int8"}, {}, {"a": "absmax"}), cache) == (cache, {})
    with pytest.raises(CacheError) as refused:
        scales_for(LayerPlan({"a": "int8"}, {}, {"a": "mse"}), cache, name="model.cache")
    assert str(refused.value).startswith(
        "the configuration wants ranges by mse for a, and model.cache holds those of minmax: give the statistics"
    )
    assert "--statistics-from FILE.npz" in str(refused.value)


def test_a_cache_without_a_sidecar_tells_by_its_header():
    entropy = CalibrationCache({"x": 1.0}, algorithm="EntropyCalibration2")
    unknown = CalibrationCache({"x": 1.0}, algorithm="MinMaxCalibration")
    assert (method_of(entropy), method_of(unknown)) == ("entropy", None)
    with pytest.raises(CacheError, match="the cache does not say how its ranges were chosen: give the statistics"):
        scales_for(LayerPlan({"a": "int8"}, {}, {"a": "minmax"}), unknown)


def test_names_on_one_line():
    assert some(["a"]) == "a"
    assert some("abc") == "a, b, c"
    assert some("abcde") == "a, b, c and 2 more"
