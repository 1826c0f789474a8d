"""What this machine has: processor, GPU, driver, libraries. What that is good for, `trtcal.machine.abilities` says."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any

from calibrators.errors import folded
from calibrators.tabular import Row, Tabular
from trtcal.machine.nvml import Nvidia, nvidia


@dataclass(frozen=True, slots=True)
class Library:
    """A Python package that a command may need.

    Attributes:
        name: As it is imported.
        installed: Whether it is there.
        version: Its version, where it can be told.
        problem: Why it cannot be imported all the same; empty where it can.
        facts: What else it says of itself.
    """

    name: str
    installed: bool
    version: str | None = None
    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Installed, and importing it works."""
        return self.installed and not self.problem


@dataclass(frozen=True, slots=True)
class Machine(Tabular):
    """What this machine has.

    Attributes:
        python: Version.
        system: Operating system and architecture.
        processor: The CPU's name.
        cores: Logical cores that this process may use.
        memory: Bytes; None where the system does not say.
        nvidia: GPUs and driver.
        libraries: By import name.
    """

    python: str
    system: str
    processor: str
    cores: int
    memory: int | None
    nvidia: Nvidia
    libraries: Mapping[str, Library]

    def rows(self) -> list[Row]:
        """A row a library."""
        return [
            {"library": each.name, "installed": each.installed, "version": each.version, "problem": each.problem}
            for each in self.libraries.values()
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(progress: Callable[[int], None] | None = None) -> Machine:
    """Look at this machine. Each library is imported in a process of its own, so that a broken one breaks nothing here.

    Args:
        progress: Is told the number of libraries looked at since the last call.
    """
    from engines.graph.cores import usable_cores

    cores = usable_cores()
    libraries: dict[str, Library] = {}
    with ThreadPoolExecutor(max_workers=cores) as pool:
        for library in pool.map(probe, LIBRARIES):
            libraries[library.name] = library
            if progress is not None:
                progress(1)
    return Machine(
        python=platform.python_version(),
        system=f"{platform.platform()} ({platform.machine()})",
        processor=_processor(),
        cores=cores,
        memory=_memory(),
        nvidia=nvidia(),
        libraries=libraries,
    )


def probe(name: str) -> Library:
    """Import `name` in another process, as this one would, and tell how that went."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), name, _FACTS.get(name, "{}")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return Library(name, True, _recorded_version(name), f"its import takes more than {_PATIENCE} s")
    answer = _answer(done.stdout)
    if done.returncode == 0 and answer is not None:
        if not answer["installed"]:
            return Library(name, installed=False)
        return Library(name, True, answer["version"] or _recorded_version(name), facts=answer["facts"])
    if done.returncode < 0:
        return Library(name, True, _recorded_version(name), f"its import crashes (signal {-done.returncode})")
    said = _last_words(done.stderr) or f"its import ends with exit code {done.returncode}"
    return Library(name, True, _recorded_version(name), said)


LIBRARIES = (
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "numba",
    "PIL",
    "tensorrt_rtx",
    "tensorrt",
    "pycuda.driver",
    "cuda.bindings.runtime",
    "torch",
    "sklearn",
    "jinja2",
    "vl_convert",
)
"""In the order shown: what every installation has, then what extras install."""

_PATIENCE = 60

_ANSWER = '{"installed":'
"""What the line begins with that the other process answers in; the library may print lines of its own."""

_MOST_WORDS = 300
"""Characters of an error that are shown."""

_PROGRAM = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
name = sys.argv[2]
try:
    module = importlib.import_module(name)
except ModuleNotFoundError as error:
    if error.name is None or not (name + ".").startswith(error.name + "."):
        raise
    print(json.dumps({"installed": False}))
else:
    facts = eval(sys.argv[3], {"module": module})
    version = getattr(module, "__version__", None)
    print()
    print(json.dumps({"installed": True, "version": version and str(version), "facts": facts}))
"""

_FACTS = {
    "onnxruntime": """{
        "providers": module.get_available_providers(),
        "ORT_DISABLE_TELEMETRY": __import__("os").environ.get("ORT_DISABLE_TELEMETRY"),
    }""",
    "tensorrt": '{"calibrators": hasattr(module, "IInt8EntropyCalibrator2")}',
    "tensorrt_rtx": '{"calibrators": hasattr(module, "IInt8EntropyCalibrator2")}',
    "torch": '{"cuda": module.version.cuda}',
}


def _answer(stdout: str) -> dict[str, Any] | None:
    lines = [line for line in stdout.splitlines() if line.startswith(_ANSWER)]
    return dict(json.loads(lines[-1])) if lines else None


def _last_words(stderr: str) -> str:
    """The error that a traceback ends with, all its lines on one; without a traceback, the last line."""
    lines = stderr.strip().splitlines()
    begin = max((at for at, line in enumerate(lines) if line.startswith("Traceback (most recent")), default=None)
    if begin is not None:
        lines = list(dropwhile(lambda line: line.startswith(" "), lines[begin + 1 :]))
    text = folded(" ".join(lines if begin is not None else lines[-1:]))
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}..."


def _recorded_version(name: str) -> str | None:
    """What pip knows of the package that `name` is part of.

    Several distributions may share its first word (cuda-bindings and cuda-pathfinder do): the one called like `name`
    comes first.
    """
    top, whole = name.partition(".")[0], name.replace(".", "-")
    found = importlib.metadata.packages_distributions().get(top, [])
    for distribution in sorted(found, key=lambda each: not whole.startswith(each.lower().replace("_", "-"))):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None
