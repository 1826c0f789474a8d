"""Versions of a model measured on the same images, one after another."""

from collections.abc import Callable, Mapping

import onnx

from calibrators.batches import Array, Batch
from calibrators.errors import ModelError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from trtcal.analysis.comparison import REFERENCE
from trtcal.data.images import ImageLoader
from trtcal.measure.accuracy import require_labels
from trtcal.measure.chance import Criterion, sqnr_of
from trtcal.measure.comparable import require_values
from trtcal.measure.groups import Singles, run_group
from trtcal.measure.measures import Score, score

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
        progress: Is told the number of samples done since the last call, of `images.count` for each trial and for the
            float model.

    Attributes:
        reference: The float model's own score.
        criterion: What counts: top-1 where there are labels, else agreement with the float model's class; SQNR where no
            output holds class scores.
        samples: How many a trial runs.

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
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.simulation = simulation
        self._progress = progress or (lambda done: None)
        with OnnxRuntimeSession(simulation.floats) as session:
            if not any(spec.dtype.kind == "f" for spec in session.outputs):
                raise ModelError("the model has no float output to measure by: give it with its scores")
            self._sized, self._size = session.data_sized, session.fixed_batch
            size = self._size or (1 if self._sized else GROUP)
            self._images = Singles(images.for_model(session.inputs), size, labelled=labelled)
            self._held: list[Batch] | None = []
            self._expected: list[Mapping[str, Array]] = []
            self.reference, held = Score(), 0
            for batch in self._images:
                outputs = self._run(session, batch)
                if batch.labels is not None:
                    require_labels(REFERENCE, outputs, batch.labels, batch.names, images.class_names, sized=self._sized)
                self._expected.append(outputs)
                self.reference += score(outputs, labels=batch.labels, samples=batch.size, sized=self._sized)
                held += sum(array.nbytes for array in batch.values())
                if self._held is not None:
                    self._held.append(batch)
                    self._held = self._held if held <= MOST_BYTES else None
                self._progress(batch.size)
            require_values(self._expected, self._sized)
        self.criterion = self._criterion()
        self.samples = self.reference.samples

    def score(self, forms: Mapping[str, LayerForm]) -> Score:
        """What the model does with some layers in another form, against the float model."""
        return self.score_of(self.simulation.version(forms))

    def score_of(self, model: onnx.ModelProto) -> Score:
        """What a version of the model does, against the float model."""
        found = Score()
        with OnnxRuntimeSession(model) as session:
            for batch, expected in zip(self._images if self._held is None else self._held, self._expected, strict=True):
                outputs = self._run(session, batch)
                found += score(outputs, labels=batch.labels, reference=expected, samples=batch.size, sized=self._sized)
                self._progress(batch.size)
        return found

    def _run(self, session: OnnxRuntimeSession, batch: Batch) -> dict[str, Array]:
        return run_group(session, batch, count=batch.size, size=self._size, sized=self._sized)

    def worth(self, found: Score) -> float:
        """The criterion's value: percent of top-1 or of agreement, or SQNR in dB; more is better."""
        if self.criterion == "SQNR":
            return sqnr_of(found)
        share = found.top1 if self.criterion == "top-1" else found.agreement
        return share.percent

    def drop(self, found: Score) -> float:
        """Points of top-1 lost against the float model, or percent of images of another class than its own.

        Raises:
            ModelError: The criterion is SQNR, which no drop is measured in.
        """
        if self.criterion == "SQNR":
            raise ModelError("the model's outputs hold no class scores, in which a drop could be measured")
        return found.drop if self.criterion == "top-1" else 100 - found.agreement.percent

    def _criterion(self) -> Criterion:
        if not self.reference.classes:
            return "SQNR"
        return "top-1" if self.reference.top1.total else "agreement"
