"""Statistics of what a function runs: those of the same batches given to `collect`, and no thread left waiting."""

import threading

import numpy as np
import pytest

from calibrators.batches import IMAGE, Batch
from calibrators.errors import DataError, ModelError
from engines.collection.collect import collect
from engines.collection.observed_session import AHEAD, observed
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier, samples_of


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert [each for each in threading.enumerate() if each not in before and "observed" in each.name] == []


@pytest.mark.parametrize("size", [1, 3, 12])
def test_the_statistics_are_those_of_the_batches(size):
    model = classifier()
    batches = samples_of(model, 12)
    expected = collect(model, batches, tensors="quantizable")
    seen = []

    def use(session):
        for start in range(0, 12, size):
            array = np.concatenate([batch["image"] for batch in batches[start : start + size]])
            seen.append(session.run({IMAGE: array})["scores"])
            array[:] = np.nan  # the caller's own again

    found = observed(model, use)
    assert found == expected
    assert found.groups == expected.groups and found.provenance.count == 12
    with OnnxRuntimeSession(model) as session:
        scores = session.run({"image": np.concatenate([batch["image"] for batch in batches])})["scores"]
    np.testing.assert_allclose(np.concatenate(seen), scores, rtol=1e-4, atol=1e-5)


def test_the_session_is_one():
    def use(session):
        with session as same, OnnxRuntimeSession(model) as plain:
            assert (same.inputs, same.outputs) == (plain.inputs, plain.outputs)
        session.run(batch)  # it is open as long as the function runs

    model = classifier()
    (batch,) = samples_of(model, 1)
    assert observed(model, use).provenance.count == 1


def test_batches_come_from_any_threads():
    model = classifier()
    batches = samples_of(model, 16)

    def use(session):
        threads = [threading.Thread(target=session.run, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert observed(model, use) == collect(model, batches, tensors="quantizable")


@pytest.mark.parametrize("after", [0, 1, 3 * AHEAD])
@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
def test_what_the_function_raises_comes_out(after, error):
    model = classifier()
    batches = samples_of(model, after)

    def use(session):
        for batch in batches:
            session.run(batch)
        raise error

    with pytest.raises(type(error)) as raised:
        observed(model, use)
    assert raised.value is error


def test_a_function_that_runs_nothing_is_told():
    with pytest.raises(DataError, match="the callback ran nothing"):
        observed(classifier(), lambda session: None)


@pytest.mark.parametrize("swallowed", [True, False])
def test_a_sample_that_gives_nan_is_named(swallowed):
    """Even where the function itself goes on as if nothing had been."""
    model = classifier()
    bad = Batch({"image": np.full((1, 3, 16, 16), np.nan, np.float32)}, names=["broken.png"])

    def use(session):
        for _ in range(5 * AHEAD):
            try:
                session.run(bad)
            except DataError:
                if not swallowed:
                    raise

    with pytest.raises(DataError, match=r"NaN.*broken\.png"):
        observed(model, use)


def test_a_batch_that_does_not_fit_is_the_functions_to_handle():
    model = classifier()
    (batch,) = samples_of(model, 1)

    def use(session):
        with pytest.raises(DataError, match="the model takes"):
            session.run({"image": np.zeros((1, 3, 8, 8), np.float32)})
        session.run(batch)

    assert observed(model, use).provenance.count == 1


def test_a_model_with_nothing_to_quantize_is_refused():
    net = Net()
    net.node("Relu", net.input(), "y")
    model = net.model("y")
    for use in (lambda session: None, lambda session: session.run(samples_of(model, 1)[0])):
        with pytest.raises(ModelError, match="no layer to quantize"):
            observed(model, use)


def test_the_session_is_over_with_the_function():
    model = classifier()
    (batch,) = samples_of(model, 1)
    kept = []

    def use(session):
        kept.append(session)
        session.run(batch)

    observed(model, use)
    with pytest.raises(ModelError, match="is over"):
        kept[0].run(batch)


def test_progress_counts_samples():
    model = classifier()
    done = []
    observed(
        model, lambda session: [session.run(batch) for batch in samples_of(model, 6, batch=2)], progress=done.append
    )
    assert sum(done) == 6
