"""Where the blocks of a page are run: bash, the commands `trtcal` and `python`, and a folder a page."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, Block, Page, PageError, missing

DEMO = "demo --output demo"
SECONDS = 600
"""No block of a page takes as long."""

PROGRESS = re.compile(r", (\d+ (s|min|h) ?)+so far(, about (\d+ (s|min|h) ?)+left)?$")
"""A line of what takes over ten seconds (`trtcal.tables.ticking`): on a slow machine only."""


@dataclass(frozen=True)
class Workshop:
    """Where pages are run: `trtcal` and `python` on the path, and the demo's folder to copy.

    Attributes:
        folder: A folder for the programs, the demo and the pages.
    """

    folder: Path

    def __post_init__(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        python = shlex.quote(sys.executable)
        entry = shlex.quote(str(self.folder / "entry" / "trtcal.entry.py"))
        demo = shlex.quote(str(self.demo))
        (self.folder / "entry").mkdir()
        (self.folder / "entry" / "trtcal.entry.py").write_text("from trtcal.cli import main\n\nmain()\n")
        copies = [
            f'if [ "$*" = "{asked}" ] && [ -f {demo}/output ]; then cp -r {demo}/demo {to}; cat {demo}/output; exit; fi'
            for asked, to in ((DEMO, "demo"), ("demo", "trtcal-demo"))
        ]
        for name, lines in {
            "trtcal": [*copies, f'exec {python} {entry} "$@"'],
            "python": [f'exec {python} "$@"'],
        }.items():
            program = programs / name
            program.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
            program.chmod(0o755)

    @property
    def demo(self) -> Path:
        """What `trtcal demo --output demo` left: its folder, and in the file `output` what it printed."""
        return self.folder / "the-demo"

    def make_demo(self) -> None:
        """Run the demo, for all pages."""
        self.demo.mkdir()
        printed = self.run(Block("sh", f"trtcal {DEMO}\n", 1), self.demo)
        (self.demo / "output").write_text(printed, encoding="utf-8")

    def walk(self, page: Page, having: frozenset[str] = frozenset()) -> Path:
        """Run the blocks of a page in a new folder, in order, where only these of `NEEDS` are at hand; the folder."""
        folder = self.folder / "-".join([*re.findall(r"\w+", page.name), *sorted(having)])
        folder.mkdir()
        for block in page.blocks:
            if block.runs and (block.needs is None or block.needs in having):
                self.run(block, folder, page.name)
        return folder

    def run(self, block: Block, folder: Path, page: str = "") -> str:
        """Run a block and return what it printed; fail where it fails or does not print what the page says."""
        program = ["bash", "-euo", "pipefail", "-c"] if block.info == "sh" else ["python", "-c"]
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        modules = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": modules, "PYTHONIOENCODING": "utf-8"}
        environment.pop("COLUMNS", None)
        where = f"{page}:{block.line}"
        try:
            result = subprocess.run(
                [*program, block.text],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PageError(f"{where}: not done after {SECONDS} seconds\n{block.text}") from error
        printed = "".join(line for line in result.stdout.splitlines(keepends=True) if not PROGRESS.search(line))
        if result.returncode != 0:
            raise PageError(f"{where}: exit code {result.returncode}\n{block.text}\n{result.stdout}")
        absent = missing(block.output or (), printed)
        if absent is not None:
            raise PageError(f"{where}: its output has no line (here)\n{absent}\nbut is\n{printed}")
        return printed
