"""Ranks layers by what quantization of each does: by trials of every version, or by few trials and what follows.

Four versions tell of a layer: it alone quantized, its input only, its weight only, and all layers but it. To first
order the differences that layers make at a model's outputs add up, so that two of them need no run::

    weight only   = alone - input only
    all but it    = all   - alone

(differences of outputs from the float model's, sample by sample). What is predicted so is marked, and checked: for the
`CHECKED` most harmful layers these versions are run, and where a prediction is off by more than `OFF` dB, they are run
for all layers.

An activation's rounding is another one where the layers before are quantized, too: `all` less `alone` then has this
layer's rounding twice instead of not at all. So "all but it" is run for each layer that does not stay `APART` dB behind
all together, and the prediction is checked on the next ones.

What a layer does alone is always measured, at first on `FEW` samples. On all samples it is measured where the order is
open: for the `OPEN` most harmful layers, for those that are within `MARGIN` dB of them, and, where layers are ranked by
what is lost, for every layer that loses something, and those of no higher SQNR than one of these.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from calibrators.errors import DataError
from engines.simulation.simulated_model import LayerForm
from trtcal.analysis.sensitivity import LayerSensitivity, Part, Sensitivity, harm, kept
from trtcal.analysis.trial_cache import TrialCache, trial_key
from trtcal.analysis.trials import Outputs, Trials
from trtcal.config.layer_forms import LayerForms
from trtcal.measure.chance import Criterion, sqnr_of
from trtcal.measure.measures import Score

FEW = 8
"""Samples that layers are first tried on."""

OPEN = 10
"""Layers whose order is told by all samples, the most harmful ones."""

MARGIN = 1.0
"""dB that a layer's SQNR on few samples may be off by (seen: 1.1 for one layer of 63, else less than 0.5)."""

CHECKED = 3
"""Layers for which what is predicted of others is run."""

OFF = 1.0
"""dB that a prediction may be off by."""

PREDICTED = "/predicted"
"""Part of the key of a score that was predicted."""

PARTS: tuple[Part, ...] = ("alone", "activation", "weight", "rest")

APART = 10.0
"""dB between a layer's SQNR alone and that of all together, from which on leaving it out is a small change: its noise
is a tenth of theirs at most, and a prediction off by less than 1 dB."""

Found = dict[Part, Score]


def trial_forms(forms: LayerForms) -> Iterator[Mapping[str, LayerForm]]:
    """The versions of a model that are tried where every one is; some may be the same."""
    yield forms.forms
    for name in forms.quantized:
        yield from _forms_of(forms, name).values()


def planned_samples(trials: Trials, forms: LayerForms, *, exhaustive: bool) -> int:
    """How many samples `rank_layers` runs, about."""
    layers = len(forms.quantized)
    if exhaustive:
        return trials.samples * len({trial_key("", each) for each in trial_forms(forms)})
    further = min(OPEN, layers) * trials.samples if trials.samples > FEW else 0
    few = min(FEW, trials.samples)
    return trials.samples + few * (1 + 2 * layers + 2 * min(CHECKED, layers)) + further


def rank_layers(
    trials: Trials,
    forms: LayerForms,
    *,
    context: str = "",
    cache: TrialCache | None = None,
    criterion: Criterion | None = None,
    exhaustive: bool = False,
) -> Sensitivity:
    """Try each layer of a model alone in INT8, its input and its weight apart, and all layers but it.

    Args:
        trials: Of the model.
        forms: Of its layers.
        context: Of the trials, as `trtcal.analysis.trial_cache.trial_context` gives it; without it, of this model and
            these images only.
        cache: Where scores are looked up, and kept as soon as they are known; None keeps none.
        criterion: What layers are ranked by; None takes that of the trials.
        exhaustive: Run every version on all samples, and predict nothing.

    Raises:
        DataError: No layer is quantized.
        ModelError: A version does not run.
        OutputError: The cache cannot be written.
    """
    if not forms.quantized:
        raise DataError("no layer is quantized, so there is none to try: quantize one at least")
    criterion = criterion or trials.criterion
    scores = _Scores(trials, TrialCache() if cache is None else cache, context)
    whole = scores.measured(forms.forms)
    found = _every(scores, forms) if exhaustive else _few(scores, forms, criterion)
    keys = {name: _key(each, trials.samples, criterion) for name, each in found.items()}
    gains = {name: harm(each.scores["rest"], criterion) for name, each in found.items()}
    layers = {layer.name: layer for layer in trials.simulation.layers}
    ranked = tuple(
        LayerSensitivity(
            layers[name],
            rank=1 + sum(each < keys[name] for each in keys.values()),
            rest_rank=1 + sum(each > gains[name] for each in gains.values()),
            alone=found[name].scores["alone"],
            activation=found[name].scores["activation"],
            weight=found[name].scores.get("weight"),
            rest=found[name].scores["rest"],
            predicted=frozenset(found[name].predicted),
        )
        for name in sorted(found, key=keys.__getitem__)
    )
    return Sensitivity(ranked, criterion, trials.reference, whole, forms.left, scores.known, scores.tried)


