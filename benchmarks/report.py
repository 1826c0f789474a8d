"""Figures as tables: for the terminal, or in Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import Figures, ModelFigures, Rounds
from benchmarks.images import BATCH, SIZE
from benchmarks.peers import DEFAULT_BINS, SAMPLE, TENSORRT_BINS

CALIBRATION_TARGETS = {"resnet50": 1.8, "mobilenetv2": 3.5}
"""Entropy of every float activation, over the floor."""

GROWTH_TARGET = 1.05
MEMORY_TARGET = 1500.0
SEARCH_TARGET = 5.0
HELP_TARGET = 0.3
QUIET = 0.5
"""The load up to which nobody else's work disturbs the figures."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its first column holds words, and so does the second where the first is "model"."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def numeric(self) -> Sequence[str]:
        """The columns that hold numbers."""
        return self.columns[2 if self.columns[0] == "model" else 1 :]

    def markdown(self) -> str:
        """In GitHub's Markdown."""
        aligned = ["---:" if column in self.numeric else "---" for column in self.columns]
        lines = [self.columns, aligned, *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])
