"""Which range method suits a model best: calibrate on some images, rank on others."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from calibrators.methods.names import DEFAULT
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.collection.collect import Tensors
from trtcal.analysis.comparison import Comparison, compare, named, units
from trtcal.analysis.judging import calibrated
from trtcal.analysis.step import Step, unshown
from trtcal.charts.chart import Chart
from trtcal.data.split import ImageChoice, Parts


@dataclass(frozen=True, slots=True)
class Compared(Tabular):
    """A comparison, and what it rests on.

    Attributes:
        comparison: The methods, best first.
        statistics: Of the images that were calibrated on.
        parts: The images.
        seconds: That collecting the statistics took.
        notes: What a user should know, one line each.
    """

    comparison: Comparison
    statistics: Statistics
    parts: Parts
    seconds: float
    notes: tuple[str, ...] = ()

    def plot(self) -> Chart:
        """That of the comparison."""
        return self.comparison.plot()

    def rows(self) -> list[Row]:
        """Those of the comparison."""
        return self.comparison.rows()


def compare_images(
    model: str | os.PathLike[str],
    choice: ImageChoice,
    *,
    methods: Sequence[str] | None = None,
    tensors: Tensors = "all",
    step: Step | None = None,
) -> Compared:
    """Calibrate on some images, and rank range methods on others; see `calibrated` and `compare`.

    Args:
        model: The float model.
        choice: What to calibrate on, and to rank on.
        methods: As in `compare`.
        tensors: As in `collect`.
        step: Shows progress.

    Raises:
        TrtcalError: As `calibrated` and `compare` raise it.
    """
    names = named(methods)
    step = step or unshown
    found = calibrated(model, choice, step=step, tensors=tensors, method=DEFAULT)
    test = found.parts.test
    with step("Comparing", units(model, test, names)) as advance:
        comparison = compare(
            model,
            found.statistics,
            test,
            methods=names,
            labelled=found.labelled,
            task=found.task,
            progress=advance,
        )
    return Compared(comparison, found.statistics, found.parts, found.seconds, found.notes)
