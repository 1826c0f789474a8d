"""NVML through a library of a few lines of C, and the real one where there is a GPU."""

import shutil
import subprocess

import pytest

from trtcal.machine.nvml import Clocks, Gpu, Nvidia, clocks, nvidia

SOURCE = r"""
#include <stdio.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static const char gpus[][24] = {"NVIDIA Test GPU", "NVIDIA Other GPU"};
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "595.71.05"); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13020; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = GPUS; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)gpus[index]; return 0; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { snprintf(text, size, "%s", (char *)device); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) { memory->total = 85899345920ULL; return 0; }
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *clock) { *clock = kind == 1 ? 1410 : 1215; return 0; }
int nvmlDeviceGetMaxClockInfo(void *device, int kind, unsigned *clock) { *clock = kind == 1 ? 1980 : 1593; return 0; }
#ifndef OLD
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
#endif
"""


@pytest.fixture
def library(tmp_path):
    """Builds a stand-in for NVML: its functions have the signatures of NVIDIA's nvml.h."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(*definitions):
        source, target = tmp_path / "nvml.c", tmp_path / f"libnvml{len(list(tmp_path.iterdir()))}.so"
        source.write_text(SOURCE)
        flags = [f"-D{definition}" for definition in definitions]
        subprocess.run([compiler, "-shared", "-fPIC", *flags, source, "-o", target], check=True)
        return str(target)

    return build


def test_driver_and_gpus(library):
    found = nvidia(library("INIT=0", "GPUS=2"))
    names = ("NVIDIA Test GPU", "NVIDIA Other GPU")
    assert found == Nvidia("595.71.05", "13.2", tuple(Gpu(name, 80 * 2**30, "9.0") for name in names))


def test_a_driver_without_a_gpu(library):
    found = nvidia(library("INIT=0", "GPUS=0"))
    assert (found.driver, found.gpus, found.absent) == ("595.71.05", (), "a driver, but no GPU")


def test_a_driver_that_does_not_answer(library):
    found = nvidia(library("INIT=18", "GPUS=1"))
    assert found == Nvidia(absent="the NVIDIA driver does not answer: Driver/library version mismatch (NVML error 18)")


def test_a_library_that_is_too_old(library):
    found = nvidia(library("INIT=0", "GPUS=1", "OLD"))
    assert "it is too old to know nvmlDeviceGetCudaComputeCapability" in found.absent


def test_no_driver():
    assert nvidia("libnothing-of-that-name.so") == Nvidia(
        absent="no NVIDIA driver (libnothing-of-that-name.so cannot be loaded)"
    )


@pytest.mark.gpu
def test_the_real_library():
    found = nvidia()
    if not found.gpus:
        pytest.skip(found.absent)
    assert found.driver
    assert found.cuda
    assert all(gpu.memory > 2**30 for gpu in found.gpus)


def test_clocks_of_the_only_gpu_of_a_name(library):
    built = library("INIT=0", "GPUS=2")
    assert clocks("NVIDIA Other GPU", built) == Clocks(1410, 1215, 1980, 1593)
    assert clocks("NVIDIA Third GPU", built) is None
    assert clocks("NVIDIA Test GPU", library("INIT=18", "GPUS=1")) is None
    assert clocks("NVIDIA Test GPU", "libno-such-thing.so") is None
