"""The demo: the whole job on a bundled network, by the command that everybody calls."""

import shlex
from pathlib import Path

from calibrators.cache.sidecar import sidecar_path
from calibrators.files import write_whole
from trtcal.demo.places import Places as DemoPlaces
from trtcal.demo.run import MAX_DROP, Prepared, Step, prepare
from trtcal.demo.subjects import Task
from trtcal.optimization.places import Places
from trtcal.optimization.request import Request, checked
from trtcal.optimization.result import Optimized
from trtcal.optimization.run import optimized


def demonstrate(folder: Path, task: Task = "classify", *, step: Step) -> tuple[Prepared, Optimized]:
    """Write a bundled network and images into `folder`, and optimize it in `folder`/optimized.

    The cache, the model with Q/DQ nodes, the engines and the page get names of their own in `folder`.

    Args:
        folder: A new or empty one, or that of an earlier demo of this task.
        task: What the model is for.
        step: Shows progress.

    Raises:
        TrtcalError: As `prepare` and `optimized` raise it.
    """
    prepared = prepare(folder, task, step=step)
    places = prepared.places
    request = Request(places.fp32, places.optimized, prepared.choice, MAX_DROP, backend="tensorrt-rtx")
    done = optimized(checked(request), step=step)
    for source, target in copies(places):
        for path, copy in ((source, target), (sidecar_path(source), sidecar_path(target))):
            if path.is_file():
                write_whole(copy, path.read_bytes())
    prepared.subject.draw(places)
    return prepared, done


def files_of(places: DemoPlaces) -> dict[str, str]:
    """Where each file is, by what it is."""
    named = {
        "calibration": places.calibration,
        "test": places.test,
        "annotations": places.annotations,
        "masks": places.masks,
        "pictures": places.pictures,
        "fp32": places.fp32,
        "cache": places.cache,
        "int8": places.int8,
        "fp32_engine": places.fp32_engine,
        "int8_engine": places.int8_engine,
        "report": places.page,
        "optimized": places.optimized,
    }
    return {name: str(path) for name, path in named.items() if path.exists()}


def next_step(places: DemoPlaces, done: Optimized, *, gpu: bool) -> str:
    """The command to type next.

    Args:
        places: The demo's files.
        done: What came of it.
        gpu: Whether its engines run here.
    """
    if done.chosen is None or done.chosen.name != "int8":
        judged = ["--test-images", str(places.test), "--preprocess", "unit"]
        return shlex.join(["trtcal", "sensitivity", str(places.fp32), "--images", str(places.calibration), *judged])
    if gpu:
        return shlex.join(["trtcal", "benchmark", str(places.fp32_engine), str(places.int8_engine)])
    return shlex.join(["trtcal", "inspect", str(places.int8_engine)])


def copies(places: DemoPlaces) -> list[tuple[Path, Path]]:
    """What of the optimization the demo shows under a name of its own: from where, to where."""
    own = Places(places.optimized, places.name)
    return [
        (own.cache, places.cache),
        (own.quantized, places.int8),
        (own.engine_of("fp32"), places.fp32_engine),
        (own.engine_of("int8"), places.int8_engine),
        (own.page, places.page),
    ]
