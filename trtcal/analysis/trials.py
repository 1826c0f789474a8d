"""Versions of a model measured on the same images, one after another."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from calibrators.batches import Array, Batch
from calibrators.errors import ModelError
from engines.sessions.chain import Chain
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from trtcal.analysis.judged_methods import REFERENCE
from trtcal.data.images import ImageLoader
from trtcal.measure.accuracy import require_labels
from trtcal.measure.chance import criterion_of, drop_of, worth_of
from trtcal.measure.comparable import require_values
from trtcal.measure.groups import Runs, Singles, run_group
from trtcal.measure.measures import Score, score
from trtcal.tasks.found import Finding
from trtcal.tasks.seeking import Seeking
from trtcal.tasks.task import Task, task_given

GROUP = 8
"""Samples run together where the model leaves that open: the same, whatever the loader's batch size."""

MEMORY = 2 * 10**9
"""Bytes that are kept of what versions have in common."""

MOST_BYTES = 2**30
"""Of preprocessed images that are held; more are read again for each trial."""


Outputs = Sequence[Mapping[str, Array]]
"""A version's outputs by name, for one group of samples after another."""

_Group = tuple[int, Batch, Mapping[str, Array], Sequence[Finding] | None]


class Trials:
    """Measures versions of a simulation's model against the float model.

    The float model runs once. Samples run in the same groups whatever the loader's batch size, so that neither it nor
    the order of trials changes a score.

    Args:
        simulation: The model.
        images: What to measure on.
        labelled: Whether the images' labels count, where they have some.
        task: What the model is for; None for `Task()`.
        memory: Bytes that may be kept of what versions have in common: sessions and activations. What does not fit is
            computed again.
        progress: Is told the number of samples done since the last call, of `images.count` for each trial and for the
            float model.

    Attributes:
        reference: The float model's own score.
        criterion: What counts: the task's measure; or top-1 where there are labels, else agreement with the float
            model's class; SQNR where no output holds class scores.
        samples: How many a trial runs.
        notes: What a user should know of the task, one line each.
        progress: As it was given; another may take its place.

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
        memory: int = MEMORY,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.simulation = simulation
        task = task_given(task)
        self.progress = progress or (lambda done: None)
        with OnnxRuntimeSession(simulation.floats) as session:
            if not any(spec.dtype.kind == "f" for spec in session.outputs):
                raise ModelError("the model has no float output to measure by: give it with its scores")
            self._sized, self._size = session.data_sized, session.fixed_batch
            size = self._size or (1 if self._sized else GROUP)
            self._chain = Chain(simulation, session.inputs, memory=memory)
            loader = images.for_model(session.inputs)
            self._seeking = Seeking(task, loader, self._sized, class_names=session.class_names)
        self._images = Singles(loader, size, labelled=labelled and self._seeking.classifies)
        self._held: list[Batch] | None = []
        self._expected: list[Mapping[str, Array]] = []
        self._found: list[Sequence[Finding] | None] = []
        self.reference, held = Score(), 0
        for number, batch in enumerate(self._images):
            outputs = self._run(self._chain.version({}, number), batch)
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
            self.progress(batch.size)
        require_values(self._expected, self._sized)
        self.criterion = criterion_of(self.reference, task)
        self.samples = self.reference.samples
        self.notes = self._seeking.notes

    def score(self, forms: Mapping[str, LayerForm], *, whole: bool = True, first: int | None = None) -> Score:
        """What the model does with some layers in another form, against the float model; always one that adds up.

        Args:
            forms: By layer name; layers that are not named are left in float.
            whole: Changes nothing here.
            first: Measure on so many samples only, the first ones, or a few more: whole groups run.
        """
        return sum(self._measured(lambda number: self._chain.version(forms, number), first), Score())

    def scores(self, forms: Mapping[str, LayerForm]) -> Iterator[Score]:
        """The same, group after group of samples, of the model as a whole.

        Segment by segment, ONNX Runtime rounds here and there otherwise than in the model that is written, which may
        be told in a hundredth of a dB.
        """
        return self._scores_of(self.simulation.version(forms))

    def score_of(self, model: onnx.ModelProto) -> Score:
        """What a version of the model does, against the float model."""
        return sum(self._scores_of(model), Score())

    def _scores_of(self, model: onnx.ModelProto) -> Iterator[Score]:
        with OnnxRuntimeSession(model) as session:
            yield from self._measured(lambda number: session, None)

    def outputs(self, forms: Mapping[str, LayerForm], *, first: int) -> Outputs:
        """What a version gives for the first samples, group by group."""
        found = []
        for number, batch, _, _ in self._groups(first):
            found.append(self._run(self._chain.version(forms, number), batch))
            self.progress(batch.size)
        return found

    def scored(self, outputs: Outputs) -> Score:
        """The score of outputs for the first samples, as `outputs` gives them, or as `combined` predicts them."""
        groups = self._groups(None, len(outputs))
        return sum((self._score(given, group) for given, group in zip(outputs, groups, strict=True)), Score())

    def combined(self, plus: Outputs, minus: Outputs) -> Outputs | None:
        """The float model's outputs y with the differences of one version added and those of another taken away.

        ``y + (plus - y) - (minus - y)``: to first order the differences that layers make at the outputs add up, so that
        this is what a version does that has what the first one has and the other has not.

        Returns:
            None where an output has no differences that could add up: it is no float, or of another size, or holds what
            is no number.
        """
        found = []
        for expected, one, other in zip(self._expected, plus, minus, strict=False):
            sums = {}
            for name, y in expected.items():
                if y.dtype.kind != "f" or not y.shape == one[name].shape == other[name].shape:
                    return None
                sums[name] = np.asarray(np.add(y, np.subtract(one[name], other[name])), y.dtype)
                if not np.isfinite(sums[name]).all():
                    return None
            found.append(sums)
        return found

    def _measured(self, version: Callable[[int], Runs], first: int | None) -> Iterator[Score]:
        """The scores of a version by group, of which `version` gives what runs the group of that number."""
        for group in self._groups(first):
            number, batch, _, _ = group
            outputs = self._run(version(number), batch)
            self.progress(batch.size)
            yield self._score(outputs, group)

    def _groups(self, first: int | None, most: int | None = None) -> Iterator[_Group]:
        """The groups that hold the first samples, at most so many; with what the float model gives and finds."""
        batches, done = self._images if self._held is None else self._held, 0
        for number, (batch, expected, found) in enumerate(zip(batches, self._expected, self._found, strict=True)):
            if (first is not None and done >= first) or number == most:
                return
            yield number, batch, expected, found
            done += batch.size

    def _score(self, outputs: Mapping[str, Array], group: _Group) -> Score:
        _, batch, expected, theirs = group
        return score(
            outputs,
            labels=batch.labels,
            reference=expected,
            samples=batch.size,
            sized=self._sized,
            parts=self._seeking.parts,
            task=self._seeking.evidence(batch, self._seeking.sought(outputs, batch), theirs),
        )

    def _run(self, version: Runs, batch: Batch) -> dict[str, Array]:
        return run_group(version, batch, count=batch.size, size=self._size, sized=self._sized)

    def worth(self, found: Score) -> float:
        """The criterion's value: percent of top-1, of agreement or of the task's measure, or dB; more is better."""
        return worth_of(found, self.criterion)

    def drop(self, found: Score) -> float:
        """What is lost against the float model, in points, or percent of images of another class than its own.

        Raises:
            ModelError: The criterion is SQNR, which no drop is measured in.
        """
        return drop_of(found, self.criterion)
