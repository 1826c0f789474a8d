"""A job that an older trtcal and this one do, and what is told of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TRTCAL = ("-c", "import sys; sys.argv[0] = 'trtcal'; from trtcal.cli import main; main()")
"""Behind Python, the command line of whatever trtcal is found first."""

Figures = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Job:
    """The same work by two commits.

    Attributes:
        name: Of it, such as "sensitivity of ResNet-50".
        prepare: Writes what both read into a folder, once; a function of a module, or a `partial` of one.
        old: What the old commit's Python is given, in that folder. "{out}" is a folder for what it writes, where its
            standard output is kept as `stdout`.
        new: What this one's Python is given.
        bar: The ratio of the old time to the new one that is asked for.
        judge: From the folders of the old and the new output to what is told beside the time; by name.
    """

    name: str
    prepare: Callable[[Path], None]
    old: Sequence[str]
    new: Sequence[str]
    bar: float
    judge: Callable[[Path, Path], Figures]
