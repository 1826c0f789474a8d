"""Calibration: the cache, what its ranges rest on, and how its method was chosen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibrators.cache.text import CalibrationCache
from calibrators.statistics.file import Statistics
from trtcal.analysis.comparison import picks
from trtcal.analysis.selection import Compared
from trtcal.choice.calibration import Chosen
from trtcal.data.images import ImageLoader
from trtcal.data.preprocess import Preprocess
from trtcal.tables import console
from trtcal.tables.comparison import in_order, picked, say_notes, summary
from trtcal.tables.images import say_what_was_calibrated_on


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A cache, and what it comes from."""

    statistics: Statistics
    cache: CalibrationCache
    method: str
    chosen: Chosen | None = None

    @classmethod
    def by(cls, chosen: Chosen) -> "Calibrated":
        """From images."""
        return cls(chosen.statistics, chosen.cache, chosen.method, chosen)

    @property
    def loader(self) -> ImageLoader | None:
        """The images; None for kept statistics."""
        return None if self.chosen is None else self.chosen.loader

    @property
    def compared(self) -> Compared | None:
        """The ranking that chose the method, if one did."""
        return None if self.chosen is None else self.chosen.compared

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
        found = [] if self.chosen is None else [*self.chosen.notes]
        found += [f"{name} was zero in every image; its scale is 0, and it will stay in float" for name in self.zeros]
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
        "judged": {} if done.chosen is None else dict(done.chosen.judged),
        "judged_on": 0 if done.chosen is None else done.chosen.looked_at,
        "float_layers": _floats_as_dict(done.chosen),
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
    for line in _told(done.chosen):
        console.say(line)
    if done.compared is not None:
        console.say(f"{summary(done.compared)}: {in_order(done.compared.comparison)}")


def say_images(done: Calibrated, *, stated: bool) -> None:
    """Tell, on standard error, what a user should know of the images; `stated`: of a preprocessing that was named."""
    if done.compared is not None:
        say_notes(done.compared, stated=stated)
    elif done.loader is not None:
        say_what_was_calibrated_on(done.loader, stated=stated)


def _told(chosen: Chosen | None) -> list[str]:
    """What leaving layers in float brings, and which these are."""
    if chosen is None or chosen.floats is None:
        return []
    floats = chosen.floats
    before = f"{floats.before.sqnr:.1f} dB of {floats.before.worst}"
    if not floats.layers:
        return [f"all in INT8: {before} are left, and no layer is worth leaving in float", *_no_room(floats.no_room)]
    lines = [
        f"left in float, for {floats.share:.2g} % of the multiply-accumulates: {before} are left with all layers in "
        f"INT8, {floats.after.sqnr:.1f} dB without these (--float-budget 0 has them in INT8, too)"
    ]
    return [*lines, *(f"  {name}: {layer.reason}" for name, layer in floats.layers.items()), *_no_room(floats.no_room)]


def _no_room(gains: Mapping[str, float]) -> list[str]:
    """Which layers were left in INT8 only as the budget has no room for them."""
    if not gains:
        return []
    told = ", ".join(f"{name} ({gain:+.1f} dB)" for name, gain in gains.items())
    return [f"more than the budget has room for, and predicted to bring something in float: {told}"]


def _floats_as_dict(chosen: Chosen | None) -> dict[str, Any] | None:
    if chosen is None or chosen.floats is None:
        return None
    floats = chosen.floats
    return {
        "layers": {name: asdict(layer) for name, layer in floats.layers.items()},
        "percent_of_macs": floats.share,
        "sqnr_db": {"int8": floats.before.sqnr, "chosen": floats.after.sqnr},
        "no_room": dict(floats.no_room),
    }