@dataclass(slots=True)
class _Layer:
    """What is known of a layer, and which of it is predicted."""

    scores: Found = field(default_factory=dict)
    predicted: set[Part] = field(default_factory=set)


class _Scores:
    """Scores of versions: from the cache, or measured and kept there."""

    def __init__(self, trials: Trials, cache: TrialCache, context: str) -> None:
        self.trials = trials
        self.few = min(FEW, trials.samples)
        self._cache, self._context = cache, context
        self.tried = 0
        self._found, self._own = set[str](), set[str]()

    @property
    def known(self) -> int:
        """How many scores were known before."""
        return len(self._found)

    def measured(self, forms: Mapping[str, LayerForm], first: int | None = None) -> Score:
        """On the first samples, or on all."""
        known = self.of(forms, first)
        if known is not None:
            return known
        self.tried += 1
        return self.keep(forms, first, self.trials.score(forms, first=first))

    def of(self, forms: Mapping[str, LayerForm], first: int | None, kind: str = "") -> Score | None:
        """What is in the cache."""
        key = self._key(forms, first, kind)
        known = self._cache.get(key)
        if known is not None and key not in self._own:
            self._found.add(key)
        return known

    def keep(self, forms: Mapping[str, LayerForm], first: int | None, score: Score, kind: str = "") -> Score:
        """Put a score into the cache, and give it."""
        key = self._key(forms, first, kind)
        self._own.add(key)
        self._cache.put(key, score)
        return score

    def _key(self, forms: Mapping[str, LayerForm], first: int | None, kind: str) -> str:
        on = "" if first is None or first >= self.trials.samples else f"/first {first}"
        return trial_key(f"{self._context}{on}{kind}", forms)


def _every(scores: _Scores, forms: LayerForms) -> dict[str, _Layer]:
    """All versions on all samples; those of a kind after one another, as they have most in common."""
    found = {name: _Layer() for name in forms.quantized}
    for part in PARTS:
        for name, layer in found.items():
            tried = _forms_of(forms, name)
            if part in tried:
                layer.scores[part] = scores.measured(tried[part])
    return {name: found[name] for name in forms.quantized}


def _few(scores: _Scores, forms: LayerForms, criterion: Criterion) -> dict[str, _Layer]:
    """Few versions on few samples, and more where it matters."""
    predictions = _Predictions(scores, forms)
    found = {name: predictions.of(name) for name in forms.quantized}
    first = {name: each.scores["alone"] for name, each in found.items()}
    worst = sorted(first, key=lambda name: harm(first[name], criterion))
    bound = sqnr_of(predictions.whole()) + APART
    large = [name for name in worst if sqnr_of(first[name]) < bound]
    for name in large:
        _run(scores, forms, found, name, "rest")
    small = [name for name in worst if name not in large]
    to_check: dict[Part, list[str]] = {"weight": worst[:CHECKED], "rest": small[:CHECKED]}
    for part, names in to_check.items():
        if not _checked(scores, forms, found, names, part):
            for each in found:
                _run(scores, forms, found, each, part)
    if scores.few < scores.trials.samples:
        settled = dict[str, Score]()
        while wanted := [name for name in _open(first, settled, criterion) if name not in settled]:
            settled |= {name: scores.measured(_forms_of(forms, name)["alone"]) for name in wanted}
        for name, score in settled.items():
            found[name].scores["alone"] = score
    return found


