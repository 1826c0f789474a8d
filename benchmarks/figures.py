"""What a benchmark finds: plain values, which turn into JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Rounds:
    """Wall times of one task, each beside the floor: plain inference of the same images, just before.

    Attributes:
        seconds: One per round.
        floor: Seconds of the floor before each.
        collect: The part of `seconds` in which the model ran and its activations were counted; empty where there are no parts.
        search: The part in which thresholds were searched.
    """

    seconds: Sequence[float]
    floor: Sequence[float]
    collect: Sequence[float] = ()
    search: Sequence[float] = ()

    @property
    def ratios(self) -> list[float]:
        """How many times the floor, round by round."""
        return [taken / floor for taken, floor in zip(self.seconds, self.floor, strict=True)]

    @property
    def ratio(self) -> float:
        """The median round's."""
        return median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the rounds and their medians, times in seconds."""
        medians = {f"median_{name}_s": median(times) for name, times in asdict(self).items() if times}
        rounds = {f"{name}_s": list(times) for name, times in asdict(self).items() if times}
        return {"ratio": self.ratio, "ratios": self.ratios, **medians, **rounds}


@dataclass(frozen=True, slots=True)
class Search:
    """Milliseconds that the search for one tensor's threshold takes, over a model's tensors."""

    tensors: int
    median: float
    slowest: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Search":
        """From one time per tensor."""
        return cls(len(milliseconds), median(milliseconds), max(milliseconds))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"tensors": self.tensors, "median_ms": self.median, "slowest_ms": self.slowest}


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What was found with one model. Keys of the mappings name what was done, in words.

    Attributes:
        nodes: Nodes of its graph.
        tensors: Float activations.
        elements: Values of all of them, for one image.
        rounds: Wall times, of `images` images.
        memory: Peaks in MB by number of images.
        search: Threshold searches.
        peer_rounds: Wall times of ONNX Runtime's calibrators, of `peers_images` images; empty where they were left out.
        peer_memory: Their peaks in MB, by number of images.
        peer_search: Their threshold searches.
    """

    nodes: int
    tensors: int
    elements: int
    rounds: Mapping[str, Rounds]
    memory: Mapping[str, Mapping[int, float]]
    search: Mapping[str, Search]
    peer_rounds: Mapping[str, Rounds]
    peer_memory: Mapping[str, Mapping[int, float]]
    peer_search: Mapping[str, Search]
