"""What the adapters load: nothing heavy, so that help can list them."""

import subprocess
import sys

CHECK = """
import pkgutil, sys
from importlib import import_module
from trtcal.tasks import adapters, own
for module in pkgutil.iter_modules(adapters.__path__):
    import_module(f"{adapters.__name__}.{module.name}")
print([name for name in ("onnx", "onnxruntime", "torch", "hotcoco", "numba", "tensorrt") if name in sys.modules])
"""


def test_adapters_load_no_heavy_library():
    assert subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True).stdout == "[]\n"
