"""What was done: each stage with its inputs, its files and what came of it, so that nothing that stands is redone."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from calibrators.errors import OutputError
from calibrators.files import sha256_of, write_whole
from trtcal.optimization.places import Places
from trtcal.tables.console import as_json

FORMAT = 1
"""The version of the file's layout."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that is done.

    Attributes:
        key: Of its inputs.
        result: What came of it, as it goes into JSON.
        files: SHA-256 of each file that it wrote, by name in the folder.
        seconds: That it took.
        reused: Whether it stood from an earlier run.
    """

    key: str
    result: Any
    files: Mapping[str, str]
    seconds: float
    reused: bool = field(default=False, compare=False)


class Ledger:
    """Stages by name, in a file that is written after each of them.

    A stage stands as long as its inputs are the same and its files are as they were written.

    Args:
        places: Of the run.

    Raises:
        OutputError: The file is there and is not such a ledger.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stages = _read(places.ledger)
        self.used: dict[str, Stage] = {}

    def stands(self, name: str, inputs: Mapping[str, Any], files: Sequence[Path] = ()) -> bool:
        """Whether a stage of that name, with these inputs, is done and its files are as it wrote them."""
        known = self._stages.get(name)
        return known is not None and known.key == key_of(inputs) and self._whole(known, files)

    def done(self, name: str, inputs: Mapping[str, Any], make: Callable[[], Any], files: Sequence[Path] = ()) -> Stage:
        """A stage: taken from an earlier run where it stands, else made and noted.

        Args:
            name: Of the stage.
            inputs: All that its result depends on, as it goes into JSON.
            make: Does the work, writes `files` and returns what came of it, as it goes into JSON.
            files: That it writes, or may write.
        """
        if self.stands(name, inputs, files):
            known = self._stages[name]
            self.used[name] = Stage(known.key, known.result, known.files, known.seconds, reused=True)
            return self.used[name]
        began = time.perf_counter()
        result = json.loads(as_json(make()))  # as a later run will read it
        written = {self._places.relative(path): sha256_of(path) for path in files if path.is_file()}
        self._stages[name] = Stage(key_of(inputs), result, written, time.perf_counter() - began)
        self.used[name] = self._stages[name]
        self.write()
        return self._stages[name]

    def begin(self) -> None:
        """Write the file before anything else is written: it tells the folder from any other."""
        self.write()
        self._places.tried.mkdir(exist_ok=True)

    def write(self) -> None:
        """Write the file, whole."""
        stages = {name: asdict(each) for name, each in self._stages.items()}
        for each in stages.values():
            del each["reused"]
        write_whole(self._places.ledger, json.dumps({"optimize": FORMAT, "stages": stages}, indent=1) + "\n")

    def _whole(self, known: Stage, files: Sequence[Path]) -> bool:
        places = self._places
        if not {places.relative(path) for path in files if path.is_file()} <= known.files.keys():
            return False  # a file that this stage did not write
        paths = {places.folder / name: digest for name, digest in known.files.items()}
        return all(path.is_file() and sha256_of(path) == digest for path, digest in paths.items())


def key_of(inputs: Mapping[str, Any]) -> str:
    """One text for all inputs of a stage."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Stage]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        if content["optimize"] != FORMAT:
            raise ValueError(content["optimize"])
        return {name: Stage(**each) for name, each in content["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path} is none that this version of trtcal wrote ({error}): give another folder with -o, or remove it"
        ) from error
