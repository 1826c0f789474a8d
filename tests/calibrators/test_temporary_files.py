"""Temporary files: none is left by Ctrl-C at any line, and those of killed processes are swept."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from calibrators import files
from calibrators.files import temporary_folder, temporary_name, whole_file, write_whole

DAYS = 24 * 3600


@pytest.fixture(autouse=True)
def unswept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "_swept", set())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def aged(path: Path, seconds: float) -> Path:
    path.write_bytes(b"half of")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def in_a_file(folder: Path) -> None:
    with whole_file(folder / "model.cache") as temporary:
        temporary.write_bytes(b"new")


def in_a_folder(_: Path) -> None:
    with temporary_folder() as temporary:
        (temporary / "model.onnx").write_bytes(b"new")


def lines_of(work: Callable[[], None], *, stop: int | None = None) -> int:
    """How many lines of `files` the block's own function runs; at line `stop`, Ctrl-C comes before it."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if event == "line" and frame.f_code.co_name in ("whole_file", "temporary_folder"):
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return seen


@pytest.mark.parametrize("work", [in_a_file, in_a_folder])
def test_an_interrupt_at_any_line_leaves_no_temporary_file(work: Callable[[Path], None], tmp_path: Path) -> None:
    lines = lines_of(lambda: work(tmp_path))
    assert lines > 5
    for line in range(1, lines):  # the last is the removal itself
        with pytest.raises(KeyboardInterrupt):
            lines_of(lambda: work(tmp_path), stop=line)
        assert [path.name for path in tmp_path.iterdir()] in ([], ["model.cache"])


def test_an_interrupt_while_the_file_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = os.open

    def interrupted(*arguments: Any) -> int:
        os.close(make(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "open", interrupted)
        write_whole(tmp_path / "model.cache", b"new")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_a_folder_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def interrupted(path: Path, mode: int) -> None:
        make(path, mode)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "mkdir", interrupted)
        with temporary_folder():
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [".model.cache.trtcal-{}-0123abcd.tmp", ".a\nb.trtcal-{}-0123abcd.tmp", "trtcal-{}-0123abcd"]
)
def test_what_a_killed_process_left_is_swept(name: str, tmp_path: Path, gone: int) -> None:
    left = aged(tmp_path / name.format(gone), 2 * DAYS)
    write_whole(tmp_path / "other.cache", b"new")
    assert not left.exists()


def test_a_folder_that_a_killed_process_left_is_swept(tmp_path: Path, gone: int) -> None:
    left = tmp_path / f"trtcal-{gone}-0123abcd"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half of")
    os.utime(left, (time.time() - 2 * DAYS,) * 2)
    with temporary_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_what_is_young_or_in_use_or_not_ours_stays(tmp_path: Path, gone: int) -> None:
    kept = [
        aged(tmp_path / f".model.cache.trtcal-{gone}-0123abcd.tmp", DAYS / 2),
        aged(tmp_path / f".model.cache.trtcal-{os.getpid()}-0123abcd.tmp", 2 * DAYS),
        aged(tmp_path / f".model.cache.trtcal-{os.getppid()}-0123abcd.tmp", 2 * DAYS),
        aged(tmp_path / f".model.cache.{gone}-0123abcd.tmp", 2 * DAYS),
        aged(tmp_path / ".model.cache.abcdefgh.tmp", 2 * DAYS),
        aged(tmp_path / f"trtcal-{gone}-0123abcd.onnx", 2 * DAYS),
    ]
    write_whole(tmp_path / "other.cache", b"new")
    assert all(path.exists() for path in kept)


def test_a_killed_process_leaves_a_file_that_tells_its_process(tmp_path: Path) -> None:
    program = (
        "import os, signal; from calibrators.files import whole_file\n"
        f"with whole_file({str(tmp_path / 'model.cache')!r}) as file: os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    process.wait()
    (left,) = tmp_path.iterdir()
    assert f"trtcal-{process.pid}-" in left.name
    os.utime(left, (time.time() - 2 * DAYS,) * 2)
    write_whole(tmp_path / "model.cache", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["model.cache"]


def test_names_of_temporary_files_differ() -> None:
    assert len({temporary_name() for _ in range(100)}) == 100
