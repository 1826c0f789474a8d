"""Figures as tables: for the terminal, or in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import DEFAULTS, Figures, Rounds
from benchmarks.images import BATCH
from benchmarks.peers import DEFAULT_BINS, TENSORRT_BINS

RATIO_TARGETS = {
    "resnet50": {"entropy": 1.6, "quantizable": 1.4},
    "mobilenetv2": {"entropy": 2.5, "quantizable": 2.2},
}
"""Calibration over the floor, with statistics enough for all methods: of every float activation, and with `--tensors
quantizable`."""

CALIBRATIONS = {"entropy": "calibration of every activation", "quantizable": "calibration of quantizable activations"}

GROWTH_TARGET = 1.05
MEMORY_TARGET = 1500.0
SEARCH_TARGET = 5.0
ALL_SEARCHES_TARGET = 10.0
HELP_TARGET = 0.3
QUIET = 0.5
"""The load up to which nobody else's work disturbs the figures."""

STEADY = 1.25
"""The slowest floor over the fastest, up to which a run was undisturbed."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: words in its first columns, numbers in the others.

    Attributes:
        words: How many columns hold words.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int

    @property
    def numeric(self) -> Sequence[str]:
        """The columns that hold numbers."""
        return self.columns[self.words :]

    def markdown(self) -> str:
        """In GitHub's Markdown."""
        aligned = ["---:" if column in self.numeric else "---" for column in self.columns]
        lines = [self.columns, aligned, *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def tables(figures: Figures) -> list[Table]:
    """Everything that was found, the targets last."""
    return [
        _machine(figures),
        _wall_time(figures),
        _memory(figures),
        _search(figures),
        _start(figures),
        _targets(figures),
    ]


def remarks(figures: Figures) -> list[str]:
    """What a reader should know before believing the figures."""
    said, settings = [], figures.settings
    if figures.load > QUIET:
        said.append(
            f"the machine was busy (a load of {figures.load:.2f} in the minute before): run again when it is quiet"
        )
    for name, model in figures.models.items():
        spread = max(model.floors) / min(model.floors)
        if spread > STEADY:
            said.append(
                f"{name}: the floor took up to {spread:.1f} times its fastest, so something disturbed the run; as its "
                "threads wait for each other in every layer, that slows it most, and figures over it come out too low"
            )
    if settings.rounds < DEFAULTS.rounds:
        said.append(f"too few rounds to tell figures from noise: take {DEFAULTS.rounds} or more")
    if 0 < settings.peers_images < settings.images:
        said.append(
            f"ONNX Runtime's calibrators had {settings.peers_images} images, not {settings.images}, as Entropy keeps "
            "every activation in memory; what they took is divided by the floor of as many images"
        )
    return said


def _machine(figures: Figures) -> Table:
    load = ("load in the minute before", f"{figures.load:.2f}")
    return Table("Machine", ("what", "value"), [*figures.machine.items(), load], words=2)


def _wall_time(figures: Figures) -> Table:
    images, peers_images = str(figures.settings.images), str(figures.settings.peers_images)
    labels = {
        "fetch": "every activation fetched, nothing counted",
        "entropy": "trtcal entropy",
        "quantizable": "trtcal entropy, --tensors quantizable",
        "decode": "JPEG files decoded and preprocessed, nothing run",
        "files": "trtcal entropy, from JPEG files",
    }
    rows = []
    for name, model in figures.models.items():
        middle = median(model.floors)
        spread = _spread([seconds / middle for seconds in model.floors])
        rows.append([name, "plain FP32 inference: the floor", images, f"{middle:.2f}", "1.00", spread, "", ""])
        rows += [[name, labels[task], images, *_timed(rounds)] for task, rounds in model.rounds.items()]
        rows += [
            [name, f"onnxruntime {peer}", peers_images, *_timed(rounds)] for peer, rounds in model.peer_rounds.items()
        ]
    title = f"Wall time, median of {figures.settings.rounds} round(s); the floor in batches of {BATCH} on all cores"
    columns = ("model", "what", "images", "seconds", "x floor", "lowest-highest", "collect s", "search s")
    return Table(title, columns, rows, words=2)


def _timed(rounds: Rounds) -> list[str]:
    parts = [f"{median(part):.2f}" if part else "" for part in (rounds.collect, rounds.search)]
    return [f"{median(rounds.seconds):.2f}", f"{rounds.ratio:.2f}", _spread(rounds.ratios), *parts]


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}"


def _memory(figures: Figures) -> Table:
    labels = {"inference": "plain FP32 inference", "entropy": "trtcal entropy"}
    peaks: dict[tuple[str, str], Mapping[int, float]] = {}
    for name, model in figures.models.items():
        peaks |= {(name, labels[task]): each for task, each in model.memory.items()}
        peaks |= {(name, f"onnxruntime {peer}"): each for peer, each in model.peer_memory.items()}
    counts = sorted({count for each in peaks.values() for count in each})
    rows = [[*key, *(f"{each[count]:.0f}" if count in each else "" for count in counts)] for key, each in peaks.items()]
    title = "Peak resident memory in MB, each in a process of its own"
    return Table(title, ("model", "what", *(f"{count} images" for count in counts)), rows, words=2)


def _search(figures: Figures) -> Table:
    bins = {DEFAULT_BINS: f"{DEFAULT_BINS} bins, its default: one candidate", TENSORRT_BINS: f"{TENSORRT_BINS} bins"}
    rows = []
    for name, model in figures.models.items():
        searches = {f"trtcal {method}": search for method, search in model.search.items()}
        searches |= {f"onnxruntime Entropy, {bins[number]}": search for number, search in model.peer_search.items()}
        for what, search in searches.items():
            rows.append([name, what, str(search.tensors), f"{search.median:.3f}", f"{search.slowest:.3f}"])
    title = "Threshold search in ms per tensor, one thread"
    return Table(title, ("model", "search", "tensors", "median", "slowest"), rows, words=2)


def _start(figures: Figures) -> Table:
    rows = [
        [f"trtcal --help, median of {len(figures.help_seconds)}", f"{median(figures.help_seconds):.2f}"],
        ["first calibration ever: imports and compiling", f"{figures.start_up['compiling']:.2f}"],
        ["first calibration in a process: imports and loading what was compiled", f"{figures.start_up['loading']:.2f}"],
    ]
    return Table("Start, not in the wall times", ("what", "seconds"), rows, words=1)


def _targets(figures: Figures) -> Table:
    checks: list[tuple[str, float, float, str]] = []
    for name, model in figures.models.items():
        slowest = max(search.median for search in model.search.values())
        checks += [
            *(
                (f"{name}: {CALIBRATIONS[task]} over the floor", model.rounds[task].ratio, target, ".2f")
                for task, target in RATIO_TARGETS[name].items()
            ),
            (f"{name}: peak memory, all images over a quarter of them", model.growth, GROWTH_TARGET, ".3f"),
            (f"{name}: peak memory, MB", max(model.memory["entropy"].values()), MEMORY_TARGET, ".0f"),
            (f"{name}: slowest method's search, ms per tensor", slowest, SEARCH_TARGET, ".2f"),
            (f"{name}: all methods for 200 tensors, seconds", model.all_searches, ALL_SEARCHES_TARGET, ".2f"),
        ]
    checks.append(("trtcal --help, seconds", median(figures.help_seconds), HELP_TARGET, ".2f"))
    rows = [
        [what, f"{value:{form}}", f"{target:g}", "yes" if value <= target else "NO"]
        for what, value, target, form in checks
    ]
    return Table("Targets", ("what", "measured", "at most", "reached"), rows, words=1)
