"""Samples side by side, and two sessions of which the second is used only if it gives the same values."""

import numpy as np
import onnxruntime as ort
import pytest

from calibrators.errors import DataError
from calibrators.statistics.tensor import TensorStatistics
from engines.collection.activation_sessions import Fetch
from engines.collection.counting import Gathering
from engines.graph.samples import Group
from tests.engines.networks import Net

GROUPS = [Group({"x": np.arange(-4, 4, dtype=np.float32)[None] * (place + 1)}, (f"{place}.png",)) for place in range(6)]


class Counting:
    """A session that counts how often it is run."""

    def __init__(self, operator):
        net = Net()
        net.node(operator, net.input(shape=("N", 8)), "y")
        self.session = ort.InferenceSession(net.model("y").SerializeToString(), providers=["CPUExecutionProvider"])
        self.runs = 0

    def run(self, *arguments):
        self.runs += 1
        return self.session.run(*arguments)

    def run_with_iobinding(self, binding):
        self.runs += 1
        return self.session.run_with_iobinding(binding)

    def __getattr__(self, name):
        return getattr(self.session, name)


class Failing(Counting):
    """One that cannot be run."""

    def run(self, *arguments):
        self.runs += 1
        raise RuntimeError("no more memory")

    run_with_iobinding = run


def gathered(plain, other, threads, groups=GROUPS):
    fetches = [None if session is None else Fetch(session, {"y": "y"}) for session in (plain, other)]
    gathering = Gathering(*fetches, inputs=["x"], ceilings={}, turned=frozenset(), size=1, threads=threads)
    return sum(gathering.all_of(groups)), gathering.statistics()


def expected(groups=GROUPS):
    samples = [group.arrays["x"] for group in groups]
    return {"x": TensorStatistics.of(*samples), "y": TensorStatistics.of(*(np.maximum(each, 0) for each in samples))}


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    return request.param


def test_every_sample_is_counted_once(threads):
    assert gathered(Counting("Relu"), None, threads) == (6, expected())


def test_another_session_with_the_same_values_takes_over(threads):
    plain, other = Counting("Relu"), Counting("Relu")
    assert gathered(plain, other, threads) == (6, expected())
    assert (plain.runs, other.runs) == (1, 6)


@pytest.mark.parametrize("kind", [lambda: Counting("Abs"), lambda: Failing("Relu")])
def test_another_session_with_other_values_or_none_is_let_go(kind, threads):
    plain, other = Counting("Relu"), kind()
    assert gathered(plain, other, threads) == (6, expected())
    assert plain.runs == 6
    assert 1 <= other.runs <= 2


def test_a_single_sample(threads):
    assert gathered(Counting("Relu"), Counting("Relu"), threads, GROUPS[:1]) == (1, expected(GROUPS[:1]))


def test_no_sample(threads):
    fetches = [Fetch(Counting("Relu"), {"y": "y"}) for _ in range(2)]
    gathering = Gathering(*fetches, inputs=[], ceilings={}, turned=frozenset(), size=1, threads=threads)
    assert list(gathering.all_of([])) == []


def test_a_first_sample_that_does_not_run_names_itself(threads):
    with pytest.raises(DataError, match=r"could not run the model on 0\.png: no more memory"):
        gathered(Failing("Relu"), Counting("Relu"), threads)


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_value_that_is_none_names_its_sample(place, threads):
    groups = list(GROUPS)
    groups[place] = Group({"x": np.full((1, 8), np.nan, np.float32)}, groups[place].names)
    with pytest.raises(DataError, match=rf"the activation x is NaN for {place}\.png"):
        gathered(Counting("Relu"), Counting("Relu"), threads, groups)
