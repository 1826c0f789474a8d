"""Which library opens the GPU, and what is said where none can."""

import builtins
import subprocess
import sys

import pytest

from calibrators.cuda import bindings as cuda_bindings
from calibrators.cuda import pycuda_device as cuda_pycuda
from calibrators.cuda.bindings import CudaBindings
from calibrators.cuda.device import open_cuda
from calibrators.cuda.pycuda_device import PyCuda
from calibrators.errors import DeviceError, MissingDependencyError


@pytest.fixture
def absent(monkeypatch):
    """Imports of PyCUDA or cuda.bindings raise what is given."""

    def make(**errors):
        real = builtins.__import__

        def importing(name, *arguments, **options):
            top = name.partition(".")[0]
            if top in errors:
                raise errors[top]
            return real(name, *arguments, **options)

        for module in [each for each in sys.modules if each.partition(".")[0] in errors]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setattr(builtins, "__import__", importing)

    return make


def missing(name):
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


def as_seen(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def opening(answer):
    def implementation():
        if isinstance(answer, Exception):
            raise answer
        return answer

    return implementation


ABSENT, NO_GPU, OTHER = MissingDependencyError("absent"), DeviceError("no GPU"), DeviceError("no GPU, says the other")


@pytest.mark.parametrize(
    "pycuda, bindings, result",
    [
        ("PyCUDA", "bindings", "PyCUDA"),
        (ABSENT, "bindings", "bindings"),
        (NO_GPU, "bindings", "bindings"),
        (ABSENT, OTHER, OTHER),
        (NO_GPU, ABSENT, NO_GPU),
        (NO_GPU, OTHER, OTHER),
    ],
)
def test_the_first_that_works(monkeypatch, pycuda, bindings, result):
    monkeypatch.setattr(cuda_pycuda, "PyCuda", opening(pycuda))
    monkeypatch.setattr(cuda_bindings, "CudaBindings", opening(bindings))
    if isinstance(result, Exception):
        with pytest.raises(DeviceError) as error:
            open_cuda()
        assert error.value is result
    else:
        assert open_cuda() == result


def test_neither_is_installed(absent):
    absent(pycuda=missing("pycuda"), cuda=missing("cuda.bindings"))
    with pytest.raises(MissingDependencyError) as error:
        open_cuda()
    assert as_seen(error) == (
        "work on a GPU needs PyCUDA or NVIDIA's cuda.bindings: PyCUDA is not installed: pip install pycuda; "
        "cuda.bindings is not installed: pip install cuda-bindings"
    )


def test_no_driver_for_pycuda(absent):
    absent(
        pycuda=ImportError("libcuda.so.1: cannot open shared object file: No such file or directory"),
        cuda=missing("cuda"),
    )
    with pytest.raises(DeviceError) as error:
        open_cuda()
    assert as_seen(error).startswith("no NVIDIA driver on this machine (libcuda.so.1: cannot open shared object file")
    assert "nvidia-smi must list the GPU" in as_seen(error)


def test_a_driver_older_than_pycuda(absent):
    absent(pycuda=ImportError("/site/pycuda/_driver.so: undefined symbol: cuEventElapsedTime_v2"))
    with pytest.raises(DeviceError) as error:
        PyCuda()
    assert as_seen(error).startswith("the NVIDIA driver is older than the CUDA that PyCUDA was built for (")


@pytest.mark.parametrize("reason", [missing("pytools"), ImportError("numpy.core.multiarray failed to import")])
def test_a_broken_pycuda(absent, reason):
    absent(pycuda=reason)
    with pytest.raises(MissingDependencyError, match=r"PyCUDA does not import \(.*\): install it again"):
        PyCuda()


@pytest.mark.parametrize("reason", [missing("numpy"), ImportError("GLIBC_2.34 not found"), OSError("file too short")])
def test_broken_bindings(absent, reason):
    absent(cuda=reason)
    with pytest.raises(MissingDependencyError, match=r"cuda.bindings does not import \(.*\): install it again"):
        CudaBindings()


def test_nothing_is_loaded_before_it_is_needed():
    program = """
import sys
before = set(sys.modules)
import calibrators.cuda.device
print([name for name in set(sys.modules) - before if name.partition(".")[0] in ("pycuda", "cuda")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
