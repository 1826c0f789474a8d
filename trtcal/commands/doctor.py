"""`trtcal doctor`: what this machine has, and what each command can do here."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from trtcal.machine.doctor import Library, Machine


def doctor(*, json: options.Json = False) -> None:
    """Tell what this machine has (processor, GPU, driver, libraries) and what each command can do here.

    What is absent is no error: the exit code is 0.
    """
    from trtcal.machine.abilities import abilities
    from trtcal.machine.doctor import LIBRARIES, examine

    with console.progress("Looking at libraries", len(LIBRARIES)) as advance:
        machine = examine(advance)
    commands = abilities(machine)
    if json:
        console.emit_json({**machine.to_dict(), "commands": [asdict(each) for each in commands]})
        return
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


def _facts(machine: "Machine") -> list[list[str]]:
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


def _remark(library: "Library") -> str:
    if not library.installed:
        return "not installed"
    if library.problem:
        return library.problem
    facts = library.facts
    if "calibrators" in facts:
        return "has calibrators" if facts["calibrators"] else "has no calibrators: INT8 by Q/DQ nodes"
    if "providers" in facts:
        return ", ".join(facts["providers"])
    if "cuda" in facts:
        return f"CUDA {facts['cuda']}" if facts["cuda"] else "CPU only"
    return ""
