"""What quantization does to each layer of a model, from images: the errors of all in INT8, and the harm of each."""

import os
from dataclasses import dataclass

from calibrators.tabular import Row, Tabular
from engines.simulation.simulated_model import Simulation
from trtcal.analysis.errors.error_report import ErrorReport, errors_by_layer
from trtcal.analysis.judging import Judging
from trtcal.analysis.ranking import planned_samples, rank_layers
from trtcal.analysis.sensitivity import Sensitivity, criterion_named
from trtcal.analysis.step import Step, unshown
from trtcal.analysis.trial_cache import TrialCache, trial_context
from trtcal.analysis.trials import MEMORY, Trials
from trtcal.charts import specs
from trtcal.charts.chart import Chart
from trtcal.config.layer_forms import LayerForms, layer_forms
from trtcal.config.settings import QuantConfig
from trtcal.pipeline import require_same_model


@dataclass(frozen=True, slots=True)
class LayerAnalysis(Tabular):
    """An analysis of a model's layers, and what it rests on.

    Attributes:
        judging: The images, and the statistics.
        forms: How each layer is quantized.
        rule_notes: Of rules of the configuration that come to nothing.
        errors: Of all layers in INT8.
        sensitivity: The layers, the most harmful first; None where only errors were asked for.
        known: How many trials were in the cache.
        tried: How many were not, and were run.
    """

    judging: Judging
    forms: LayerForms
    rule_notes: tuple[str, ...]
    errors: ErrorReport
    sensitivity: Sensitivity | None = None
    known: int = 0
    tried: int = 0

    def plot(self) -> Chart:
        """What each layer alone in INT8 leaves of the outputs; where no layer was tried, what each gives.

        SQNR in dB, the lowest first.
        """
        if self.sensitivity is not None:
            return self.sensitivity.plot()
        rows = [
            {"layer": each.layer.name, "type": each.layer.type, "sqnr": each.gives.sqnr} for each in self.errors.layers
        ]
        return Chart(
            "Errors by layer", specs.layers(sorted(rows, key=lambda row: row["sqnr"]), "SQNR of what it gives, dB")
        )

    def rows(self) -> list[Row]:
        """A row a layer: the ranking beside the errors of the same layer; only these, where no layer was tried."""
        errors = self.errors.rows()
        if self.sensitivity is None:
            return errors
        known = {row["layer"]: row for row in errors}
        nothing: Row = dict.fromkeys(errors[0])
        return [{**known.get(row["layer"], nothing), **row} for row in self.sensitivity.rows()]


def analyse_layers(
    model: str | os.PathLike[str],
    judging: Judging,
    *,
    method: str | None = None,
    config: QuantConfig | None = None,
    criterion: str | None = None,
    errors_only: bool = False,
    exhaustive: bool = False,
    memory: int = MEMORY,
    cache: TrialCache | None = None,
    step: Step | None = None,
) -> LayerAnalysis:
    """Judge each layer of a model in INT8 by images that were not calibrated on.

    Args:
        model: The float model.
        judging: What it was calibrated on and is judged by, from `trtcal.analysis.judging.calibrated`.
        method: How ranges are chosen; None takes that of `judging`.
        config: How layers are quantized; None has all in INT8.
        criterion: What layers are ranked by: "top-1", "agreement" or "SQNR"; None takes the first that the model and
            the images have.
        errors_only: Leave out the trials of each layer.
        exhaustive: Run every trial on all images, and predict none (`trtcal.analysis.ranking`).
        memory: Bytes that may be kept of what trials have in common; what does not fit is computed again.
        cache: Where scores of trials are looked up, and kept as soon as they are known; None keeps none.
        step: Shows progress.

    Raises:
        CacheMismatchError: The statistics are another model's.
        TrtcalError: As `layer_forms`, `errors_by_layer`, `criterion_named` and `rank_layers` raise it.
    """
    step = step or unshown
    require_same_model(judging.statistics, model)
    cache = TrialCache() if cache is None else cache
    simulation = Simulation(model)
    resolved = (config or QuantConfig()).settings(simulation.layers)
    forms = layer_forms(simulation, judging.statistics, method or judging.method, resolved.layers)
    test, labelled = judging.parts.test, judging.labelled
    with step("Comparing layers", test.count) as advance:
        errors = errors_by_layer(
            simulation,
            forms.forms,
            test,
            statistics=judging.statistics,
            labelled=labelled,
            task=judging.task,
            progress=advance,
        )
    if errors_only:
        return LayerAnalysis(judging, forms, resolved.notes, errors)
    context = trial_context(simulation, test, labelled=labelled, task=judging.task)
    with step("Running the float model", test.count) as advance:
        trials = Trials(simulation, test, labelled=labelled, task=judging.task, memory=memory, progress=advance)
    chosen = criterion_named(criterion, trials)
    with step("Trying layers", planned_samples(trials, forms, exhaustive=exhaustive)) as advance:
        trials.progress = advance
        ranking = rank_layers(trials, forms, context=context, cache=cache, criterion=chosen, exhaustive=exhaustive)
    return LayerAnalysis(judging, forms, resolved.notes, errors, ranking, ranking.known, ranking.tried)
