"""What quantization does to each layer of a model, from images: the errors of all in INT8, and the harm of each."""

import os
from contextlib import nullcontext
from dataclasses import dataclass

from calibrators.files import require_outputs
from engines.graph import files_of
from engines.simulation import Simulation
from trtcal.config import QuantConfig
from trtcal.holdout import TEST_COUNT
from trtcal.images import OnBadImage, PathLike
from trtcal.judging import Judging, Step, calibrated
from trtcal.layer_errors import ErrorReport, errors_by_layer
from trtcal.layer_forms import LayerForms, layer_forms
from trtcal.pipeline import COUNT
from trtcal.preprocess import Preprocess
from trtcal.sensitivity import Sensitivity, criterion_named, rank_layers, trial_forms
from trtcal.trial_cache import TrialCache, trial_context, trial_key
from trtcal.trials import Trials


@dataclass(frozen=True, slots=True)
class LayerAnalysis:
    """An analysis of a model's layers, and what it rests on.

    Attributes:
        judging: The images, and the statistics.
        forms: How each layer is quantized.
        unused: Rules of the configuration that no layer fits.
        errors: Of all layers in INT8.
        sensitivity: The layers, the most harmful first; None where only errors were asked for.
        known: How many trials were found in the file of trials.
        tried: How many were not, and were run.
    """

    judging: Judging
    forms: LayerForms
    unused: tuple[str, ...]
    errors: ErrorReport
    sensitivity: Sensitivity | None = None
    known: int = 0
    tried: int = 0


def analyse_layers(
    model: str | os.PathLike[str],
    images: PathLike,
    *,
    method: str = "entropy",
    config: PathLike | QuantConfig | None = None,
    criterion: str | None = None,
    errors_only: bool = False,
    resume: PathLike | None = None,
    test_images: PathLike | None = None,
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    labels: PathLike | None = None,
    batch_size: int = 8,
    seed: int = 0,
    on_bad_image: OnBadImage = "error",
    step: Step | None = None,
) -> LayerAnalysis:
    """Calibrate on some images, and judge each layer of the model in INT8 by others.

    Args:
        model: The float model.
        images: What to calibrate on, and to judge by; the options for it are those of `trtcal.judging.calibrated`.
        method: How ranges are chosen.
        config: How layers are quantized, or a TOML file of it; None has all in INT8.
        criterion: What layers are ranked by: "top-1", "agreement" or "SQNR"; None takes the first that the model and
            the images have.
        errors_only: Leave out the trials of each layer.
        resume: A file of trials, read where it is there, and written as the work goes on.
        test_images: What to judge by instead.
        preprocess: As `ImageLoader` has it.
        count: How many images to calibrate on at most.
        test_count: How many to judge by at most.
        labels: Of the images to judge by.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images.
        on_bad_image: "error" or "skip".
        step: Shows progress.

    Raises:
        CacheError: The file of trials is there, and is none.
        TrtcalError: As `calibrated`, `layer_forms`, `errors_by_layer` and `rank_layers` raise it.
    """
    step = step or (lambda name, total: nullcontext(lambda done: None))
    settings = config if isinstance(config, QuantConfig) or config is None else QuantConfig.load(config)
    if resume is not None:
        require_outputs([resume], inputs=files_of(model))
    with TrialCache(resume) as cache:
        simulation = Simulation(model)
        resolved = None if settings is None else settings.settings(simulation.layers)
        judging = calibrated(
            model,
            images,
            step=step,
            test_images=test_images,
            preprocess=preprocess,
            count=count,
            test_count=test_count,
            labels=labels,
            batch_size=batch_size,
            seed=seed,
            tensors="quantizable",
            on_bad_image=on_bad_image,
        )
        test, labelled = judging.parts.test, judging.labelled
        forms = layer_forms(simulation, judging.statistics, method, None if resolved is None else resolved.layers)
        unused = () if resolved is None else resolved.unused
        with step("Comparing layers", test.count) as advance:
            errors = errors_by_layer(
                simulation, forms.forms, test, statistics=judging.statistics, labelled=labelled, progress=advance
            )
        if errors_only:
            return LayerAnalysis(judging, forms, unused, errors)
        context = trial_context(simulation, test, labelled=labelled)
        keys = {trial_key(context, each) for each in trial_forms(forms)}
        known = sum(key in cache for key in keys)
        with step("Trying layers", test.count * (1 + len(keys) - known)) as advance:
            trials = Trials(simulation, test, labelled=labelled, progress=advance)
            chosen = criterion_named(criterion, trials)
            ranking = rank_layers(trials, forms, context=context, cache=cache, criterion=chosen)
        return LayerAnalysis(judging, forms, unused, errors, ranking, known, len(keys) - known)
