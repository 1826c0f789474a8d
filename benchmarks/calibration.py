"""trtcal's own calibration: wall time, threshold searches, start-up, peak memory.

Each public function is called in a fresh process.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.figures import Rounds, Search
from benchmarks.images import BATCH, SyntheticImages, write_files
from benchmarks.inference import fetching_session, plain_session, run
from benchmarks.processes import peak_memory
from benchmarks.timing import Task, in_rounds, seconds
from calibrators.batches import Array

Batches = Iterable[Mapping[str, Array]]
Tensors = Literal["all", "quantizable"]

WARM_UP = 2
"""Images that are run before anything is timed."""

REPEATS = 5
"""Searches of each tensor; their median counts."""

MANY = 200
"""Tensors of a large model, for all methods together."""


def timings(model: Path, *, images: int, rounds: int) -> tuple[dict[str, Rounds], dict[str, Search], float]:
    """Wall times in rounds, milliseconds of each method's search, and seconds of all of them for `MANY` tensors.

    The tasks are "fetch" (every activation fetched, in the floor's batches, and nothing counted), "entropy" (of every
    float activation), "quantizable" (of the activations that Q/DQ nodes need), "decode" (the images as JPEG files,
    decoded and preprocessed, and nothing run) and "files" (as "entropy", from these files). But for these the images
    are in memory. A calibration's time includes reading the model and opening its session; the floor's session and that
    of "fetch" are open before.
    """
    batches, few = list(SyntheticImages(images)), list(SyntheticImages(WARM_UP))
    plain, fetching = plain_session(model), fetching_session(model)
    run(plain, batches[:1])
    run(fetching, batches[:1])
    _calibrated(model, few, "all")
    _calibrated(model, few, "quantizable")
    with tempfile.TemporaryDirectory(prefix="trtcal-benchmarks-") as folder:
        write_files(Path(folder), images)
        tasks: tuple[Task, ...] = (
            lambda: {"fetch": [seconds(run, fetching, batches)]},
            lambda: {"entropy": _calibrated(model, batches, "all")},
            lambda: {"quantizable": _calibrated(model, batches, "quantizable")},
            lambda: {"decode": [seconds(list, _loader(folder))]},
            lambda: {"files": _calibrated(model, _loader(folder), "all")},
        )
        times = in_rounds(lambda: run(plain, batches), tasks, rounds=rounds)
    return times, *_searches(model, batches[:1])


def start_up(model: Path, compiled: Path) -> float:
    """Seconds that a process's first calibration takes more than its second: imports, compiled code made or loaded.

    Args:
        model: Any.
        compiled: The folder where compiled code is kept; the second process that is given it finds the code there.
    """
    os.environ["NUMBA_CACHE_DIR"] = str(compiled)  # numba reads it when it is imported, which it is not yet here
    few = list(SyntheticImages(WARM_UP))
    first, second = (seconds(_calibrated, model, few, "all") for _ in range(2))
    return first - second


def plain_peak(model: Path, *, images: int) -> float:
    """Peak memory in MB of plain inference, the images made batch by batch."""
    run(plain_session(model), SyntheticImages(images))
    return peak_memory()


def calibration_peak(model: Path, *, images: int) -> float:
    """Peak memory in MB of an entropy calibration of every float activation, the images made batch by batch."""
    _calibrated(model, SyntheticImages(images), "all")
    return peak_memory()


def _loader(folder: str) -> Batches:
    from trtcal.data.images import ImageLoader

    return ImageLoader(folder, preprocess="imagenet", batch_size=BATCH)


def _calibrated(model: Path, batches: Batches, tensors: Tensors) -> tuple[float, float]:
    """Calibrate by entropy; give the seconds of collecting, with which any method would do, and of searching."""
    from calibrators.ranges import calibrate
    from engines.collection.collect import collect

    start = time.perf_counter()
    statistics = collect(model, batches, tensors=tensors)
    return time.perf_counter() - start, seconds(calibrate, statistics, "entropy")


def _searches(model: Path, batches: Batches) -> tuple[dict[str, Search], float]:
    """Each method's search, tensor by tensor in one thread, and seconds of all methods for `MANY` tensors."""
    from calibrators.ranges import METHODS, range_of
    from engines.collection.collect import collect

    statistics = list(collect(model, batches).values())
    searches = {
        method: Search.of(
            [1000 * median(seconds(range_of, each, method) for _ in range(REPEATS)) for each in statistics]
        )
        for method in METHODS
    }
    many = (statistics * (MANY // len(statistics) + 1))[:MANY]
    return searches, sum(seconds(range_of, each, method) for method in METHODS for each in many)
