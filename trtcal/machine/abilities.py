"""What each command can do with what a machine has, and what it lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from calibrators.installation import pip_install
from trtcal.machine.doctor import Library, Machine
from trtcal.machine.nvml import Gpu


@dataclass(frozen=True, slots=True)
class Ability:
    """What a command can do here.

    Attributes:
        command: Its name, and where it matters what it is given: a backend, an engine. Or a part that Python has alone.
        ready: Whether it works.
        remark: What it can do, or what is missing.
        install: The command that installs what is missing; empty where nothing is, or where that would not help.
    """

    command: str
    ready: bool
    remark: str
    install: str = ""


def abilities(machine: Machine) -> tuple[Ability, ...]:
    """What each command can do on `machine`, as far as what is installed tells; no library is put to work for it."""
    return (
        _judged(machine, "demo", (*_GRAPHS, "onnxruntime", "numba", "PIL", "sklearn", _RTX), "demo", _DEMO),
        _judged(machine, "optimize", (*_SEARCHES, _builder(machine)), "rtx", _OPTIMIZE),
        _judged(machine, "report", ("jinja2", "vl_convert"), "report", "one HTML page, which opens offline"),
        _judged(machine, "calibrate", ("onnx", "onnxruntime", "numba", "PIL"), "", "in ONNX Runtime on the CPU"),
        _judged(machine, "compare", _SEARCHES, "", "in ONNX Runtime on the CPU"),
        _judged(machine, "sensitivity", _SEARCHES, "", "in ONNX Runtime on the CPU"),
        _judged(machine, "mixed-precision", _SEARCHES, "", "in ONNX Runtime on the CPU"),
        _judged(machine, "quantize", _GRAPHS, "", "an ONNX model with Q/DQ nodes, for any TensorRT"),
        _judged(machine, "build --backend tensorrt-rtx", (*_GRAPHS, _RTX), "rtx", _rtx_remark(machine)),
        _tensorrt(machine),
        _judged(machine, "accuracy MODEL.onnx", ("onnxruntime", "PIL"), "", "in ONNX Runtime on the CPU"),
        _engines(machine, "accuracy ENGINE", ("PIL",)),
        _judged(machine, "benchmark MODEL.onnx", ("onnx", "onnxruntime"), "", "in ONNX Runtime on the CPU"),
        _engines(machine, "benchmark ENGINE", ()),
        _judged(machine, "cache", _GRAPHS, "", "shows, checks and converts calibration caches"),
        _judged(machine, "inspect", ("onnx",), "", "engines (by their side-car) and ONNX models"),
        _judged(machine, "trtcal.qat in Python", (*_GRAPHS, "onnxruntime", "torch"), "torch", _torch_remark(machine)),
    )


_GRAPHS = ("onnx", "onnx_ir", "onnxscript")
_SEARCHES = (*_GRAPHS, "onnxruntime", "numba", "PIL")
_RTX = "tensorrt_rtx"
_CUDA = ("pycuda.driver", "cuda.bindings.runtime")
"""Either will do."""

_OPTIMIZE = "decides by accuracy and cost; with a GPU by time"

_DEMO = "the main job on bundled data"


def _judged(machine: Machine, command: str, needs: tuple[str, ...], extra: str, remark: str) -> Ability:
    """A command that needs libraries and no GPU; the extra that installs all of them (none: the package itself)."""
    lacking = [machine.libraries[name] for name in needs if not machine.libraries[name].usable]
    if not lacking:
        return Ability(command, ready=True, remark=remark)
    return Ability(command, ready=False, remark=_lack(lacking), install=_install(lacking, extra))


def _builder(machine: Machine) -> str:
    """The library that builds here: TensorRT for RTX anywhere, else TensorRT where there is a GPU."""
    return "tensorrt" if _tensorrt(machine).ready else _RTX


def _tensorrt(machine: Machine) -> Ability:
    """Building with TensorRT, on the GPU that the engine is for."""
    command, needs = "build --backend tensorrt", (*_GRAPHS, "tensorrt")
    lacking = [machine.libraries[name] for name in needs if not machine.libraries[name].usable]
    reasons = [_lack(lacking)] if lacking else []
    if machine.nvidia.absent:
        reasons.append(f"needs an NVIDIA GPU: {machine.nvidia.absent}")
    if reasons:
        return Ability(command, ready=False, remark="; ".join(reasons), install=_install(lacking, "tensorrt"))
    library = machine.libraries["tensorrt"]
    name = f"TensorRT {library.version}"
    if not library.facts.get("calibrators"):
        return Ability(command, ready=True, remark=f"{name}: INT8 by Q/DQ nodes, which a cache or images give too")
    remark = f"{name}: INT8 by a calibrator, a cache or Q/DQ nodes"
    if not _usable(machine, _CUDA):
        remark += f"; images for a calibrator need CUDA from Python, {_cuda(machine)}"
    return Ability(command, ready=True, remark=remark)


def _engines(machine: Machine, command: str, needs: tuple[str, ...]) -> Ability:
    """Running engines: a GPU, CUDA from Python, and the TensorRT that built them."""
    lacking = [machine.libraries[name] for name in needs if not machine.libraries[name].usable]
    reasons = [_lack(lacking)] if lacking else []
    installs = [_install(lacking, "")]
    families = [machine.libraries[name] for name in ("tensorrt", _RTX)]
    if not any(each.usable for each in families):
        reasons.append(f"needs the TensorRT that built the engine: {_lack(families)}")
        installs.append(_install(families, "tensorrt"))
    if not _usable(machine, _CUDA):
        libraries = [machine.libraries[name] for name in _CUDA]
        reasons.append(f"needs CUDA from Python, {_cuda(machine)}")
        if "[tensorrt]" not in installs[-1]:  # which brings PyCUDA
            installs.append("" if any(each.installed for each in libraries) else "pip install cuda-bindings")
    if machine.nvidia.absent:
        reasons.append(f"needs an NVIDIA GPU: {machine.nvidia.absent}")
    if reasons:
        return Ability(command, ready=False, remark="; ".join(reasons), install=" && ".join(filter(None, installs)))
    usable = [each for each in families if each.usable]
    if not _may_run_rtx(machine):
        usable = [each for each in usable if each.name != _RTX]
        if not usable:
            return Ability(command, ready=False, remark=f"TensorRT for RTX has no engines for {_gpus(machine)}")
    names = " and ".join(f"{each.name} {each.version}" for each in usable)
    return Ability(command, ready=True, remark=f"engines that {names} built for this GPU")


def _rtx_remark(machine: Machine) -> str:
    version = machine.libraries[_RTX].version
    remark = f"TensorRT for RTX {version}: engines for RTX GPUs, built on the CPU; INT8 by Q/DQ nodes"
    return remark if _may_run_rtx(machine) else f"{remark}; they do not run on {_gpus(machine)}"


def _torch_remark(machine: Machine) -> str:
    library = machine.libraries["torch"]
    place = _gpus(machine) if library.facts.get("cuda") and machine.nvidia.gpus else "the CPU"
    return f"PyTorch {library.version}: models quantized after training or while training, on {place}"


_NO_RTX = ("9.", "10.", "11.")
"""Compute capabilities, by how they begin, that TensorRT for RTX has no engines for; an H100 (9.0) refused them."""


def runs_rtx(gpus: Sequence[Gpu]) -> bool:
    """Whether there is a GPU among these that may run engines of TensorRT for RTX."""
    return any(not gpu.compute_capability.startswith(_NO_RTX) for gpu in gpus)


def _may_run_rtx(machine: Machine) -> bool:
    """Whether no GPU speaks against engines of TensorRT for RTX."""
    return not machine.nvidia.gpus or runs_rtx(machine.nvidia.gpus)


def _gpus(machine: Machine) -> str:
    return ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in machine.nvidia.gpus)


def _cuda(machine: Machine) -> str:
    """Why CUDA cannot be called: neither of the two libraries is here, or what is here does not import."""
    broken = [machine.libraries[each] for each in _CUDA if machine.libraries[each].installed]
    return f"PyCUDA or cuda-bindings: {_lack(broken) or 'neither is installed'}"


def _usable(machine: Machine, names: tuple[str, ...]) -> bool:
    return any(machine.libraries[name].usable for name in names)


def _lack(lacking: list[Library]) -> str:
    broken = [f"{each.name} does not import ({each.problem})" for each in lacking if each.installed]
    absent = [each.name for each in lacking if not each.installed]
    return "; ".join([f"missing: {', '.join(absent)}"] * bool(absent) + broken)


def _install(lacking: list[Library], extra: str) -> str:
    """What installs the absent; what is broken is not for pip to mend."""
    if all(each.installed for each in lacking):
        return ""
    return pip_install(*filter(None, [extra]))
