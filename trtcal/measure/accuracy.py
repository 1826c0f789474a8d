"""Accuracy: models side by side over the same samples."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from calibrators.batches import IMAGE, Array, Batch, Batches, fitted
from calibrators.errors import DataError, ModelError, TrtcalError
from engines.graph.foreign import kind_of
from engines.sessions.onnxruntime import Session, open_session
from trtcal.measure.chance import criterion_of
from trtcal.measure.changed import ChangedImage, Groups, changed_images, groups_of, most_changed, passes, require_worst
from trtcal.measure.comparable import counted_alike, require_anything_compared, require_comparable
from trtcal.measure.groups import Singles, numbered, run_group
from trtcal.measure.measures import Labels, Score, score
from trtcal.measure.report import Changed, Report
from trtcal.tasks.class_scores import class_output
from trtcal.tasks.measuring.evidence import Evidence
from trtcal.tasks.seeking import Seeking
from trtcal.tasks.task import Task, task_given

Model = str | os.PathLike[str] | Session


def evaluate(
    models: Model | Mapping[str, Model],
    batches: Batches,
    *,
    reference: str | None = None,
    class_names: Sequence[str] | None = None,
    task: Task | None = None,
    worst: int | None = None,
    together: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Run models side by side over the same samples, in one pass.

    Args:
        models: Paths or sessions by name, or one of them: a path then goes by its file's name, a session by "model".
            What is opened here is closed again.
        batches: An iterable of arrays by input name, samples on the first axis; a `Batch` may carry labels, which
            count for models with class scores (`trtcal.measure.measures.class_output`).
        reference: The name among `models` that the others are compared with; None compares nothing.
        class_names: What the labels number, where it is names in sorted order: as many as the models have classes. None
            takes those of an `ImageLoader`.
        task: What the models are for; None for `Task()`: class scores where an output holds such, else outputs.
        worst: How many of the images that changed most against the reference are named, for each other model. Where
            `passes` is 2, the reference runs over all samples before, which tells its channels apart: `batches` must be
            iterable again. None names none.
        together: How many models run at a time, which changes no result: sessions of one thread each are faster so.
        progress: Is told the number of samples done since the last call, in each of the passes.

    Raises:
        DataError: There are no samples, they do not fit an input, or the labels do not fit the classes.
        ModelError: A model cannot be opened or fails, or its outputs cannot be compared with the reference's.
        TrtcalError: `models` holds something that is neither a path nor a session, or `worst` means nothing.
    """
    named_models = _by_name(models)
    if worst is not None:
        require_worst(worst, compared=reference is not None and len(named_models) > 1)
    if reference is not None and reference not in named_models:
        raise ModelError(f"the reference {reference} is not among the models: {', '.join(named_models)}")
    with ExitStack() as stack:
        sessions = {
            name: stack.enter_context(open_session(model)) if isinstance(model, (str, os.PathLike)) else model
            for name, model in named_models.items()
        }
        settings: dict[str, Any] = {"reference": reference, "class_names": class_names, "worst": worst}
        pool = stack.enter_context(ThreadPoolExecutor(together))
        return _evaluated(sessions, batches, **settings, task=task_given(task), pool=pool, progress=progress)


def require_labels(
    name: str,
    outputs: Mapping[str, Array],
    labels: Labels,
    samples: Sequence[str],
    class_names: Sequence[str],
    *,
    sized: Collection[str] = (),
) -> None:
    """Refuse labels that are none of a model's classes; a model without class scores has none.

    Args:
        name: What the message calls the model.
        outputs: Of the model, for any samples.
        labels: Class numbers, one for each of `samples`.
        samples: Their names.
        class_names: What the labels number, where it is names.
        sized: Outputs whose size depends on the data: they hold no class scores.

    Raises:
        DataError: A label is no class, or there are not as many names as classes.
    """
    held = class_output(outputs, sized)
    if held is None:
        return
    classes = outputs[held].shape[1]
    if class_names and len(class_names) != classes:
        raise DataError(
            f"there are {len(class_names)} class names (folders, or names in the file of labels), but {name} has "
            f"{classes} classes: numbering the names would give wrong labels; give class numbers with --labels"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"label {labels[wrong[0]]} of {samples[wrong[0]]} is none of the {classes} classes of {name}: "
            f"labels count from 0 to {classes - 1}"
        )


def _by_name(models: Model | Mapping[str, Model]) -> dict[str, Model]:
    if isinstance(models, (str, os.PathLike)):
        return {Path(models).name: models}
    named: dict[str, Model] = {**models} if isinstance(models, Mapping) else {"model": models}
    for model in named.values():
        if not isinstance(model, (str, os.PathLike)) and not all(
            hasattr(model, attribute) for attribute in ("run", "inputs", "outputs")
        ):
            raise TrtcalError(
                f"cannot evaluate {kind_of(model)}"
                if kind_of(model)
                else f"cannot evaluate a {type(model).__name__}: give the path of a model, a session, or a mapping of "
                "names to them"
            )
    return named


