"""What a format has no place for: a sentence for each kind, with the names it befell."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from calibrators.errors import listed

if TYPE_CHECKING:
    from calibrators.cache.text import CalibrationCache


class Losses:
    """Gathers what is lost on the way into a format.

    Args:
        where: The format in words, such as "PPQ's JSON".
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._lines: list[str] = []

    @property
    def lines(self) -> tuple[str, ...]:
        """One sentence for each kind of loss."""
        return tuple(self._lines)

    def say(self, line: str) -> None:
        """Add a sentence of its own."""
        self._lines.append(line)

    def changed(self, names: Collection[str], noun: str, becomes: str) -> None:
        """Tensors that are written as something else."""
        if names:
            self.say(f"{_counted(names, noun)} {_plural(becomes, names)}: {listed(names)}")

    def left_out(self, names: Collection[str], noun: str, why: str) -> None:
        """Tensors that are not written."""
        if names:
            self.say(f"{_counted(names, noun)} left out of {self.where}, {why}: {listed(names)}")

    def origin(self, cache: "CalibrationCache | None") -> None:
        """The header and the side-car of a calibration cache."""
        if cache is not None:
            sidecar = "" if cache.sidecar is None else " and its side-car"
            explicit = {} if cache.sidecar is None else cache.sidecar.explicit
            scales = f" (the Q/DQ nodes' own scales: {listed(explicit)})" if explicit else ""
            self.say(f"the cache's header {cache.header.strip()}{sidecar}{scales} left out of {self.where}")

    def extra(self, extra: Mapping[str, Any], *, own: str = "") -> None:
        """Data of other formats; `own` names this one's."""
        for name in extra:
            if name != own:
                self.say(f"what {_MAKERS.get(name, name)} kept besides the scales is left out of {self.where}")


_MAKERS = {
    "aimet": "AIMET (producer, quantizer_args)",
    "onnxruntime": "ONNX Runtime (lowest, highest, histograms)",
}


def _counted(names: Collection[str], noun: str) -> str:
    return f"{len(names)} {noun}" if len(names) == 1 else f"{len(names)} {_nouns(noun)}"


def _nouns(noun: str) -> str:
    first, space, rest = noun.partition(" of ")
    return f"{first}s{space}{rest}"


def _plural(what: str, names: Collection[str]) -> str:
    """Words that begin with a verb, for one name or for several."""
    verb, space, rest = what.partition(" ")
    several = f"{verb.removesuffix('s')}{space}{rest}".replace(" its ", " their ")
    return what if len(names) == 1 else several
