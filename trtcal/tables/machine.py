"""What this machine has, and what each command can do here."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trtcal.machine.abilities import Ability
from trtcal.machine.doctor import Library, Machine
from trtcal.tables import console


def show(machine: Machine, commands: Sequence[Ability]) -> None:
    """Print the machine, its libraries, and the commands."""
    console.table("Machine", ("what", "found"), _facts(machine))
    console.table(
        "Libraries",
        ("library", "version", "remark"),
        [[each.name, each.version or "-", _remark(each)] for each in machine.libraries.values()],
        styles=["red" if each.problem else None for each in machine.libraries.values()],
    )
    console.table(
        "Commands",
        ("command", "works", "remark", "to install what is missing"),
        [[each.command, "yes" if each.ready else "no", each.remark, each.install] for each in commands],
        styles=[None if each.ready else "yellow" for each in commands],
    )


def as_dict(machine: Machine, commands: Sequence[Ability]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {**machine.to_dict(), "commands": [asdict(each) for each in commands]}


def _facts(machine: Machine) -> list[list[str]]:
    nvidia = machine.nvidia
    gpus = [
        ["GPU", f"{gpu.name}, {gpu.memory / 2**30:.1f} GiB, compute capability {gpu.compute_capability}"]
        for gpu in nvidia.gpus
    ]
    driver = f"{nvidia.driver}, CUDA up to {nvidia.cuda}" if nvidia.driver else "none"
    memory = f"{machine.memory / 2**30:.1f} GiB" if machine.memory else "unknown"
    return [
        ["Python", machine.python],
        ["System", machine.system],
        ["Processor", f"{machine.processor}, {machine.cores} core(s) to use"],
        ["Memory", memory],
        *(gpus or [["GPU", nvidia.absent]]),
        ["NVIDIA driver", driver],
    ]


def _remark(library: Library) -> str:
    if not library.installed:
        return "not installed"
    if library.problem:
        return library.problem
    facts = library.facts
    if "calibrators" in facts:
        return "has calibrators" if facts["calibrators"] else "has no calibrators: INT8 by Q/DQ nodes"
    if "providers" in facts:
        return ", ".join((*facts["providers"], _telemetry(facts.get("ORT_DISABLE_TELEMETRY"))))
    if "cuda" in facts:
        return f"CUDA {facts['cuda']}" if facts["cuda"] else "CPU only"
    return ""


def _telemetry(disabled: str | None) -> str:
    return "telemetry off" if disabled == "1" else f"telemetry as ORT_DISABLE_TELEMETRY={disabled or ''} has it"
