"""What each command can do, on machines of every kind."""

import pytest

from calibrators.installation import pip_install
from trtcal.machine.abilities import abilities
from trtcal.machine.doctor import LIBRARIES, Library, Machine
from trtcal.machine.nvml import Gpu, Nvidia
from trtcal.verbs import app

GPU = Nvidia("550.54", "12.4", (Gpu("NVIDIA RTX A4000", 16 * 2**30, "8.6"),))
NO_GPU = Nvidia(absent="no NVIDIA driver (libnvidia-ml.so.1 cannot be loaded)")


def found(nvidia=GPU, *, calibrators=True, cuda=None, **changes):
    """By command, on a machine where every library works, but for `changes`: "" for one that is absent, else what is
    wrong with it; two underscores are a dot."""
    libraries = {name: Library(name, True, "1.0") for name in LIBRARIES}
    libraries["tensorrt"] = Library("tensorrt", True, "10.9.0.34", facts={"calibrators": calibrators})
    libraries["torch"] = Library("torch", True, "2.13.0", facts={"cuda": cuda})
    for key, problem in changes.items():
        name = key.replace("__", ".")
        assert name in libraries
        libraries[name] = Library(name, False) if problem == "" else Library(name, True, "1.0", problem)
    machine = Machine("3.12.0", "Linux", "CPU", 2, None, nvidia, libraries)
    return {each.command: each for each in abilities(machine)}


def not_ready(commands):
    return [name for name, each in commands.items() if not each.ready]


def test_everything_works_with_everything():
    assert all(each.ready and not each.install for each in found().values())


def test_every_command_is_judged():
    names = {each.name for each in app.registered_commands} | {each.name for each in app.registered_groups}
    assert {name.split()[0] for name in found()} == names - {"doctor"} | {"trtcal.qat"}


def test_without_a_gpu_all_that_needs_none_works():
    commands = found(NO_GPU)
    assert not_ready(commands) == ["build --backend tensorrt", "accuracy ENGINE", "benchmark ENGINE"]
    for name in not_ready(commands):
        assert commands[name].remark == f"needs an NVIDIA GPU: {NO_GPU.absent}"
        assert commands[name].install == ""  # which no pip can mend


def test_a_gpu_that_tensorrt_for_rtx_has_no_engines_for():
    hopper = Nvidia("580.1", "13.0", (Gpu("NVIDIA H100", 80 * 2**30, "9.0"),))
    commands = found(hopper)
    assert not not_ready(commands)
    assert commands["accuracy ENGINE"].remark == "engines that tensorrt 10.9.0.34 built for this GPU"
    assert commands["build --backend tensorrt-rtx"].remark.endswith(
        "they do not run on NVIDIA H100 (compute capability 9.0)"
    )
    alone = found(hopper, tensorrt="")
    assert not_ready(alone) == ["build --backend tensorrt", "accuracy ENGINE", "benchmark ENGINE"]
    assert alone["benchmark ENGINE"].remark == (
        "TensorRT for RTX has no engines for NVIDIA H100 (compute capability 9.0)"
    )
    both = Nvidia("580.1", "13.0", (*hopper.gpus, *GPU.gpus))
    assert not_ready(found(both, tensorrt="")) == ["build --backend tensorrt"]


def test_without_any_tensorrt():
    commands = found(tensorrt="", tensorrt_rtx="")
    builds = ["demo", "build --backend tensorrt-rtx", "build --backend tensorrt"]
    assert not_ready(commands) == [builds[0], "optimize", *builds[1:], "accuracy ENGINE", "benchmark ENGINE"]
    assert commands["build --backend tensorrt-rtx"].remark == "missing: tensorrt_rtx"
    assert [commands[name].install for name in builds] == [pip_install(extra) for extra in ("demo", "rtx", "tensorrt")]
    assert commands["benchmark ENGINE"].remark == (
        "needs the TensorRT that built the engine: missing: tensorrt, tensorrt_rtx"
    )
    assert commands["benchmark ENGINE"].install == pip_install("tensorrt")


