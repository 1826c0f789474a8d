"""Rounds of floor and task: what is timed, in which order, and what is made of it."""

import pytest

from benchmarks.figures import Rounds, Search
from benchmarks.timing import in_rounds, seconds


def test_the_floor_comes_before_each_task_in_each_round() -> None:
    done: list[str] = []

    def fetch() -> dict[str, list[float]]:
        done.append("fetch")
        return {"fetch": [2.0]}

    def calibrate() -> dict[str, list[float]]:
        done.append("calibrate")
        return {"entropy": [3.0, 1.0], "minmax": [3.0, 0.5]}

    found = in_rounds(lambda: done.append("floor"), [fetch, calibrate], rounds=2)
    assert done == ["floor", "fetch", "floor", "calibrate"] * 2
    assert list(found) == ["fetch", "entropy", "minmax"]
    assert (found["fetch"].seconds, found["fetch"].collect, found["fetch"].search) == ([2.0, 2.0], (), ())
    entropy, minmax = found["entropy"], found["minmax"]
    assert (entropy.seconds, entropy.collect, entropy.search) == ([4.0, 4.0], (3.0, 3.0), (1.0, 1.0))
    assert minmax.seconds == [3.5, 3.5]
    assert minmax.floor == entropy.floor
    assert all(floor > 0 for floor in entropy.floor)


def test_seconds_are_those_of_the_call() -> None:
    seen: list[tuple[int, int]] = []
    assert seconds(lambda a, *, b: seen.append((a, b)), 1, b=2) >= 0
    assert seen == [(1, 2)]


def test_a_ratio_is_taken_in_its_round_and_the_median_counts() -> None:
    rounds = Rounds(seconds=[3.0, 40.0, 5.0], floor=[2.0, 20.0, 2.0], collect=[2.0, 30.0, 4.0], search=[1.0, 10.0, 1.0])
    assert rounds.ratios == [1.5, 2.0, 2.5]
    assert rounds.ratio == 2.0  # not 5 / 2, the ratio of the medians
    assert rounds.to_dict() == {
        "ratio": 2.0, "seconds": 5.0, "floor": 2.0, "collect": 4.0, "search": 1.0,
        "rounds": {
            "ratio": [1.5, 2.0, 2.5], "seconds": [3.0, 40.0, 5.0], "floor": [2.0, 20.0, 2.0],
            "collect": [2.0, 30.0, 4.0], "search": [1.0, 10.0, 1.0],
        },
    }  # fmt: skip


def test_a_task_without_parts_reports_none() -> None:
    assert set(Rounds([3.0], [2.0]).to_dict()) == {"ratio", "seconds", "floor", "rounds"}


def test_a_search_is_summed_up_by_its_median_and_its_slowest_tensor() -> None:
    assert Search.of([1.0, 9.0, 2.0]) == Search(tensors=3, median=2.0, slowest=9.0)
    with pytest.raises(ValueError, match=r".*"):
        Search.of([])
