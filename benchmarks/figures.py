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
        collect: The part of `seconds` in which the model ran and its activations were counted; empty where there are no
            parts.
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
        """For JSON: medians, and every round; times in seconds."""
        times = {name: list(each) for name, each in asdict(self).items() if each}
        medians = {name: median(each) for name, each in times.items()}
        return {"ratio": self.ratio, **medians, "rounds": {"ratio": self.ratios, **times}}


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
    """What was found with one model; memory in MB (10^6 bytes) by number of images.

    Attributes:
        nodes: Nodes of its graph.
        tensors: Its float activations.
        rounds: Wall times by task, of all images: "fetch", "entropy", "quantizable", "decode", "files".
        memory: "inference" and "entropy".
        search: By method.
        all_searches: Seconds of all methods together for 200 tensors.
        peer_rounds: By peer, of the peers' images; empty where the peers were left out.
        peer_memory: By peer.
        peer_search: By number of bins.
    """

    nodes: int
    tensors: int
    rounds: Mapping[str, Rounds]
    memory: Mapping[str, Mapping[int, float]]
    search: Mapping[str, Search]
    all_searches: float
    peer_rounds: Mapping[str, Rounds]
    peer_memory: Mapping[str, Mapping[int, float]]
    peer_search: Mapping[int, Search]

    @property
    def floors(self) -> list[float]:
        """Seconds of the floor, each time that it was measured on all images."""
        return list(dict.fromkeys(seconds for rounds in self.rounds.values() for seconds in rounds.floor))

    @property
    def growth(self) -> float:
        """Peak memory of a calibration on all images over that on the fewest."""
        peaks = self.memory["entropy"]
        return peaks[max(peaks)] / peaks[min(peaks)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "nodes": self.nodes,
            "tensors": self.tensors,
            "calibration": {task: rounds.to_dict() for task, rounds in self.rounds.items()},
            "memory_mb": {task: dict(peaks) for task, peaks in self.memory.items()},
            "memory_growth": self.growth,
            "search": {method: search.to_dict() for method, search in self.search.items()},
            "all_searches_seconds": self.all_searches,
            "onnxruntime": {
                "calibration": {peer: rounds.to_dict() for peer, rounds in self.peer_rounds.items()},
                "memory_mb": {peer: dict(peaks) for peer, peaks in self.peer_memory.items()},
                "search_by_bins": {bins: search.to_dict() for bins, search in self.peer_search.items()},
            },
        }


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure.

    Attributes:
        models: Names of `benchmarks.models.MODELS`.
        images: Images that trtcal calibrates on.
        rounds: Of each wall time.
        peers_images: Images that ONNX Runtime calibrates on; 0 leaves its calibrators out.
    """

    models: Sequence[str] = ("resnet50", "mobilenetv2")
    images: int = 512
    rounds: int = 3
    peers_images: int = 32


DEFAULTS = Settings()


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run of the benchmarks found.

    Attributes:
        machine: The processor, the memory, versions.
        load: Mean number of processes that wanted a core in the minute before.
        settings: What was asked for.
        help_seconds: Wall time of each `trtcal --help`.
        start_up: Seconds until a process has everything loaded: "compiling" the first time ever, "loading" later on.
        models: By name.
    """

    machine: Mapping[str, str]
    load: float
    settings: Settings
    help_seconds: Sequence[float]
    start_up: Mapping[str, float]
    models: Mapping[str, ModelFigures]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": dict(self.machine),
            "load": self.load,
            "settings": asdict(self.settings),
            "help": {"seconds": median(self.help_seconds), "runs": list(self.help_seconds)},
            "start_up_seconds": dict(self.start_up),
            "models": {name: figures.to_dict() for name, figures in self.models.items()},
        }
