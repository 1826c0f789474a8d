"""Sensitivity from images: calibrate on some, judge each layer by others."""

import os
from typing import Literal

from calibrators.methods.names import AUTO
from trtcal.analysis.auto_method import require_method
from trtcal.analysis.judging import calibrated
from trtcal.analysis.layer_analysis import LayerAnalysis, analyse_layers
from trtcal.analysis.step import Step, unshown
from trtcal.analysis.trial_cache import TrialCache
from trtcal.analysis.trials import MEMORY
from trtcal.config.settings import QuantConfig
from trtcal.data.images import OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import COUNT, TEST_COUNT, ImageChoice
from trtcal.tasks.task import Task, task_given


def sensitivity(
    model: str | os.PathLike[str],
    images: PathLike,
    *,
    test_images: PathLike | None = None,
    labels: PathLike | None = None,
    by: Literal["top-1", "agreement", "task", "SQNR"] | None = None,
    task: Task | None = None,
    errors: bool = False,
    exhaustive: bool = False,
    memory: int = MEMORY,
    resume: str | os.PathLike[str] | None = None,
    method: str = AUTO,
    config: QuantConfig | str | os.PathLike[str] | None = None,
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    batch_size: int = 8,
    seed: int = 0,
    on_bad_image: OnBadImage = "error",
    step: Step | None = None,
) -> LayerAnalysis:
    """Say what INT8 does to each layer of a model, and which layers hurt its outputs.

    Args:
        model: The float model.
        images: What to calibrate on, and to judge by (`trtcal.data.split.parted`).
        test_images: What to judge by instead.
        labels: Of the images to judge by.
        by: What layers are ranked by; None takes the task's measure; or top-1 where there are labels, else agreement;
            SQNR for a model without class scores.
        task: What the model is for; None for `Task()`.
        errors: Leave out the trials of each layer.
        exhaustive: Run every trial on all images, and predict none.
        memory: Bytes that may be kept of what trials have in common; what does not fit is computed again.
        resume: A file in which scores of trials are kept, and from which those that are there are taken.
        method: How ranges are chosen; "auto" for what measures best (`trtcal.analysis.auto_method.calibration`).
        config: How layers are quantized, or the path of such a TOML file; None has all in INT8.
        preprocess: As `ImageLoader` has it.
        count: How many images to calibrate on at most.
        test_count: How many to judge by at most.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images.
        on_bad_image: "error" or "skip".
        step: Shows progress.

    Raises:
        TrtcalError: As `calibrated` and `analyse_layers` raise it; or `config` cannot be read.
    """
    require_method(method)
    settings = config if config is None or isinstance(config, QuantConfig) else QuantConfig.load(config)
    choice = ImageChoice(
        images,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
        task=task_given(task),
    )
    step = step or unshown
    with TrialCache(resume) as cache:
        judging = calibrated(model, choice, step=step, tensors="quantizable", method=method)
        return analyse_layers(
            model,
            judging,
            config=settings,
            criterion=by,
            errors_only=errors,
            exhaustive=exhaustive,
            memory=memory,
            cache=cache,
            step=step,
        )