def _evaluated(
    models: Mapping[str, Session],
    batches: Batches,
    *,
    reference: str | None,
    class_names: Sequence[str] | None,
    task: Task,
    worst: int | None,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], None] | None,
) -> Report:
    batches = fitted(batches, next(iter(models.values())).inputs) if models else batches
    named = getattr(batches, "class_names", ()) if class_names is None else class_names
    renamings = {name: _renaming(name, reference or name, models) for name in models}
    sized = _data_sized(models, renamings)
    fixed = {name: _fixed_batch(model) for name, model in models.items()}
    scores = {name: Score() for name in models}
    called = getattr(models[reference or next(iter(models))], "class_names", ()) if models else ()
    seeking = Seeking(task, batches, sized, class_names=called)
    groups: Groups = {}
    if reference is not None and not task.finds and passes(models[reference].outputs, worst) > 1:
        _require_repeatable(batches)
        groups = _groups(models[reference], _grouped(batches, models, fixed, sized), fixed[reference], sized, progress)
    changed = {name: tuple[ChangedImage, ...]() for name in models if worst is not None and name != reference}
    for batch in _grouped(batches, models, fixed, sized):
        runs = {
            name: pool.submit(_run, model, batch, renamings[name], fixed[name], sized) for name, model in models.items()
        }
        results = {name: run.result() for name, run in runs.items()}
        expected = results[reference] if reference is not None else None
        found = seeking.found(results, batch, reference)
        for name, outputs in results.items():
            _require_samples(name, outputs, batch, sized)
            if reference is not None and expected is not None:
                require_comparable(name, outputs, reference, expected, models, sized)
            if batch.labels is not None and seeking.classifies:
                require_labels(name, outputs, batch.labels, batch.names, named, sized=sized)
            other = expected if name != reference else None
            measured: dict[str, Any] = {"labels": batch.labels if seeking.classifies else None, "sized": sized}
            scores[name] += score(
                outputs,
                **measured,
                reference=other,
                samples=batch.size,
                by_class=True,
                parts=seeking.parts,
                task=found.get(name),
            )
            if worst is not None and other is not None and not task.finds:
                images = changed_images(batch.names, outputs, other, **measured, groups=groups)
                changed[name] = most_changed((*changed[name], *images), worst)
        if progress is not None:
            progress(batch.size)
    if not any(each.samples for each in scores.values()):
        raise DataError("there are no samples to measure the accuracy on: give a folder with images, or arrays")
    require_anything_compared(scores, reference, sized)
    named_images: dict[str, tuple[Changed, ...]] = {
        name: images if worst is None or not task.finds else _changes(scores[name], worst)
        for name, images in changed.items()
    }
    criterion = criterion_of(scores[reference or next(iter(scores))], task)
    return Report(counted_alike(scores, sized), reference, criterion, seeking.notes, tuple(named), named_images)


def _changes(score: Score, worst: int) -> tuple[Changed, ...]:
    """The images in which most of what was found is other than the reference's."""
    return tuple(score.task.changes(worst)) if isinstance(score.task, Evidence) else ()


def _require_repeatable(batches: Batches) -> None:
    if isinstance(batches, Iterator):
        raise DataError(
            "a first pass over the samples tells which channels are alike, before a second one names the images that "
            "changed most: give batches that can be iterated twice, such as a list or an ImageLoader"
        )


def _groups(
    reference: Session,
    batches: Iterator[Batch],
    fixed: int | None,
    sized: Collection[str],
    progress: Callable[[int], None] | None,
) -> Groups:
    """The groups of channels of the reference's outputs, by all samples."""
    own = {spec.name: spec.name for spec in reference.outputs}
    whole = Score()
    for batch in batches:
        outputs = _run(reference, batch, own, fixed, sized)
        whole += score(outputs, reference=outputs, samples=batch.size, sized=sized)
        if progress is not None:
            progress(batch.size)
    return groups_of(whole)


def _data_sized(models: Mapping[str, Session], renamings: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The outputs, under the reference's names, whose size depends on the data, as far as models tell."""
    return {
        renamings[name][output]: label
        for name, model in models.items()
        for output, label in getattr(model, "data_sized", {}).items()
    }


def _fixed_batch(model: Session) -> int | None:
    """The only number of samples that a model takes at a time, as its inputs say; None where it is free."""
    return next((spec.shape[0] for spec in model.inputs if spec.shape and isinstance(spec.shape[0], int)), None)


def _grouped(
    batches: Batches, models: Mapping[str, Session], fixed: Mapping[str, int | None], sized: Collection[str]
) -> Iterator[Batch]:
    """Samples as they come; one at a time, or as many as models take, where an output cannot be cut into samples."""
    given = numbered(batches)
    uncut = any(
        size is not None and any(not spec.shape or spec.shape[0] not in (size, None) for spec in models[name].outputs)
        for name, size in fixed.items()
    )
    if not sized and not uncut:
        return given
    return iter(Singles(given, max(filter(None, fixed.values()), default=1)))


def _run(
    model: Session, batch: Batch, names: Mapping[str, str], fixed: int | None, sized: Collection[str]
) -> dict[str, Array]:
    """Outputs under the reference's names. A lone array goes to a lone input, whatever this model calls it."""
    lone = len(batch) == 1 and len(model.inputs) == 1
    own = [name for name, theirs in names.items() if theirs in sized]
    fed = {IMAGE: next(iter(batch.values()))} if lone else batch
    outputs = run_group(model, fed, count=batch.size, size=fixed, sized=own)
    return {names[name]: value for name, value in outputs.items()}


def _renaming(name: str, reference: str, models: Mapping[str, Session]) -> dict[str, str]:
    """The reference's name of each output: the same name, or the same place where the names differ."""
    own, wanted = ([spec.name for spec in models[each].outputs] for each in (name, reference))
    if len(own) != len(wanted):
        raise ModelError(
            f"{name} has the outputs {', '.join(own)} and {reference} has {', '.join(wanted)}: "
            "compare models with the same outputs"
        )
    return dict(zip(own, own if set(own) == set(wanted) else wanted, strict=True))


def _require_samples(name: str, outputs: Mapping[str, Array], batch: Batch, sized: Collection[str]) -> None:
    held = class_output(outputs, sized)
    if held is not None and len(outputs[held]) != batch.size:
        raise ModelError(
            f"{name} gives {len(outputs[held])} rows of {held} for {batch.size} samples: run it with a batch size of 1"
        )
