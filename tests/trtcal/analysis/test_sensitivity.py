"""Which layers hurt: a planted one is found, ties and chance are told, and what was interrupted goes on."""

import json
import math
from dataclasses import replace
from functools import partial

import pytest

from calibrators.errors import DataError
from engines.simulation.simulated_model import LayerForm
from tests.trtcal.planted import formed, network, opened, rescaled, samples, stored
from trtcal.analysis.ranking import rank_layers as ranked
from trtcal.analysis.ranking import trial_forms
from trtcal.analysis.sensitivity import criterion_named
from trtcal.analysis.trial_cache import TrialCache, trial_context, trial_key
from trtcal.analysis.trials import Trials
from trtcal.config.layer_forms import LayerForms
from trtcal.config.settings import QuantConfig
from trtcal.measure.chance import beyond_chance, lost
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share
from trtcal.tables.console import as_json

rank_layers = partial(ranked, exhaustive=True)
"""All trials, on all images."""


@pytest.fixture
def work(tmp_path):
    """Trials of a model on 40 samples, labelled by the float model itself, and the forms of its layers."""

    def made(model, *, labelled=True, size=8, config=None):
        simulation, _, forms = formed(model, samples(64), config=config)
        path = stored(tmp_path, samples(40, seed=1))
        trials = Trials(simulation, opened(model, path))
        if labelled:
            labels = [int(row.argmax()) for batch in trials._expected for row in batch["scores"]]
            trials = Trials(simulation, opened(model, stored(tmp_path, samples(40, seed=1), labels), size))
        return trials, forms

    return made


def test_the_layer_that_was_broken_comes_first(work):
    trials, forms = work(rescaled())
    found = rank_layers(trials, forms)
    first = found.layers[0]
    assert (found.criterion, first.layer.name, first.rank, first.rest_rank) == ("top-1", "b/Conv", 1, 1)
    assert beyond_chance(first.alone)
    assert first.alone.drop > 10
    assert max(first.activation.distortion.sqnr, first.weight.distortion.sqnr) < 10
    assert first.rest.distortion.sqnr > found.whole.distortion.sqnr + 10
    assert [each.rank for each in found.layers] == [1, 2, 3]
    assert found.reference.top1.percent == 100


def test_activations_and_weights_are_told_apart(work):
    """One layer has weights of 2 bits, another an input of 3."""
    config = QuantConfig().add_type_config("MatMul", weight_bits=2).add_layer_config("b/Conv", activation_bits=3)
    trials, forms = work(network(), config=config)
    found = {each.layer.name: each for each in rank_layers(trials, forms).layers}
    matmul, conv = found["products/MatMul"], found["b/Conv"]
    assert matmul.activation.distortion.sqnr > matmul.weight.distortion.sqnr + 20
    assert conv.weight.distortion.sqnr > conv.activation.distortion.sqnr + 10
    assert {each.layer.name for each in found.values() if each.rank < 3} == {"products/MatMul", "b/Conv"}


def test_each_score_is_that_of_its_version(work):
    trials, forms = work(network())
    found = {each.layer.name: each for each in rank_layers(trials, forms).layers}
    form = forms.forms["b/Conv"]
    others = {name: each for name, each in forms.forms.items() if name != "b/Conv"}
    assert found["b/Conv"].alone == trials.score({"b/Conv": form})
    assert found["b/Conv"].activation == trials.score({"b/Conv": LayerForm(activation=form.activation)})
    assert found["b/Conv"].weight == trials.score({"b/Conv": LayerForm(weight=form.weight)})
    assert found["b/Conv"].rest == trials.score(others)


def test_the_batch_size_changes_nothing(work):
    one, other = (rank_layers(*work(network(), size=size)) for size in (1, 16))
    assert one.to_dict() == other.to_dict()


@pytest.mark.parametrize("criterion", ["top-1", "agreement", "SQNR"])
def test_by_any_criterion(work, criterion):
    trials, forms = work(rescaled())
    found = rank_layers(trials, forms, criterion=criterion)
    assert (found.criterion, found.layers[0].layer.name) == (criterion, "b/Conv")
    json.loads(as_json(found.to_dict()))


def test_without_labels_it_is_agreement(work):
    trials, forms = work(network(), labelled=False)
    found = rank_layers(trials, forms)
    assert (found.criterion, found.by_chance) == ("agreement", 0)
    assert found.layers[0].to_dict()["alone"]["drop"] is None
    with pytest.raises(DataError, match="have no labels"):
        criterion_named("top-1", trials)
    assert criterion_named("SQNR", trials) == "SQNR"
    assert criterion_named(None, trials) == "agreement"
    with pytest.raises(DataError, match="not ranked by 'loss'"):
        criterion_named("loss", trials)


