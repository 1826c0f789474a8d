"""The import package: light to import, every public name where it is said to be, no stranger in a neighbour's place."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trtcal
from calibrators.tabular import Tabular

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ["onnx", "onnxruntime", "onnx_ir", "onnxscript", "numba", "PIL", "sklearn", "tensorrt", "tensorrt_rtx", "torch"]


def python(code, *, folder):
    """Run code in a fresh interpreter that finds trtcal, but first whatever is in `folder`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.torch
@pytest.mark.parametrize(
    "code, absent",
    [("import trtcal", [*HEAVY, "typer", "rich"]), ("import trtcal.cli", [*HEAVY, "rich"])],
)
def test_importing_loads_no_heavy_library(code, absent, tmp_path):
    result = python(f"import sys; {code}; print(*sys.modules)", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert set(absent) & set(result.stdout.split()) == set()


@pytest.mark.parametrize("package", ["trtcal", "trtcal.cli", "engines.sessions.onnxruntime"])
@pytest.mark.parametrize("stated, then", [(None, "1"), ("0", "0"), ("", "")])
def test_importing_switches_telemetry_of_onnx_runtime_off(package, stated, then, tmp_path, monkeypatch):
    """Here, and in processes that are started; unless the user has said something."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    if stated is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", stated)
    code = f"import {package}, subprocess; subprocess.run('echo \"<$ORT_DISABLE_TELEMETRY>\"', shell=True)"
    assert python(code, folder=tmp_path).stdout.strip() == f"<{then}>"


@pytest.mark.parametrize(
    "code",
    [
        "from trtcal.machine.doctor import probe; assert probe('onnxruntime').usable",
        "import trtcal, onnxruntime",
        "from engines.sessions.onnxruntime import DTYPES; import onnxruntime",
    ],
)
def test_onnx_runtime_leaves_no_files_in_the_home_folder(code, tmp_path, monkeypatch):
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    result = python(code, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", trtcal.__all__)
def test_every_public_name_resolves(name):
    value = getattr(trtcal, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__doc__
    assert value.__module__.split(".")[0] in ("trtcal", "engines", "calibrators")


def test_dir_lists_them_and_no_other_before_they_are_loaded(tmp_path):
    result = python("import trtcal; print(*dir(trtcal))", folder=tmp_path)
    assert result.stdout.split() == sorted([*trtcal.__all__, "__version__"])


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(trtcal.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body for alias in node.names if isinstance(node, ast.ImportFrom)}
    assert sorted(typed) == sorted(trtcal.__all__)
    for name, module in typed.items():
        assert getattr(importlib.import_module(module), name) is getattr(trtcal, name)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'trtcal' has no attribute 'calibrat'"):
        _ = trtcal.calibrat


def test_the_version_is_the_distributions():
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert trtcal.__version__ == version


def test_no_module_is_ignored_by_git():
    """What `.gitignore` names, such as a folder called build, is left out of the wheel without a word."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    ignored = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", "calibrators", "engines", "trtcal"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [path for path in ignored if not path.endswith((".pyc", ".nbi", ".nbc"))] == []


class TestStrangers:
    """Packages called `calibrators` or `engines` that stand earlier on the path."""

    @pytest.mark.parametrize("name", ["calibrators", "engines"])
    @pytest.mark.parametrize("form", ["{}/__init__.py", "{}.py"])
    def test_are_refused_by_the_name_of_their_file(self, name, form, tmp_path):
        file = tmp_path / form.format(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        result = python("import trtcal", folder=tmp_path)
        assert result.returncode == 1
        message = result.stderr.strip().splitlines()[-1]
        assert message.startswith(f"ImportError: trtcal needs its own package '{name}' in {ROOT}, but ")
        assert f"{file.resolve()} shadows it: rename or remove that one" in message

    def test_a_folder_that_is_no_package_does_no_harm(self, tmp_path):
        """Built engines lie in a folder `engines` now and then."""
        (tmp_path / "engines").mkdir()
        (tmp_path / "engines" / "model.engine").write_bytes(b"plan")
        assert python("import trtcal; trtcal.build_engine", folder=tmp_path).returncode == 0


def test_every_result_that_is_a_table_prints_as_one_short_line():
    """None prints the text of all fields that dataclasses write."""
    found = {}
    for package in ("calibrators", "engines", "trtcal"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(each, ast.ClassDef) and "Tabular" in map(ast.unparse, each.bases):
                    found[each.name] = getattr(importlib.import_module(module), each.name)
    assert {"LayerAnalysis", "Structure", "CacheFit", "Machine", "Report", "Benchmark"} <= set(found)
    assert {name for name, kind in found.items() if kind.__repr__ is not Tabular.__repr__} == {"Engine"}  # its own line
