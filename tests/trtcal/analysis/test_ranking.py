"""Few trials rank layers as all trials do, and say which scores were not run."""

from dataclasses import replace

import pytest

from engines.simulation.simulated_model import LayerForm
from tests.trtcal.planted import formed, network, opened, rescaled, samples, stored
from trtcal.analysis import ranking
from trtcal.analysis.ranking import FEW, planned_samples, rank_layers
from trtcal.analysis.trial_cache import TrialCache, trial_context
from trtcal.analysis.trials import Trials
from trtcal.config.settings import QuantConfig


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Trials of a model on 40 samples, of which the first 8 are few, and the forms of its layers."""

    def trials_of(model, count=40, config=None):
        simulation, _, forms = formed(model, samples(64), config=config)
        path = stored(tmp_path_factory.mktemp("samples"), samples(count, seed=1))
        return Trials(simulation, opened(model, path)), forms

    return trials_of


@pytest.mark.parametrize("model", [network, rescaled])
def test_few_trials_rank_as_all_do(made, model):
    trials, forms = made(model())
    few, every = (rank_layers(trials, forms, criterion="SQNR", exhaustive=each) for each in (False, True))
    assert [each.layer.name for each in few.layers] == [each.layer.name for each in every.layers]
    known = {each.layer.name: each for each in every.layers}
    for each in few.layers:
        assert each.alone == known[each.layer.name].alone
        assert each.activation.samples == each.rest.samples == FEW
    assert not any(each.predicted for each in every.layers)


def test_what_is_predicted_is_near_what_runs(made, monkeypatch):
    monkeypatch.setattr(ranking, "CHECKED", 0)
    monkeypatch.setattr(ranking, "FEW", 200)
    trials, forms = made(network(), 200)
    found = {each.layer.name: each for each in rank_layers(trials, forms, criterion="SQNR").layers}
    assert {name: "rest" in each.predicted for name, each in found.items()} == {
        "a/Conv": True, "b/Conv": False, "products/MatMul": False,  # which make most of the noise
    }  # fmt: skip
    weight = trials.score({"a/Conv": LayerForm(weight=forms.forms["a/Conv"].weight)})
    rest = trials.score({name: form for name, form in forms.forms.items() if name != "a/Conv"})
    assert found["a/Conv"].weight.sqnr == pytest.approx(weight.sqnr, abs=0.5)
    assert found["a/Conv"].rest.sqnr == pytest.approx(rest.sqnr, abs=0.5)
    assert found["a/Conv"].to_dict()["weight"]["predicted"] is found["a/Conv"].to_row()["weight_predicted"] is True
    assert found["a/Conv"].to_dict()["alone"]["predicted"] is False


def test_a_bad_prediction_is_not_told(made, monkeypatch):
    monkeypatch.setattr(ranking, "CHECKED", 1)
    monkeypatch.setattr(ranking, "OFF", -1.0)
    trials, forms = made(network())
    found = rank_layers(trials, forms, criterion="SQNR")
    assert not any(each.predicted for each in found.layers)
    for each in found.layers:
        but = {other: form for other, form in forms.forms.items() if other != each.layer.name}
        assert each.rest == trials.score(but, first=FEW)


def test_layers_that_do_little_stay_on_few_samples(made, monkeypatch):
    monkeypatch.setattr(ranking, "OPEN", 1)
    trials, forms = made(rescaled())
    worst, *others = rank_layers(trials, forms, criterion="SQNR").layers
    assert (worst.layer.name, worst.alone.samples) == ("b/Conv", 40)
    assert all(each.alone.samples == FEW for each in others)
    assert all(
        each.alone == trials.score({each.layer.name: forms.forms[each.layer.name]}, first=FEW) for each in others
    )


def test_layers_that_lose_something_are_tried_on_all_samples(made, monkeypatch):
    monkeypatch.setattr(ranking, "OPEN", 1)
    config = QuantConfig().add_type_config("MatMul", weight_bits=2).add_layer_config("b/Conv", activation_bits=3)
    trials, forms = made(network(), config=config)
    found = rank_layers(trials, forms, criterion="agreement").layers
    losing = [each for each in found if each.alone.agreement.percent < 100]
    assert len(losing) > 1
    assert all(each.alone.samples == 40 for each in losing)


def test_an_interrupted_run_goes_on_and_ends_the_same(made, tmp_path, monkeypatch):
    trials, forms = made(rescaled())
    expected = rank_layers(trials, forms)
    context, path = trial_context(trials.simulation, trials._images._loader), tmp_path / "trials.json"
    outputs, run = Trials.outputs, []

    def interrupted(self, each, *, first):
        if len(run) == 4:
            raise KeyboardInterrupt
        run.append(each)
        return outputs(self, each, first=first)

    monkeypatch.setattr(Trials, "outputs", interrupted)
    with pytest.raises(KeyboardInterrupt), TrialCache(path) as cache:
        rank_layers(trials, forms, context=context, cache=cache)
    monkeypatch.setattr(Trials, "outputs", outputs)
    with TrialCache(path) as cache:
        assert len(cache) > 2
        found = rank_layers(trials, forms, context=context, cache=cache)
    assert found.known > 0
    assert replace(found, known=0, tried=0).to_dict() == expected.to_dict()
    with TrialCache(path) as cache:
        again = rank_layers(trials, forms, context=context, cache=cache)
    assert (again.to_dict(), again.tried) == (expected.to_dict(), 0)


@pytest.mark.parametrize("exhaustive", [False, True])
def test_progress_is_planned(made, exhaustive):
    trials, forms = made(network())
    done = []
    trials.progress = done.append
    rank_layers(trials, forms, criterion="SQNR", exhaustive=exhaustive)
    assert sum(done) == pytest.approx(planned_samples(trials, forms, exhaustive=exhaustive), rel=0.4)
