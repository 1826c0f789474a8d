"""An older commit of this repository, in a worktree and an environment of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calibrators.errors import TrtcalError, one_line

HERE = Path(__file__).parents[2]
"""The root of this checkout."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout, and the Python that runs it."""

    root: Path
    python: Path


@contextmanager
def older(commit: str, folder: Path, python: Path | None) -> Iterator[Tree]:
    """Check a commit out, and install what it needs.

    Args:
        commit: Anything that git takes for one.
        folder: An empty one, for both.
        python: Of an environment that has what the commit needs; None makes a new one with pip.

    Raises:
        TrtcalError: There is no such commit, or it cannot be installed.
    """
    root = folder / "tree"
    _run("git", "-C", str(HERE), "worktree", "add", "--detach", str(root), commit)
    try:
        if python is None:
            _run(sys.executable, "-m", "venv", str(folder / "environment"))
            python = folder / "environment" / "bin" / "python"
            _run(str(python), "-m", "pip", "install", "--quiet", "--editable", f"{root}[demo]")
        yield Tree(root, python)
    finally:
        _run("git", "-C", str(HERE), "worktree", "remove", "--force", str(root))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrtcalError(f"{command[0]} failed: {one_line(RuntimeError(done.stderr.strip()[-500:]))}")
