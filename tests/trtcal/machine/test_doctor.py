"""What doctor finds: real libraries, broken ones, hidden ones."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from calibrators.installation import pip_install
from trtcal.machine import doctor, examination
from trtcal.machine.doctor import LIBRARIES, Library, probe


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Puts packages of the given code first on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, code):
        path = tmp_path.joinpath(*name.split(".")) / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text(code)

    return write


class TestProbe:
    def test_real_libraries(self):
        assert probe("numpy") == Library("numpy", True, np.__version__)
        found = probe("onnxruntime")
        assert found.version == onnxruntime.__version__
        assert "CPUExecutionProvider" in found.facts["providers"]
        assert found.facts["ORT_DISABLE_TELEMETRY"] == "1"

    def test_tensorrt_rtx_has_no_calibrators(self):
        module = pytest.importorskip("tensorrt_rtx")
        found = probe("tensorrt_rtx")
        assert (found.usable, found.version, found.facts) == (True, module.__version__, {"calibrators": False})

    @pytest.mark.torch
    def test_pytorch_says_whether_it_is_built_for_cuda(self):
        module = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")
        found = probe("torch")
        assert (found.usable, found.version, found.facts) == (True, module.__version__, {"cuda": module.version.cuda})

    def test_a_package_that_is_absent(self):
        assert probe("no_package_of_that_name") == Library("no_package_of_that_name", installed=False)
        assert probe("no_package_of_that_name.part") == Library("no_package_of_that_name.part", installed=False)

    def test_a_tensorrt_with_calibrators(self, packages):
        packages("tensorrt", "__version__ = '10.13.3'\nclass IInt8EntropyCalibrator2: pass\nprint('hello')")
        assert probe("tensorrt") == Library("tensorrt", True, "10.13.3", facts={"calibrators": True})

    def test_a_package_that_does_not_import(self, packages):
        packages("tensorrt", "raise ImportError('libnvinfer.so.10: cannot open shared object file')")
        found = probe("tensorrt")
        assert found.installed
        assert not found.usable
        assert found.problem == "ImportError: libnvinfer.so.10: cannot open shared object file"

    def test_a_package_that_lacks_another_is_broken_not_absent(self, packages):
        packages("pycuda", "")
        packages("pycuda.driver", "import no_package_of_that_name")
        found = probe("pycuda.driver")
        assert (found.installed, found.usable) == (True, False)
        assert "no_package_of_that_name" in found.problem

    def test_a_package_that_crashes(self, packages):
        packages("tensorrt", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        assert probe("tensorrt").problem == "its import crashes (signal 11)"

    @pytest.mark.parametrize("leave, code", [("os._exit(3)", 3), ("os._exit(0)", 0), ("raise SystemExit(0)", 0)])
    def test_a_package_that_leaves(self, leave, code, packages):
        packages("tensorrt", f"import os; {leave}")
        assert probe("tensorrt").problem == f"its import ends with exit code {code}"

    def test_an_error_of_several_lines(self, packages):
        packages("tensorrt", "raise ImportError('libnvinfer.so.10: cannot open\\n\\n  the shared object')")
        assert probe("tensorrt").problem == "ImportError: libnvinfer.so.10: cannot open the shared object"

    def test_an_error_of_many_words(self, packages):
        packages("tensorrt", "raise ImportError('no line of its own ' * 100)")
        assert len(probe("tensorrt").problem) < 310

    def test_a_package_that_prints_at_its_end(self, packages):
        packages("tensorrt", "import atexit; atexit.register(print, 'bye'); __version__ = '10.1'")
        assert probe("tensorrt").version == "10.1"

    def test_a_version_that_is_no_text(self, packages):
        packages("tensorrt", "__version__ = 10.1")
        assert probe("tensorrt") == Library("tensorrt", True, "10.1", facts={"calibrators": False})

    def test_a_package_that_hangs(self, packages, monkeypatch):
        monkeypatch.setattr(doctor, "_PATIENCE", 0.5)
        packages("tensorrt", "import time; time.sleep(60)")
        assert probe("tensorrt").problem == "its import takes more than 0.5 s"

    def test_an_odd_namespace(self, packages):
        """A folder called `cuda` that is not NVIDIA's."""
        packages("cuda", "")
        assert not probe("cuda.bindings.runtime").installed

    def test_a_namespace_that_distributions_share(self, packages, tmp_path):
        packages("cuda.bindings.runtime", "raise ImportError('not here')")
        for name, version in (("cuda_pathfinder", "1.9.0"), ("cuda_bindings", "12.9.1"), ("cuda_zone", "3.0")):
            record = tmp_path / f"{name}-{version}.dist-info"
            record.mkdir()
            record.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            record.joinpath("top_level.txt").write_text("cuda\n")
        assert probe("cuda.bindings.runtime").version == "12.9.1"


def test_this_machine():
    seen = []
    examined = examination.doctor(progress=seen.append)
    ready = {row["command"] for row in examined.rows() if row["ready"]}
    assert {"accuracy MODEL.onnx", "inspect"} <= ready
    assert examined._repr_html_().count("<tr>") == len(examined.commands) + 1
    found = examined.machine
    assert ("numpy", np.__version__) in [(row["library"], row["version"]) for row in found.rows()]
    assert sum(seen) == len(LIBRARIES)
    assert list(found.libraries) == list(LIBRARIES)
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.cores >= 1
    assert found.processor
    assert found.memory is None or found.memory > 2**28
    assert json.loads(json.dumps(found.to_dict()))["libraries"]["numpy"]["version"] == np.__version__
    assert dataclasses.is_dataclass(found.nvidia)


def test_with_every_library_hidden(tmp_path):
    """Only what draws the tables is left: doctor still answers, and leaves with 0."""
    hidden = [name.split(".")[0] for name in LIBRARIES if name != "numpy"]
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {hidden!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    paths = [str(tmp_path), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    program = "from trtcal.commands.doctor import doctor; import sys; doctor(json='--json' in sys.argv)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *options], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if options:
            value = json.loads(done.stdout)
            assert [name for name, each in value["libraries"].items() if each["installed"]] == ["numpy"]
            assert not any(each["ready"] for each in value["commands"])
            assert all(each["install"].startswith("pip install") for each in value["commands"])
            assert len(value["commands"]) > 8
        else:
            assert "not installed" in done.stdout
            assert pip_install("rtx") in done.stdout
