"""Which optimization profile runs a number of samples, and how many at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import TensorSpec
from calibrators.errors import EngineError
from engines.sessions.engine_io import Choice, EngineIO, Range


def io_of(*profiles):
    """An input of samples of 3 numbers; profiles are (minimum, optimum, maximum) of the batch."""
    ranges = tuple({"x": Range(*((batch, 3) for batch in batches))} for batches in profiles)
    return EngineIO((TensorSpec("x", (None, 3), np.dtype(np.float32)),), (), ranges)


def choose(io, count, size=3):
    return io.choose({"x": np.zeros((count, size), np.float32)}, name="m.engine")


@pytest.mark.parametrize(
    ("count", "choice"),
    [
        (1, Choice(0, 1, 2)),  # the only one that repeats nothing
        (2, Choice(0, 1, 2)),
        (3, Choice(1, 4, 16)),  # one run, filled, rather than two
        (4, Choice(1, 4, 16)),
        (16, Choice(1, 4, 16)),
        (40, Choice(1, 4, 16)),
    ],
)
def test_fewest_runs_then_fewest_repeats(count, choice):
    assert choose(io_of((1, 1, 2), (4, 8, 16)), count) == choice


def test_the_nearest_optimum_decides_between_equals():
    io = io_of((1, 1, 32), (1, 16, 32), (1, 32, 32))
    assert [choose(io, count).profile for count in (1, 7, 12, 30)] == [0, 0, 1, 2]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
    st.integers(1, 50),
)
def test_what_is_chosen_is_a_profile_that_holds_its_runs(sizes, count):
    profiles = [(low, low + best, low + best + high) for low, best, high in sizes]
    choice = choose(io_of(*profiles), count)
    low, _, high = profiles[choice.profile]
    assert (choice.fewest, choice.most) == (low, high)
    assert -(-count // high) == min(-(-count // most) for _, _, most in profiles)


def test_two_inputs_share_the_batch():
    ranges = {"a": Range((1, 2), (4, 2), (8, 2)), "b": Range((2, 5), (2, 5), (6, 5))}
    specs = tuple(TensorSpec(name, (None, size), np.dtype(np.float32)) for name, size in (("a", 2), ("b", 5)))
    io = EngineIO(specs, (), (ranges,))
    feed = {"a": np.zeros((7, 2)), "b": np.zeros((7, 5))}
    assert io.choose(feed, name="m") == Choice(0, 2, 6)
    with pytest.raises(
        EngineError, match=r"m was built for a:1x2\.\.4x2\.\.8x2, b:2x5\.\.2x5\.\.6x5, not a:7x2, b:7x5"
    ):
        io.require(feed, name="m")
    io.require({name: array[:6] for name, array in feed.items()}, name="m")


def test_ranges_are_written_as_shapes_are_given():
    assert str(Range((1, 3), (2, 3), (4, 3))) == "1x3..2x3..4x3"
    assert str(Range((4, 3), (4, 3), (4, 3))) == "4x3"


def test_a_shape_that_no_profile_has():
    with pytest.raises(
        EngineError, match=r"profile 0: x:1x3\.\.1x3\.\.2x3; profile 1: x:4x3\.\.8x3\.\.16x3, not x:1x7"
    ):
        choose(io_of((1, 1, 2), (4, 8, 16)), 1, size=7)
