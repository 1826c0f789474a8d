import numpy as np
import pytest

from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods import named
from calibrators.methods.best import best_method, best_range
from calibrators.methods.loss import expected_error
from calibrators.methods.named import SINGLE
from calibrators.range import Range
from calibrators.statistics.tensor import TensorStatistics

RNG = np.random.default_rng(0)
TENSORS = {
    "laplace": TensorStatistics.of(RNG.laplace(0, 1, 20_000)),
    "relu": TensorStatistics.of(np.maximum(RNG.standard_normal(20_000), 0)),
    "skewed": TensorStatistics.of(RNG.gamma(2, 1, 20_000) - 0.7),
    "few values": TensorStatistics.of([0.3, 0.3, -1.0, 0.25]),
    "far outlier": TensorStatistics.of(np.append(RNG.standard_normal(20_000), 90)),
}


@pytest.mark.parametrize("grid", [Grid(), Grid(bits=4), Grid(symmetric=False), Grid(bits=16), Grid(power_of_two=True)])
@pytest.mark.parametrize("name", TENSORS)
def test_it_has_the_least_expected_error(name: str, grid: Grid) -> None:
    statistics = TENSORS[name]
    found = best_range(statistics, grid)
    winner = best_method(statistics, grid)
    assert SINGLE[winner](statistics, grid) == found
    least = expected_error(statistics, found, grid)
    for find in SINGLE.values():
        assert least <= expected_error(statistics, find(statistics, grid), grid) * (1 + 1e-8)


def test_it_is_of_tensorrts_grid_if_not_told_otherwise() -> None:
    assert best_method(TENSORS["laplace"]) == best_method(TENSORS["laplace"], TENSORRT_INT8)


def test_methods_that_search_for_the_squared_error_win() -> None:
    assert {best_method(TENSORS[name]) for name in ("laplace", "relu", "skewed")} <= {"mse", "lsq-scale"}


def test_of_equals_minmax_wins() -> None:
    assert best_method(TensorStatistics.of([2.54, 2.54, 0.0])) == "minmax"


def test_of_zeros_it_is_nothing() -> None:
    zeros = TensorStatistics.of([0.0, 0.0])
    assert best_range(zeros, Grid()) == Range(0.0, 0.0)
    assert best_method(zeros) == "minmax"


def test_what_others_found_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    values, grid = RNG.laplace(0, 1, 5_000), Grid()
    apart = {name: find(TensorStatistics.of(values), grid) for name, find in SINGLE.items()}
    statistics = TensorStatistics.of(values)
    together = {name: find(statistics, grid) for name, find in SINGLE.items()}
    assert together == apart
    best = best_range(TensorStatistics.of(values), grid)
    for name in SINGLE:
        monkeypatch.setattr(named, f"{name.replace('-', '_')}_range", None)
    assert best_range(statistics, grid) == best and best_method(statistics, grid) in SINGLE
    assert {name for name, _ in statistics.found} == {*SINGLE, "best"}
    assert {name: find(statistics, grid) for name, find in SINGLE.items()} == apart
    other = Grid(bits=4)
    assert SINGLE["mse"](statistics, other) == SINGLE["mse"](TensorStatistics.of(values), other)


def test_what_was_found_takes_no_part_in_what_statistics_are() -> None:
    one, other = (TensorStatistics.of([1.0, -2.0, 0.5]) for _ in range(2))
    best_range(one, Grid())
    assert one == other and (one + other).found == {} and "found" not in repr(one)
