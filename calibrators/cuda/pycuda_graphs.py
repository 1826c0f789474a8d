"""CUDA graphs from the driver itself (`libcuda`), for PyCUDA, which has none.

The calls and numbers are those of `cuda.h`, of CUDA 11.4 and later.
"""

import ctypes
import os
from ctypes import byref, c_char_p, c_int, c_ulonglong, c_void_p

from calibrators.cuda.resources import refused

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"

_CAPTURE_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL."""


class DriverGraphs:
    """What the driver does with graphs, on its own handles; a context must be current."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL(LIBRARY)

    def begin_capture(self, stream: int) -> None:
        """Write down what this thread gives to `stream` from now on."""
        self._call(
            "begin to capture a stream", "cuStreamBeginCapture_v2", c_void_p(stream), c_int(_CAPTURE_THREAD_LOCAL)
        )

    def end_capture(self, stream: int) -> int:
        """End the capture; gives a graph that is ready to run."""
        graph, ready = c_void_p(), c_void_p()
        self._call("capture the work of a stream", "cuStreamEndCapture", c_void_p(stream), byref(graph))
        try:
            flags = c_ulonglong(0)
            self._call("make a graph ready to run", "cuGraphInstantiateWithFlags", byref(ready), graph, flags)
        finally:
            self._call("free a graph", "cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, ready: int, stream: int) -> None:
        """Give all of it to `stream`."""
        self._call("launch a graph", "cuGraphLaunch", c_void_p(ready), c_void_p(stream))

    def free(self, ready: int) -> None:
        """Give it back."""
        self._call("free a graph", "cuGraphExecDestroy", c_void_p(ready))

    def _call(self, action: str, function: str, *arguments: object) -> None:
        if not hasattr(self._driver, function):
            raise refused(action, f"API call is not supported in the installed CUDA driver ({function})")
        error = getattr(self._driver, function)(*arguments)
        if error:
            text = c_char_p()
            self._driver.cuGetErrorString(c_int(error), byref(text))
            said = (text.value or f"error {error}".encode()).decode(errors="replace")
            raise refused(action, f"{said} ({function})")
