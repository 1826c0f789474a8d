"""The task at work over batches: what each model found, from the first batch on, by which the adapter is chosen."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from calibrators.batches import Array, Batch
from calibrators.errors import ModelError, TrtcalError
from trtcal.tasks.adapter import Part, shapes_of
from trtcal.tasks.class_scores import class_output
from trtcal.tasks.judge import input_size, opened_judge
from trtcal.tasks.measuring.evidence import Evidence
from trtcal.tasks.own.numbers import Numbers
from trtcal.tasks.proposal import proposed
from trtcal.tasks.task import Task


class Finder(Protocol):
    """Says what models find: `trtcal.tasks.judge.Judge`, or `trtcal.tasks.own.numbers.OwnJudge`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, one line each."""
        ...

    @property
    def annotated(self) -> bool:
        """Whether what is in the images is known."""
        ...

    def parts(self, outputs: Mapping[str, Array]) -> tuple[Part, ...]:
        """What channels of the outputs mean."""
        ...

    def found(self, outputs: Mapping[str, Array], batch: Batch) -> Any:
        """What a model finds in a batch."""
        ...

    def evidence(self, batch: Batch, found: Any, reference: Any = None) -> Evidence | Numbers:
        """That, beside what is there, and what the float model finds."""
        ...


class Seeking:
    """Finds by a task, in the outputs of models, what they say of the samples.

    Args:
        task: What the models are for.
        samples: Where samples come from; an `ImageLoader` knows their names and where they lie in a model's input.
        sized: Outputs whose size depends on the data: they hold no class scores.
        class_names: What the model itself calls its classes; empty where it does not.

    Attributes:
        parts: What channels of outputs mean, once a batch was seen.
    """

    def __init__(
        self, task: Task, samples: Any, sized: Collection[str] = (), *, class_names: Sequence[str] = ()
    ) -> None:
        self.task = task
        self.parts: tuple[Part, ...] = ()
        self._samples = samples
        self._sized = sized
        self._class_names = class_names
        self._judge: Finder | None = None
        self._begun = False

    @property
    def classifies(self) -> bool:
        """Whether labels of classes count."""
        return self.task.kind in ("auto", "classify")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, one line each."""
        return () if self._judge is None else self._judge.notes

    def begin(self, outputs: Mapping[str, Array], batch: Batch) -> None:
        """Choose the adapter by the float model's outputs for the first batch; later ones change nothing.

        Raises:
            ModelError: The task does not fit the outputs.
            TrtcalError: As `opened_judge` raises it.
        """
        if self._begun:
            return
        self._begun = True
        if self.task.kind == "classify" and class_output(outputs, self._sized) is None:
            raise ModelError(
                f"task classify needs class scores, and of the outputs {', '.join(outputs)} no single one holds them: "
                "give another --task"
            )
        if self.task.finds:
            self._judge = opened_judge(
                self.task,
                outputs,
                batch,
                names=getattr(self._samples, "names", ()),
                placements=getattr(self._samples, "placement", None),
                class_names=self._class_names,
            )
            self.parts = self._judge.parts(outputs)
        elif class_output(outputs, self._sized) is None and any(array.ndim == 4 for array in batch.values()):
            self.parts = _likely_parts(outputs, batch)

    def found(
        self, results: Mapping[str, Mapping[str, Array]], batch: Batch, reference: str | None
    ) -> dict[str, Evidence | Numbers]:
        """What models found in a batch, by model; nothing where the task finds nothing.

        Args:
            results: Outputs by model.
            batch: What they were fed.
            reference: The float model, which the others are compared with; None where there is none.

        Raises:
            TrtcalError: As `begin`; or there are neither annotations nor a reference.
        """
        self.begin(results[reference or next(iter(results))], batch)
        if self._judge is None:
            return {}
        if reference is None and not self._judge.annotated:
            raise TrtcalError(
                f"there is nothing to measure task {self.task.name} by: give --annotations, or the float model as "
                "--reference"
            )
        findings = {name: self._judge.found(outputs, batch) for name, outputs in results.items()}
        theirs = None if reference is None else findings[reference]
        return {
            name: self._judge.evidence(batch, found, None if name == reference else theirs)
            for name, found in findings.items()
        }

    def sought(self, outputs: Mapping[str, Array], batch: Batch) -> Any:
        """What one model found in a batch; None where the task finds nothing."""
        self.begin(outputs, batch)
        return None if self._judge is None else self._judge.found(outputs, batch)

    def evidence(self, batch: Batch, found: Any, reference: Any = None) -> Evidence | Numbers | None:
        """That, beside what is there; None where the task finds nothing."""
        return None if self._judge is None or found is None else self._judge.evidence(batch, found, reference)


def _likely_parts(outputs: Mapping[str, Array], batch: Batch) -> tuple[Part, ...]:
    """What channels mean where outputs look like those of one family of detectors; nothing where it is not clear."""
    try:
        adapter, _ = proposed("detect", outputs, input_size(batch))
    except TrtcalError:
        return ()
    return tuple(adapter.parts(shapes_of(outputs)))
