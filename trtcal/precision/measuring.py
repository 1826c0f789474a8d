"""Scores of versions of a model on some images, kept from run to run, and the progress that they make."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from itertools import count

from engines.simulation.simulated_model import LayerForm, Simulation
from trtcal.analysis.step import Step
from trtcal.analysis.trial_cache import TrialCache, trial_context, trial_key
from trtcal.analysis.trials import Trials
from trtcal.data.images import ImageLoader
from trtcal.measure.chance import Criterion
from trtcal.measure.measures import Score
from trtcal.tasks.summary import Summary
from trtcal.tasks.task import Task

PART = 32
"""Images whose scores are kept together, at least."""


class Steps:
    """One step of the work after another, each with a bar of its own."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._open = ExitStack()
        self._advance: Callable[[int], None] = lambda done: None

    def begin(self, name: str, units: int) -> None:
        """End the step before, and begin another."""
        self._open.close()
        self._advance = self._open.enter_context(self._step(name, units))

    def advance(self, done: int) -> None:
        """Count units of the step."""
        self._advance(done)

    def close(self) -> None:
        """End the last step."""
        self._open.close()


class Measurer:
    """Scores of versions of a model on some images, which were measured in an earlier run or are measured now."""

    def __init__(
        self,
        simulation: Simulation,
        images: ImageLoader,
        *,
        labelled: bool,
        task: Task,
        cache: TrialCache,
        steps: Steps,
    ) -> None:
        self._simulation = simulation
        self._images = images
        self._labelled = labelled
        self._task = task
        self._cache = cache
        self._steps = steps
        self._remembered: set[str] = set()
        self._measured: set[str] = set()

    @property
    def remembered(self) -> int:
        """How many scores an earlier run had measured."""
        return len(self._remembered)

    @property
    def reference(self) -> Score:
        """The float model's own score."""
        return self._trials.reference

    @property
    def criterion(self) -> Criterion:
        """What counts."""
        return self._trials.criterion

    def worth(self, found: Score) -> float:
        """The criterion's value; more is better."""
        return self._trials.worth(found)

    def scores(self, forms: Mapping[str, LayerForm]) -> list[Score]:
        """Of a version of the model, by parts of the images that hold `PART` or more; kept when all are known."""
        whole = trial_key(self._context, forms)
        known = list(self._known_parts(whole))
        if sum(score.samples for score in known) == self.reference.samples:
            self._remembered |= {whole} - self._measured
            self._steps.advance(self.reference.samples)
            return known
        found = [Score()]
        for score in self._trials.scores(forms):
            found[-1:] = [found[-1] + score] if found[-1].samples < PART else [found[-1], score]
        for place, score in enumerate(found):
            self._cache.put(_part_key(whole, place), score)
        self._measured.add(whole)
        return found

    def _known_parts(self, whole: str) -> Iterator[Score]:
        for place in count():
            score = self._cache.get(_part_key(whole, place))
            if score is None:
                return
            yield score

    def score(self, forms: Mapping[str, LayerForm], *, whole: bool = False) -> Score:
        """Of a version of the model; `whole`: one that adds up, as the summaries of an earlier run do not."""
        key = trial_key(self._context, forms)
        known = self._cache.get(key)
        if known is not None and not (whole and isinstance(known.task, Summary)):
            self._remembered |= {key} - self._measured
            self._steps.advance(known.samples)
            return known
        found = self._trials.score(forms)
        self._cache.put(key, found)
        self._measured.add(key)
        return found

    @cached_property
    def _trials(self) -> Trials:
        """What measures; the float model runs when it is first asked for."""
        return Trials(
            self._simulation, self._images, labelled=self._labelled, task=self._task, progress=self._steps.advance
        )

    @cached_property
    def _context(self) -> str:
        return trial_context(self._simulation, self._images, labelled=self._labelled, task=self._task)


def _part_key(key: str, place: int) -> str:
    return hashlib.sha256(f"{key} part {place}".encode()).hexdigest()
