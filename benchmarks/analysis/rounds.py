"""A job done by both commits in turn: wall time, processor time, memory."""

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.analysis.job import Figures, Job
from benchmarks.analysis.older import Tree
from benchmarks.processes import in_fresh_process
from calibrators.errors import TrtcalError


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run: seconds of wall time and of all processors, and the most memory, in MB (10^6 bytes)."""

    seconds: float
    processor: float
    memory: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a job cost both commits, round by round, and what was told of their results."""

    job: Job
    old: tuple[Cost, ...]
    new: tuple[Cost, ...]
    figures: Figures

    def ratio(self, what: str) -> float:
        """The median over rounds of the old cost over the new; `what` is a field of `Cost`."""
        pairs = zip(self.old, self.new, strict=True)
        return median(getattr(old, what) / getattr(new, what) for old, new in pairs)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "job": self.job.name,
            "bar": self.job.bar,
            "times_as_fast": self.ratio("seconds"),
            "times_less_processor_time": self.ratio("processor"),
            "times_the_memory": 1 / self.ratio("memory"),
            **self.figures,
            **{
                name: [{"seconds": each.seconds, "processor": each.processor, "mb": each.memory} for each in costs]
                for name, costs in (("old", self.old), ("new", self.new))
            },
        }


def measured(job: Job, folder: Path, old: Tree, new: Tree, *, rounds: int) -> Measured:
    """Do a job `rounds` times by each commit, old and new in turn.

    Raises:
        TrtcalError: A command of it fails.
    """
    folder.mkdir()
    in_fresh_process(job.prepare, folder)
    costs: dict[str, list[Cost]] = {"old": [], "new": []}
    for _ in range(rounds):
        for name, tree, command in (("old", old, job.old), ("new", new, job.new)):
            (folder / name).mkdir(exist_ok=True)
            costs[name].append(in_fresh_process(_cost, job.name, command, folder, folder / name, tree))
    figures = job.judge(folder / "old", folder / "new")
    return Measured(job, tuple(costs["old"]), tuple(costs["new"]), figures)


def _cost(job: str, command: Sequence[str], folder: Path, output: Path, tree: Tree) -> Cost:
    """Run Python once; `wait4` tells what this child alone used, whatever ran before it."""
    arguments = [str(tree.python), *(part.replace("{out}", str(output)) for part in command)]
    began = time.perf_counter()
    with (output / "stdout").open("wb") as told, (output / "stderr").open("wb") as said:
        child = subprocess.Popen(arguments, cwd=folder, env=_environment(tree), stdout=told, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):  # 1: a check failed, such as a target that nothing reaches
        last = (output / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
        raise TrtcalError(f"{job} failed in {tree.root.name} with {child.returncode}: {' '.join(last)}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, _megabytes(used))


def _environment(tree: Tree) -> Mapping[str, str]:
    path = os.pathsep.join(filter(None, (str(tree.root), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _megabytes(used: resource.struct_rusage) -> float:
    """Linux counts in kB, from the peak of the process that started this one: so a fresh, small one does."""
    return used.ru_maxrss * 1024 / 1e6
