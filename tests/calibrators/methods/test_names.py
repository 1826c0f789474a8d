"""What other tools call range methods is understood as one that there is, or answered with what to take."""

import pytest

from calibrators.errors import RangeError
from calibrators.methods import names
from calibrators.ranges import METHODS, calibrate, method_named
from calibrators.statistics.file import Statistics
from tests.calibrators.test_ranges import TENSORS

UNDERSTOOD = {
    "entropy": ["kl", "KL", "kl_divergence", "KL-Divergence", "Entropy", "EntropyCalibration2", "KLObserver"],
    "minmax": [
        "max",
        "abs_max",
        "AbsMax",
        "absmax",
        "tf",
        "min_max",
        "MinMax",
        "MinMaxCalibration",
        "post_training_tf",
    ],
    "mean": ["avg", "AVG", "AVGObserver"],
    "percentile": ["Percentile", "post_training_percentile"],
    "sqnr": ["tf_enhanced", "TF-enhanced", "post_training_tf_enhanced", "SQNR"],
    "mse": ["MSE", "MSEObserver"],
    "emd-moments": ["EMDObserver", "emd_moments"],
    "lsq-scale": ["admm", "lsq_scale"],
    "emd": ["EMD"],
}


@pytest.mark.parametrize(("method", "name"), [(own, each) for own, every in UNDERSTOOD.items() for each in every])
def test_a_name_of_another_tool_means_the_method_itself(method: str, name: str) -> None:
    assert method_named(name) is METHODS[method]
    assert names.canonical(name) == method
    statistics = Statistics(TENSORS)
    cache, same = calibrate(statistics, name), calibrate(statistics, method)
    assert dict(cache) == dict(same)
    assert cache.algorithm == same.algorithm
    assert cache.sidecar is not None
    assert cache.sidecar.method == method


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hist", "percentile:99.9"),
        ("Histogram", "NNCF's is mse"),
        ("moving_average_abs_max", "moving-average-absmax is a quantizer to train .*, mean comes nearest"),
        ("lsq", "lsq is a quantizer to train a PyTorch model with"),
        ("lsq_plus", r"lsq\+ is a quantizer to train"),
        ("PACT", "pact is a quantizer to train"),
        ("EntropyCalibration", "newer one is entropy"),
        ("isotone", "trtcal compare"),
        ("auto", "best one for each tensor"),
    ],
)
def test_a_name_that_is_no_method_is_answered(name: str, told: str) -> None:
    with pytest.raises(RangeError, match=f"there is no range method '{name}': .*{told}") as error:
        method_named(name)
    assert "choose among" not in str(error.value)


def test_every_name_leads_to_one_thing() -> None:
    methods = {each: own for own in names.REMARKS for each in (own, *names.ALIASES.get(own, ()))}
    quantizers = {each: own for own, others in names.QUANTIZERS.items() for each in (own, *others)}
    assert set(names.ALIASES) <= set(names.REMARKS) == set(METHODS)
    assert {each: names.canonical(each) for each in methods} == methods
    assert {each: names.among(names.QUANTIZERS, each) for each in quantizers} == quantizers
    assert not any(names.elsewhere(each) for each in methods)
    for each in (*quantizers, *names.ELSEWHERE):
        assert names.canonical(each) == each and names.elsewhere(each)


def test_a_percentage_stays_and_only_percentiles_have_one() -> None:
    assert names.canonical("Percentile:99.9") == "percentile:99.9"
    assert names.canonical("post_training_percentile:99") == "percentile:99"
    assert names.canonical("kl:99") == "kl:99"


def test_what_emd_is_elsewhere_is_said_where_the_methods_are_listed() -> None:
    assert "emd (the true distance; PaddleSlim's emd is emd-moments)" in names.listed()
