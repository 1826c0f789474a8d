"""One run of the benchmarks: what is measured, in which order."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.calibration import calibration_peak, plain_peak, start_up, timings
from benchmarks.figures import Figures, ModelFigures, Settings
from benchmarks.peers import PEERS, peer_peak, peer_searches, peer_timings
from benchmarks.processes import in_fresh_process
from benchmarks.timing import seconds
from calibrators.errors import TrtcalError

HELP_RUNS = 10
FEWER = 4
"""Memory is measured on all images and on all divided by this."""

HELP = "import sys; from trtcal.cli import main; sys.argv = ['trtcal', '--help']; main()"
"""What the installed command `trtcal` does."""

LIBRARIES = ("numpy", "onnx", "onnxruntime", "numba")


def measure(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Measure everything, one thing at a time.

    Args:
        settings: What.
        say: Is told what is being measured.
    """
    load = os.getloadavg()[0]
    say("Looking at the machine")
    machine = _machine()
    say("trtcal --help")
    helps = _help_seconds()
    with tempfile.TemporaryDirectory(prefix="trtcal-benchmarks-") as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in settings.models}
        sizes = {name: in_fresh_process(write_model, name, path) for name, path in paths.items()}
        say("The first calibration in a process")
        first, compiled = next(iter(paths.values())), Path(folder) / "compiled"
        started = {what: in_fresh_process(start_up, first, compiled) for what in ("compiling", "loading")}
        models = {name: _model(name, path, *sizes[name], settings, say) for name, path in paths.items()}
    return Figures(machine, load, settings, helps, started, models)


def write_model(name: str, path: Path) -> tuple[int, int]:
    """Make the model `name` and write it to `path`; give the numbers of its nodes and of its float activations."""
    import onnx

    from benchmarks.models import MODELS
    from engines.graph.model import activations

    model = MODELS[name]()
    onnx.save(model, path)
    return len(model.graph.node), len(activations(model))


def _model(
    name: str, path: Path, nodes: int, tensors: int, settings: Settings, say: Callable[[str], None]
) -> ModelFigures:
    images, rounds = settings.images, settings.rounds
    say(f"{name}: wall time of {rounds} round(s) on {images} images")
    times, search, all_searches = in_fresh_process(timings, path, images=images, rounds=rounds)
    say(f"{name}: peak memory")
    counts = sorted({max(1, images // FEWER), images})
    memory = {
        task: {count: in_fresh_process(peak, path, images=count) for count in counts}
        for task, peak in (("inference", plain_peak), ("entropy", calibration_peak))
    }
    peer_times, peer_memory, peer_search = {}, {}, {}
    if peers_images := settings.peers_images:
        for peer in PEERS:
            say(f"{name}: ONNX Runtime's {peer} on {peers_images} images")
            peer_times[peer] = in_fresh_process(peer_timings, path, peer, images=peers_images, rounds=rounds)
            peer_memory[peer] = {peers_images: in_fresh_process(peer_peak, path, peer, images=peers_images)}
        peer_search = in_fresh_process(peer_searches, path)
    return ModelFigures(nodes, tensors, times, memory, search, all_searches, peer_times, peer_memory, peer_search)


def _help_seconds() -> list[float]:
    """The first run, which may write compiled Python, does not count."""
    return [seconds(_help) for _ in range(HELP_RUNS + 1)][1:]


def _help() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TrtcalError(f"trtcal --help fails: {' '.join(done.stderr.split())[-300:]}")


def _machine() -> dict[str, str]:
    from trtcal.machine.doctor import examine

    found = examine()
    memory = "?" if found.memory is None else f"{found.memory / 1e9:.1f} GB"
    return {
        "processor": found.processor,
        "cores": str(found.cores),
        "memory": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": found.python,
        **{name: found.libraries[name].version or "?" for name in LIBRARIES},
    }
