"""The real PyCUDA and cuda.bindings on a driver of a few lines of C (`driver.c`): what a test cannot ask of a real GPU.

cuda.bindings 12.9 and later bring a CUDA runtime that a stand-in driver cannot satisfy; `test_cuda_bindings` checks how
those are called.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def bindings_version():
    for name in ("cuda-bindings", "cuda-python"):
        try:
            return tuple(map(int, importlib.metadata.version(name).split(".")[:2]))
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def reason_to_skip(library):
    if sys.platform != "linux":
        return "the stand-in driver is built for Linux only"
    if library == "pycuda":
        return None if importlib.util.find_spec("pycuda") else "PyCUDA is not installed"
    if bindings_version() is None:
        return "cuda.bindings is not installed"
    return "this cuda.bindings has a runtime that needs a real driver" if bindings_version() >= (12, 9) else None


CLASSES = {
    "pycuda": "from calibrators.cuda.pycuda_device import PyCuda as Library",
    "bindings": "from calibrators.cuda.bindings import CudaBindings as Library",
}


@pytest.fixture(params=CLASSES)
def library(request):
    if reason := reason_to_skip(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The folder of the stand-in for libcuda.so.1."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1"]
    subprocess.run([compiler, HERE / "driver.c", *flags, "-ldl"], check=True)
    return folder


@pytest.fixture
def python(driver):
    """Runs Python with the stand-in first on the path of libraries."""

    def run(*arguments, **environment):
        paths = (str(driver), os.environ.get("LD_LIBRARY_PATH", ""))
        variables = {
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        }
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **variables, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def program(python, library):
    """Runs a program in which `Library` is the class; `attempt` prints what a call raises."""

    def run(code, **environment):
        begin = f"""
import sys
from calibrators.errors import TrtcalError
{CLASSES[library]}
def attempt(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except TrtcalError as error:
        print(type(error).__name__, error)
"""
        return python("-c", begin + code, **environment)

    return run


def test_what_the_protocol_promises(python, library):
    suite = HERE / "test_gpu.py"
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", library, str(suite))
    assert done.returncode == 0, done.stdout
    assert re.search(r"(?m)^2\d passed, ", done.stdout), done.stdout
    assert "skipped" not in done.stdout


def test_no_gpu(program):
    done = program("attempt(Library)", DRIVER_DEVICES="0")
    assert done.stdout.startswith("DeviceError CUDA cannot look for GPUs: no CUDA-capable device is detected (cu")
    assert "check nvidia-smi and CUDA_VISIBLE_DEVICES" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_driver_too_old(python):
    """NVIDIA's own runtime, which cuda.bindings brings from 12.9 on, against a driver of CUDA 11.8."""
    if sys.platform != "linux" or (bindings_version() or (0,)) < (12, 9):
        pytest.skip("needs cuda.bindings 12.9 or later on Linux")
    done = python("-c", f"{CLASSES['bindings']}\nLibrary()", DRIVER_VERSION="11080")
    last = done.stderr.splitlines()[-1]
    assert re.search(r"DeviceError: the NVIDIA driver is too old: it supports CUDA 11\.8 and cuda\.bindings 1\d", last)
    assert re.search(r"needs 1[23]\.0; update the driver, or pip install 'cuda-bindings<12'$", last)


def test_a_crash_is_for_good(program, library):
    done = program("""
cuda = Library()
with cuda.stream() as stream, cuda.memory(10) as memory, cuda.pinned(10) as pinned:
    attempt(cuda.copy_in, 12345, pinned, 10, stream)
    attempt(cuda.copy_in, memory.address, pinned, 10, stream)
    attempt(cuda.memory, 10)
    attempt(memory.free)
    attempt(stream.free)
    attempt(pinned.free)
""")
    said = [line.removeprefix("DeviceError CUDA cannot ").partition(": ") for line in done.stdout.splitlines()]
    actions = ["copy to the GPU", "copy to the GPU", "allocate device memory"]
    if library == "bindings":  # PyCUDA tells standard error what cannot be freed
        actions += ["free device memory", "free a stream", "free pinned memory"]
    assert [action for action, _, _ in said] == actions, done.stderr
    for _, _, text in said:
        assert text.startswith("an illegal memory access was encountered (cu")
        assert text.endswith("start it again (compute-sanitizer shows the kernel at fault)")
    assert done.returncode == 0


def test_an_error_comes_out_and_not_that_of_the_clean_up(program):
    done = program("""
cuda = Library()
try:
    with cuda.stream() as stream, cuda.memory(10) as memory, cuda.pinned(10) as pinned:
        attempt(cuda.copy_in, 12345, pinned, 10, stream)
        raise KeyError("first")
except KeyError as error:
    print(error)
""")
    assert done.stdout.splitlines()[-1] == "'first'"


def test_the_end_is_quiet(program):
    """What nobody freed, in the main thread and in one that has ended, says nothing when Python ends."""
    done = program("""
import threading
kept = []
def work():
    cuda = Library()
    kept.extend([cuda, cuda.stream(), cuda.event(), cuda.memory(10), cuda.pinned(10), cuda.pinned(10).array])
    with cuda.stream() as stream:
        stream.begin_capture()
        kept.append(stream.end_capture())
thread = threading.Thread(target=work)
thread.start()
thread.join()
work()
print("done")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_cycles_are_collected(program):
    done = program("""
import gc
cuda = Library()
gc.disable()
before = cuda.device().memory_free
class Holder: pass
for _ in range(3):
    holder = Holder()
    holder.memory, holder.itself = cuda.memory(1 << 20), holder
    del holder
print(before - cuda.device().memory_free)
gc.collect()
print(before - cuda.device().memory_free)
""")
    assert done.stdout.split() == [str(3 << 20), "0"], done.stderr


class TestPyCuda:
    """Beside what the program does with PyCUDA itself."""

    @pytest.fixture
    def library(self):
        if reason := reason_to_skip("pycuda"):
            pytest.skip(reason)
        return "pycuda"

    def test_nothing_stays_current(self, program):
        done = program("""
from pycuda import driver
cuda = Library()
with cuda.stream() as stream:
    print(driver.Context.get_current())
print(driver.Context.get_current())
""")
        assert done.stdout.split() == ["None", "None"], done.stderr

    @pytest.mark.parametrize("order", ["import pycuda.autoinit; cuda = Library()", "cuda = Library(); cuda.memory(1)"])
    def test_beside_autoinit(self, program, order):
        done = program(f"""
from pycuda import driver
{order}
import pycuda.autoinit
own = driver.Context.get_current()
stream, memory, pinned = cuda.stream(), cuda.memory(100), cuda.pinned(100)
cuda.copy_in(memory.address, pinned, 100, stream)
stream.synchronize()
print(driver.Context.get_current() == own, cuda._context._native == own)
""")
        shared = order.startswith("import")
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True", str(shared)], "")
