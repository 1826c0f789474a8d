"""Graphs asked of the driver; `test_gpu` captures and launches them."""

import ctypes.util

import pytest

from calibrators.cuda import pycuda_graphs as cuda_graphs
from calibrators.cuda.pycuda_graphs import DriverGraphs
from calibrators.errors import DeviceError


def test_a_driver_without_graphs(monkeypatch):
    """Any library that is none: what it lacks is an old driver, not a crash."""
    library = ctypes.util.find_library("c")
    if library is None:
        pytest.skip("no C library by name")
    monkeypatch.setattr(cuda_graphs, "LIBRARY", library)
    with pytest.raises(DeviceError, match=r"cannot begin to capture a stream: .*update the NVIDIA driver"):
        DriverGraphs().begin_capture(1)
