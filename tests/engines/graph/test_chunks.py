"""Any number of samples through runs of a few: what comes out is as if all had run at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.errors import DataError, ModelError
from engines.graph.chunks import filled, run_in_chunks, sample_count


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 8))
def test_as_if_all_had_run_at_once(count, fewest, more):
    most = fewest + more
    sizes = []

    def run(feed):
        assert {len(array) for array in feed.values()} == {len(feed["a"])}
        sizes.append(len(feed["a"]))
        return {"sum": feed["a"] + feed["b"][:, 0], "b": feed["b"]}

    a, b = np.arange(count), np.arange(2 * count).reshape(count, 2)
    results = run_in_chunks("m", run, {"a": a, "b": b}, fewest=fewest, most=most)
    np.testing.assert_array_equal(results["sum"], a + b[:, 0])
    np.testing.assert_array_equal(results["b"], b)
    assert all(fewest <= size <= most for size in sizes)
    assert len(sizes) == -(-count // most)


def test_repeats_are_the_last_sample():
    np.testing.assert_array_equal(filled(np.array([[1, 2], [3, 4]]), 4), [[1, 2], [3, 4], [3, 4], [3, 4]])
    whole = np.ones((3, 2))
    assert filled(whole, 3) is whole


def test_one_run_may_give_whatever_it_likes():
    results = run_in_chunks("m", lambda feed: {"y": np.array(6)}, {"x": np.ones((2, 3))}, fewest=1, most=2)
    assert results["y"] == 6


@pytest.mark.parametrize("y", [np.array(6), np.ones(5)])
def test_outputs_without_samples(y):
    with pytest.raises(ModelError, match=r"output y of m has no axis of samples .* it takes 1 to 2 at a time: run it"):
        run_in_chunks("m", lambda feed: {"y": y}, {"x": np.ones((3, 3))}, fewest=1, most=2)


def test_samples_are_counted():
    assert sample_count("m", {"a": np.ones((4, 1)), "b": np.ones(4)}) == 4
    for feed, said in (({}, "none"), ({"a": np.ones(0)}, "0 for a"), ({"a": np.ones(2), "b": np.ones(1)}, "1 for b")):
        with pytest.raises(DataError, match=f"m takes one or more samples, as many for every input, not .*{said}"):
            sample_count("m", feed)
