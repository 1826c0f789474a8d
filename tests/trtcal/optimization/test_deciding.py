"""The decision: the fastest that holds the bound, or the cheapest where nothing was timed."""

from pathlib import Path

import pytest

from trtcal.optimization.building import batch_sizes, cost, share_of_int8
from trtcal.optimization.deciding import chosen, sentence
from trtcal.optimization.measuring import Measured
from trtcal.optimization.result import Candidate


def candidate(name, drop=0.0, cost=100.0, latency=None, holds=True):
    measured = Measured(500, 90.0, (87.0, 92.0), drop, (drop - 1, drop + 1), 30.0)
    return Candidate(name, "", Path(f"m.{name}.engine"), measured, holds, cost, 0.0, 1000, latency or {})


INT8, FP16, FP32 = candidate("int8", 0.4, 26), candidate("fp16", 0.0, 50), candidate("fp32")


def test_without_times_the_cheapest_that_holds_the_bound():
    assert chosen([INT8, FP16, FP32]) is INT8
    missing = candidate("int8", 2.0, 26, holds=False)
    assert chosen([missing, FP16, FP32]) is FP16
    told = sentence([missing, FP16, FP32], FP16, "top-1", 1.0)
    assert told.startswith("fp16 is the cheapest that holds the bound, with 50 %")
    assert told.endswith("int8 does not hold it: it loses 2.00 points of top-1")


def test_with_times_the_fastest_and_that_may_be_fp16():
    timed = [
        candidate("int8", 0.4, 26, {1: 2.0, 8: 9.0}),
        candidate("fp16", 0.0, 50, {1: 2.5, 8: 4.0}),
        candidate("fp32", latency={1: 4.0, 8: 20.0}),
    ]
    best = chosen(timed)
    assert best is timed[1]
    told = sentence(timed, best, "top-1", 1.0)
    assert "INT8 does not pay here: 889 samples a second, 2,000 in FP16" in told
    faster = [candidate("int8", 0.4, 26, {8: 2.0}), *timed[1:]]
    assert chosen(faster) is faster[0]
    assert "does not pay" not in sentence(faster, faster[0], "top-1", 1.0)


def test_what_is_fast_and_misses_the_bound_is_not_taken():
    timed = [candidate("int8", 3.0, 26, {1: 0.1}, holds=False), candidate("fp16", 0.0, 50, {1: 2.5})]
    assert chosen(timed) is timed[1]
    assert "int8 does not hold it" in sentence(timed, timed[1], "top-1", 1.0)


def test_where_none_holds_the_gap_is_told():
    missing = [candidate("int8", 3.0, 26, holds=False), candidate("fp16", 2.5, 50, holds=False)]
    assert chosen(missing) is None
    told = sentence(missing, None, "mAP 50-95", 1.0)
    assert (
        told
        == "no candidate holds the bound: the best, fp16, loses 2.50 points of mAP 50-95, 1.50 more than the 1 allowed"
    )


def test_a_gain_is_called_one():
    better = candidate("int8", -0.4, 26)
    assert "it gains 0.40 points of top-1" in sentence([better], better, "top-1", 0.5)
    assert "it loses 0.40 % of the classes" in sentence([INT8], INT8, "agreement", 0.5)


def record(**precisions):
    operators = [{"node": node, "precision": precision} for node, precision in precisions.items()]
    return {"operators": operators, "options": {"shapes": {}}, "inputs": []}


def test_cost_is_by_what_the_builder_says_each_operator_runs_in():
    macs = {"a": 300, "b": 100}
    assert cost(record(a="INT8", b="INT8"), macs, "int8") == pytest.approx(25)
    assert cost(record(a="FP16", b="INT8"), macs, "int8") == pytest.approx(100 * (300 * 16 + 100 * 8) / (400 * 32))
    assert cost(record(a=None), macs, "int8") == pytest.approx(50)  # what is not known of an INT8 build is FP16
    assert cost(record(), macs, "fp32") == pytest.approx(100)
    assert share_of_int8(record(a="INT8", b="FP16")) == pytest.approx(50)
    assert share_of_int8(record(a="INT8", b=None)) is None and share_of_int8(record()) is None


def test_batches_that_are_timed():
    fixed = {"options": {"shapes": {}}, "inputs": [{"shape": [4, 3, 8, 8]}]}
    assert batch_sizes(fixed) == [4]
    profile = {"min": [1, 3, 8, 8], "opt": [8, 3, 8, 8], "max": [32, 3, 8, 8]}
    assert batch_sizes({"options": {"shapes": {"x": profile}}, "inputs": [{"shape": [-1, 3, 8, 8]}]}) == [1, 8]
