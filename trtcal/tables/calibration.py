"""Calibration: the cache, what its ranges rest on, and how its method was chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrators.cache.text import CalibrationCache
from calibrators.statistics.file import Statistics
from trtcal.analysis.comparison import picks
from trtcal.analysis.selection import Compared
from trtcal.data.images import ImageLoader
from trtcal.data.preprocess import Preprocess
from trtcal.tables import console
from trtcal.tables.comparison import in_order, picked, summary


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A cache, and what it comes from."""

    statistics: Statistics
    cache: CalibrationCache
    method: str
    loader: ImageLoader | None = None
    compared: Compared | None = None

    @property
    def preprocess(self) -> str | None:
        """How images became the model's input, in words; None where the statistics do not tell."""
        if self.loader is not None:
            return str(self.loader.preprocess)
        known = self.statistics.provenance.preprocess
        return None if known is None else str(Preprocess.from_dict(known))

    @property
    def picks(self) -> Mapping[str, int]:
        """How often `best` chose each method."""
        return picks(self.statistics, self.method)

    @property
    def notes(self) -> list[str]:
        """What a user has to know of tensors without a range, one line each."""
        found = [f"{name} was zero in every image; its scale is 0, and it will stay in float" for name in self.zeros]
        if unbounded := self.statistics.unbounded:
            found.append(
                f"{len(unbounded)} tensor(s), such as {unbounded[0]}, were infinite in some image, as attention masks "
                "are: they have no range and stay in float; no quantized layer needs one"
            )
        return found

    @property
    def zeros(self) -> list[str]:
        """Tensors that were zero in every image."""
        return [name for name, scale in self.cache.items() if scale == 0]


def as_dict(done: Calibrated) -> dict[str, Any]:
    """What the cache comes from, for JSON."""
    ranking = None if done.compared is None else [each.to_dict() for each in done.compared.comparison.ranking]
    return {
        "tensors": len(done.cache),
        "images": done.statistics.provenance.count,
        "method": done.method,
        "picks": dict(done.picks),
        "ranking": ranking,
        "preprocess": done.preprocess,
        "skipped": [] if done.loader is None else [{"image": n, "reason": why} for n, why in done.loader.skipped],
        "zero": done.zeros,
        "unbounded": list(done.statistics.unbounded),
    }


def show(output: Path, done: Calibrated) -> None:
    """Print how large the cache is and what it comes from; after `auto`, how the methods rank."""
    samples = done.statistics.provenance.count
    console.say(f"{output}: {len(done.cache)} tensors from {samples} images by {done.method}")
    if picks := done.picks:
        console.say(picked(picks))
    if done.preprocess is not None:
        console.say(f"preprocessing: {done.preprocess}")
    if done.compared is not None:
        console.say(f"{summary(done.compared)}: {in_order(done.compared.comparison)}")
