"""Machine code that cannot be kept on disk: the work is done all the same, and one note says so."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOTE = "note: compiled code is not kept ("

MODULE = """
from calibrators.compiled import kernel, summing_kernel

@kernel
def doubled(number):
    return 2 * number

@summing_kernel
def tripled(number):
    return 3 * number
"""

PROGRAM = "from small import doubled, tripled; print(doubled(1.0) + tripled(1.0), doubled(1))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a module of two kernels, and a folder for what numba keeps."""
    (tmp_path / "small.py").write_text(MODULE)
    (tmp_path / "kept").mkdir()
    return tmp_path


def run(folder: Path, *, limit: int | None = None, **environment: str) -> CompletedProcess[str]:
    """Runs the kernels in a fresh process, whose files may have so many bytes."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    places = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "NUMBA_CACHE_DIR": str(folder / "kept"), **environment}
    return subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        cwd=folder,
        env={**os.environ, **places},
        preexec_fn=restrict,
        capture_output=True,
        text=True,
        check=False,
    )


def done_with_a_note(result: CompletedProcess[str]) -> None:
    assert (result.returncode, result.stdout) == (0, "5.0 2\n"), result.stderr
    assert result.stderr.startswith(NOTE)
    assert result.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in result.stderr


def test_machine_code_is_kept(folder: Path) -> None:
    for _ in range(2):
        result = run(folder)
        assert (result.returncode, result.stdout, result.stderr) == (0, "5.0 2\n", "")
        assert len(list(folder.rglob("*.nbc"))) == 3


def test_no_folder_for_it(folder: Path) -> None:
    """Beside the source no file can be made, nor in the home folder, which is none."""
    (folder / "__pycache__").write_text("no folder")
    nowhere = str(folder / "small.py" / "none")
    result = run(folder, NUMBA_CACHE_DIR="", HOME=nowhere, XDG_CACHE_HOME=nowhere, IPYTHONDIR=nowhere)
    done_with_a_note(result)
    assert "no locator available" in result.stderr


def test_a_full_disk(folder: Path) -> None:
    done_with_a_note(run(folder, limit=1000))
    assert not list(folder.rglob("*.tmp.*"))


def test_a_folder_that_is_gone_when_the_work_is_done(folder: Path) -> None:
    (folder / "small.py").write_text(f"{MODULE}\nimport shutil\nshutil.rmtree({str(folder / 'kept')!r})\n")
    with (folder / "small.py").open("a") as module:
        module.write(f"open({str(folder / 'kept')!r}, 'w').close()\n")
    done_with_a_note(run(folder))


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_files(suffix: str, folder: Path) -> None:
    run(folder)
    for path in folder.rglob(f"*.{suffix}"):
        path.write_bytes(b"half")
    done_with_a_note(run(folder))
