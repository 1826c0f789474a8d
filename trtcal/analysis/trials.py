"""Versions of a model measured on the same images, one after another."""

from collections.abc import Callable, Mapping, Sequence

import onnx

from calibrators.batches import Array, Batch
from calibrators.errors import ModelError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from trtcal.analysis.comparison import REFERENCE
from trtcal.data.images import ImageLoader
from trtcal.measure.accuracy import require_labels
from trtcal.measure.chance import criterion_of, drop_of, worth_of
from trtcal.measure.comparable import require_values
from trtcal.measure.groups import Singles, run_group
from trtcal.measure.measures import Score, score
from trtcal.tasks.found import Finding
from trtcal.tasks.seeking import Seeking
from trtcal.tasks.task import Task, task_given

GROUP = 32
"""Samples run together where the model leaves that open: the same, whatever the loader's batch size."""

MOST_BYTES = 2**30
"""Of preprocessed images that are held; more are read again for each trial."""


class Trials:
    """Measures versions of a simulation's model against the float model.

    The float model runs once. Samples run in the same groups whatever the loader's batch size, so that neither it nor
    the order of trials changes a score.

    Args:
        simulation: The model.
        images: What to measure on.
        labelled: Whether the images' labels count, where they have some.
        task: What the model is for; None for `Task()`.
        progress: Is told the number of samples done since the last call, of `images.count` for each trial and for the
            float model.

    Attributes:
        reference: The float model's own score.
        criterion: What counts: the task's measure; or top-1 where there are labels, else agreement with the float
            model's class; SQNR where no output holds class scores.
        samples: How many a trial runs.
        notes: What a user should know of the task, one line each.

    Raises:
        DataError: The images or labels do not fit the model.
        ModelError: The model does not run, or has no float output, or none with a value where sizes depend on the data.
    """

    def __init__(
        self,
        simulation: Simulation,
        images: ImageLoader,
        *,
        labelled: bool = True,
        task: Task | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.simulation = simulation
        task = task_given(task)
        self._progress = progress or (lambda done: None)
        with OnnxRuntimeSession(simulation.floats) as session:
            if not any(spec.dtype.kind == "f" for spec in session.outputs):
                raise ModelError("the model has no float output to measure by: give it with its scores")
            self._sized, self._size = session.data_sized, session.fixed_batch
            size = self._size or (1 if self._sized else GROUP)
            loader = images.for_model(session.inputs)
            self._seeking = Seeking(task, loader, self._sized, class_names=session.class_names)
            self._images = Singles(loader, size, labelled=labelled and self._seeking.classifies)
            self._held: list[Batch] | None = []
            self._expected: list[Mapping[str, Array]] = []
            self._found: list[Sequence[Finding] | None] = []
            self.reference, held = Score(), 0
            for batch in self._images:
                outputs = self._run(session, batch)
                if batch.labels is not None:
                    require_labels(REFERENCE, outputs, batch.labels, batch.names, images.class_names, sized=self._sized)
                self._expected.append(outputs)
                self._found.append(self._seeking.sought(outputs, batch))
                self.reference += score(
                    outputs,
                    labels=batch.labels,
                    samples=batch.size,
                    sized=self._sized,
                    task=self._seeking.evidence(batch, self._found[-1]),
                )
                held += sum(array.nbytes for array in batch.values())
                if self._held is not None:
                    self._held.append(batch)
                    self._held = self._held if held <= MOST_BYTES else None
                self._progress(batch.size)
            require_values(self._expected, self._sized)
        self.criterion = criterion_of(self.reference, task)
        self.samples = self.reference.samples
        self.notes = self._seeking.notes

    def score(self, forms: Mapping[str, LayerForm], *, whole: bool = True) -> Score:
        """What the model does with some layers in another form, against the float model; always one that adds up."""
        return self.score_of(self.simulation.version(forms))

    def score_of(self, model: onnx.ModelProto) -> Score:
        """What a version of the model does, against the float model."""
        found = Score()
        with OnnxRuntimeSession(model) as session:
            batches = self._images if self._held is None else self._held
            for batch, expected, theirs in zip(batches, self._expected, self._found, strict=True):
                outputs = self._run(session, batch)
                found += score(
                    outputs,
                    labels=batch.labels,
                    reference=expected,
                    samples=batch.size,
                    sized=self._sized,
                    parts=self._seeking.parts,
                    task=self._seeking.evidence(batch, self._seeking.sought(outputs, batch), theirs),
                )
                self._progress(batch.size)
        return found

    def _run(self, session: OnnxRuntimeSession, batch: Batch) -> dict[str, Array]:
        return run_group(session, batch, count=batch.size, size=self._size, sized=self._sized)

    def worth(self, found: Score) -> float:
        """The criterion's value: percent of top-1, of agreement or of the task's measure, or dB; more is better."""
        return worth_of(found, self.criterion)

    def drop(self, found: Score) -> float:
        """What is lost against the float model, in points, or percent of images of another class than its own.

        Raises:
            ModelError: The criterion is SQNR, which no drop is measured in.
        """
        return drop_of(found, self.criterion)