def test_an_interrupted_run_goes_on_and_ends_the_same(work, tmp_path, monkeypatch):
    trials, forms = work(rescaled())
    expected = rank_layers(trials, forms)
    context, path = trial_context(trials.simulation, trials._images._loader), tmp_path / "trials.json"
    scored, run = Trials.score, []

    def interrupted(self, each, **options):
        if len(run) == 5:
            raise KeyboardInterrupt
        run.append(each)
        return scored(self, each, **options)

    monkeypatch.setattr(Trials, "score", interrupted)
    with pytest.raises(KeyboardInterrupt), TrialCache(path) as cache:
        rank_layers(trials, forms, context=context, cache=cache)
    monkeypatch.setattr(
        Trials, "score", lambda self, each, **options: (run.append(each), scored(self, each, **options))[1]
    )
    with TrialCache(path) as cache:
        assert len(cache) == 5
        found = rank_layers(trials, forms, context=context, cache=cache)
    assert found.to_dict() == expected.to_dict()
    assert len(run) == len(list(trial_forms(forms))) == 13
    with TrialCache(path) as cache:
        again = rank_layers(trials, forms, context=context, cache=cache)
    assert len(run) == 13
    assert again.to_dict() == expected.to_dict()


def test_what_stays_in_float_stays_so_in_every_trial(work):
    trials, forms = work(network())
    half = LayerForm(half=True)
    some = LayerForms({**forms.forms, "a/Conv": half}, ("b/Conv", "products/MatMul"), {"a/Conv": "for a test"})
    found = rank_layers(trials, some)
    assert [each.layer.name for each in sorted(found.layers, key=lambda each: each.layer.name)] == list(some.quantized)
    assert all(each["a/Conv"] == half for each in trial_forms(some))
    assert found.to_dict()["left_float"] == {"a/Conv": "for a test"}
    with pytest.raises(DataError, match="no layer is quantized"):
        rank_layers(trials, replace(some, quantized=()))


def test_layers_that_do_the_same_harm_share_a_rank(work):
    trials, forms = work(network())
    same = Score(samples=40, classes=4, top1=Share(40, 40), distortions={"scores": Distortion(1.0, 0.1)})
    found = rank_layers(trials, forms, cache=_Fixed({}, same))
    assert [each.rank for each in found.layers] == [each.rest_rank for each in found.layers] == [1, 1, 1]
    assert [each.layer.name for each in found.layers] == list(forms.quantized)  # in topological order
    assert found.close == 2


class _Fixed(TrialCache):
    """Has a score for every trial."""

    def __init__(self, known, otherwise):
        super().__init__()
        self.known, self.otherwise = known, otherwise

    def get(self, key):
        return self.known.get(key, self.otherwise)


def compared(losses, gains, total=500, noise=0.1):
    return Score(
        samples=total, classes=10, top1=Share(total - losses, total), agreement=Share(total - losses, total),
        lost=losses, gained=gains, distortions={"y": Distortion(1.0, noise)},
    )  # fmt: skip


def test_rows_have_the_sqnr_of_the_worst_output_in_each_trial(work):
    """A sum over boxes and scores, which hides what the scores lose, stands nowhere."""
    trials, forms = work(network())
    apart = {"boxes": Distortion(1e6, 1.0), "scores": Distortion(1.0, 0.1)}
    (row, *_) = rank_layers(trials, forms, cache=_Fixed({}, replace(compared(0, 0), distortions=apart))).rows()
    told = ("sqnr_db", "only_input_sqnr_db", "only_weight_sqnr_db", "all_but_sqnr_db")
    assert [row[column] for column in told] == [pytest.approx(10)] * 4


@pytest.mark.parametrize("criterion", ["top-1", "agreement"])
def test_a_drop_that_may_be_chance_counts_as_none(work, criterion):
    trials, forms = work(network())
    alone = {
        "a/Conv": compared(1, 0, noise=0.01),
        "b/Conv": compared(0, 0, noise=0.5),
        "products/MatMul": compared(9, 0),
    }
    known = {trial_key("", {name: forms.forms[name]}): score for name, score in alone.items()}
    found = rank_layers(trials, forms, cache=_Fixed(known, compared(0, 0)), criterion=criterion)
    assert [each.layer.name for each in found.layers] == ["products/MatMul", "b/Conv", "a/Conv"]
    assert (found.by_chance, lost(found.layers[2].alone), beyond_chance(found.layers[0].alone)) == (1, 1, True)
    assert found.close == 0


def test_outputs_that_are_no_number_are_the_worst(work):
    trials, forms = work(network())
    broken = replace(compared(0, 0), distortions={"y": Distortion(1.0, math.nan)})
    known = {trial_key("", {"b/Conv": forms.forms["b/Conv"]}): broken}
    assert rank_layers(trials, forms, cache=_Fixed(known, compared(0, 0))).layers[0].layer.name == "b/Conv"