@pytest.mark.parametrize("absent", ["tensorrt", "tensorrt_rtx"])
def test_either_tensorrt_runs_its_own_engines(absent):
    other = {"tensorrt": "tensorrt_rtx 1.0", "tensorrt_rtx": "tensorrt 10.9.0.34"}[absent]
    commands = found(**{absent: ""})
    assert commands["accuracy ENGINE"].ready
    assert commands["accuracy ENGINE"].remark == f"engines that {other} built for this GPU"


def test_tensorrt_with_and_without_calibrators():
    assert found()["build --backend tensorrt"].remark == (
        "TensorRT 10.9.0.34: INT8 by a calibrator, a cache or Q/DQ nodes"
    )
    assert found(calibrators=False)["build --backend tensorrt"].remark == (
        "TensorRT 10.9.0.34: INT8 by Q/DQ nodes, which a cache or images give too"
    )


@pytest.mark.parametrize("name", ["pycuda__driver", "cuda__bindings__runtime"])
def test_one_cuda_library_is_enough(name):
    assert not not_ready(found(**{name: ""}))


def test_without_cuda_python():
    """Builds do without, but for calibrators that are given images."""
    commands = found(pycuda__driver="", cuda__bindings__runtime="")
    assert not_ready(commands) == ["accuracy ENGINE", "benchmark ENGINE"]
    assert commands["benchmark ENGINE"].remark == (
        "needs CUDA from Python, PyCUDA or cuda-bindings: neither is installed"
    )
    assert commands["benchmark ENGINE"].install == "pip install cuda-bindings"
    assert commands["build --backend tensorrt"].remark.endswith(
        "images for a calibrator need CUDA from Python, PyCUDA or cuda-bindings: neither is installed"
    )


def test_all_that_running_engines_lacks_is_told_at_once():
    commands = found(NO_GPU, tensorrt="", tensorrt_rtx="", pycuda__driver="", cuda__bindings__runtime="", PIL="")
    assert commands["accuracy ENGINE"].remark == (
        "missing: PIL; needs the TensorRT that built the engine: missing: tensorrt, tensorrt_rtx; "
        "needs CUDA from Python, PyCUDA or cuda-bindings: neither is installed; "
        f"needs an NVIDIA GPU: {NO_GPU.absent}"
    )
    assert commands["accuracy ENGINE"].install == f"{pip_install()} && {pip_install('tensorrt')}"


def test_pytorch_is_for_training_and_for_nothing_else():
    commands = found(torch="")
    assert not_ready(commands) == ["trtcal.qat in Python"]
    assert commands["trtcal.qat in Python"].remark == "missing: torch"
    assert commands["trtcal.qat in Python"].install == pip_install("torch")


@pytest.mark.parametrize(
    "nvidia, cuda, place",
    [
        (GPU, "13.0", "NVIDIA RTX A4000 (compute capability 8.6)"),
        (GPU, None, "the CPU"),
        (NO_GPU, "13.0", "the CPU"),
    ],
)
def test_pytorch_computes_on_a_gpu_where_it_and_the_machine_can(nvidia, cuda, place):
    assert found(nvidia, cuda=cuda)["trtcal.qat in Python"].remark == (
        f"PyTorch 2.13.0: models quantized after training or while training, on {place}"
    )


def test_without_a_core_library():
    commands = found(numba="", PIL="")
    assert commands["calibrate"].remark == "missing: numba, PIL"
    assert commands["calibrate"].install == pip_install()
    assert commands["benchmark MODEL.onnx"].ready


def test_a_broken_library_is_not_for_pip_to_mend():
    problem = "ImportError: libcudart.so.13: cannot open shared object file"
    commands = found(tensorrt_rtx=problem, pycuda__driver=problem, cuda__bindings__runtime=problem)
    build = commands["build --backend tensorrt-rtx"]
    assert (build.ready, build.install) == (False, "")
    assert build.remark == f"tensorrt_rtx does not import ({problem})"
    assert commands["benchmark ENGINE"].install == ""
    assert f"pycuda.driver does not import ({problem})" in commands["benchmark ENGINE"].remark