class _Predictions:
    """Two runs for each layer on few samples, and what follows from them."""

    def __init__(self, scores: _Scores, forms: LayerForms) -> None:
        self._scores, self._forms = scores, forms
        self._whole: Outputs | None = None

    def of(self, name: str) -> _Layer:
        """All four scores of a layer."""
        scores, tried, few = self._scores, _forms_of(self._forms, name), self._scores.few
        known = {part: scores.of(each, few) for part, each in tried.items()}
        measured: Found = {part: each for part, each in known.items() if each is not None}
        guessed = {part: scores.of(tried[part], few, PREDICTED) for part in tried if part not in measured}
        told: Found = {part: each for part, each in guessed.items() if each is not None}
        if len(measured) + len(told) == len(tried):
            return _Layer({part: {**measured, **told}[part] for part in tried}, set(told))
        return self._tried(tried)

    def _tried(self, tried: Mapping[Part, Mapping[str, LayerForm]]) -> _Layer:
        scores, few, layer = self._scores, self._scores.few, _Layer()
        alone = self._outputs(tried["alone"])
        activation = self._outputs(tried["activation"]) if "weight" in tried else alone
        runs: list[tuple[Part, Outputs]] = [("alone", alone), ("activation", activation)]
        for part, outputs in runs:
            layer.scores[part] = scores.keep(tried[part], few, scores.trials.scored(outputs))
        sums: list[tuple[Part, Outputs, Outputs]] = [("weight", alone, activation), ("rest", self._all(), alone)]
        for part, plus, minus in sums:
            if part not in tried:
                continue
            predicted = scores.trials.combined(plus, minus)
            if predicted is None:
                layer.scores[part] = scores.measured(tried[part], few)
            else:
                score = scores.trials.scored(predicted)
                layer.scores[part] = scores.keep(tried[part], few, score, PREDICTED)
                layer.predicted.add(part)
        return layer

    def whole(self) -> Score:
        """With all layers quantized, on few samples."""
        return self._scores.measured(self._forms.forms, self._scores.few)

    def _all(self) -> Outputs:
        if self._whole is None:
            self._whole = self._outputs(self._forms.forms)
            self._scores.keep(self._forms.forms, self._scores.few, self._scores.trials.scored(self._whole))
        return self._whole

    def _outputs(self, forms: Mapping[str, LayerForm]) -> Outputs:
        self._scores.tried += 1
        return self._scores.trials.outputs(forms, first=self._scores.few)


def _checked(scores: _Scores, forms: LayerForms, found: Mapping[str, _Layer], names: Sequence[str], part: Part) -> bool:
    """Run what is predicted of some layers; whether the predictions were good."""
    good = True
    for name in names:
        before = found[name].scores.get(part)
        if _run(scores, forms, found, name, part) and before is not None:
            after = found[name].scores[part]
            good &= sqnr_of(after) == sqnr_of(before) or abs(sqnr_of(after) - sqnr_of(before)) <= OFF
    return good


def _run(scores: _Scores, forms: LayerForms, found: Mapping[str, _Layer], name: str, part: Part) -> bool:
    """Run what is predicted of a layer; whether it was."""
    if part not in found[name].predicted:
        return False
    found[name].scores[part] = scores.measured(_forms_of(forms, name)[part], scores.few)
    found[name].predicted.discard(part)
    return True


def _open(first: Mapping[str, Score], settled: Mapping[str, Score], criterion: Criterion) -> Iterable[str]:
    """Layers to measure on all samples, from what few samples tell, and all samples of the `settled`."""
    known = {**first, **settled}
    order = sorted(map(sqnr_of, first.values()))
    bound = order[min(OPEN, len(order)) - 1] + MARGIN
    lossy = [sqnr_of(first[name]) for name, score in known.items() if kept(score, criterion) < 0]
    bound = max([bound, *lossy])
    return [name for name, score in first.items() if sqnr_of(score) <= bound]


def _key(layer: _Layer, samples: int, criterion: Criterion) -> tuple[float, bool, float]:
    """What a layer is ranked by, the worst first: scores on few samples stand behind those on all."""
    lost, sqnr = harm(layer.scores["alone"], criterion)
    return lost, layer.scores["alone"].samples < samples, sqnr


def _forms_of(forms: LayerForms, name: str) -> dict[Part, dict[str, LayerForm]]:
    """A layer's trials; what is left in float or FP16 stays so in all of them."""
    form = forms.forms[name]
    others = {each: other for each, other in forms.forms.items() if each not in forms.quantized}
    alone: dict[Part, LayerForm] = {"alone": form, "activation": LayerForm(activation=form.activation)}
    if form.weight is not None:
        alone["weight"] = LayerForm(weight=form.weight)
    tried: dict[Part, dict[str, LayerForm]] = {part: {**others, name: each} for part, each in alone.items()}
    return {**tried, "rest": {each: other for each, other in forms.forms.items() if each != name}}
