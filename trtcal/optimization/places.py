"""Where the files of an optimization are, and whose the folder is."""

from dataclasses import dataclass
from pathlib import Path

from calibrators.errors import OutputError
from calibrators.files import claim_folder


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files are.

    Attributes:
        folder: That holds them all.
        name: Of the model: its files begin with it.
    """

    folder: Path
    name: str

    @property
    def ledger(self) -> Path:
        """What was done, with what, and what came of it; also tells such a folder from any other."""
        return self.folder / "optimize.json"

    @property
    def cache(self) -> Path:
        """The calibration cache of the default ranges."""
        return self.folder / f"{self.name}.cache"

    @property
    def statistics(self) -> Path:
        """The statistics, from which all ranges derive."""
        return self.folder / f"{self.name}.stats.npz"

    @property
    def engine(self) -> Path:
        """The chosen engine."""
        return self.folder / f"{self.name}.engine"

    @property
    def tried(self) -> Path:
        """A folder of what was tried on the way."""
        return self.folder / "tried"

    @property
    def trials(self) -> Path:
        """The scores of mixed precision's trials."""
        return self.tried / "mixed-precision.trials.json"

    @property
    def record(self) -> Path:
        """All that was measured, for programs."""
        return self.folder / "report.json"

    @property
    def page(self) -> Path:
        """All that was measured, to look at."""
        return self.folder / "report.html"

    @property
    def quantized(self) -> Path:
        """The chosen model with Q/DQ nodes, where the engine is an INT8 one."""
        return self.folder / f"{self.name}.int8.onnx"

    def model_of(self, step: str) -> Path:
        """The model with Q/DQ nodes that a step made."""
        return self.tried / step / self.quantized.name

    def config_of(self, step: str) -> Path:
        """The settings that a step chose."""
        return self.tried / step / f"{self.name}.toml"

    def engine_of(self, name: str) -> Path:
        """The engine of a candidate."""
        return self.tried / f"{self.name}.{name}.engine"

    def require_other_than(self, *inputs: object) -> None:
        """Refuse a folder that holds what is read.

        Raises:
            OutputError: It does.
        """
        own = self.folder.resolve()
        for each in inputs:
            path = Path(str(each)).resolve()
            if path == own or own in path.parents:
                raise OutputError(f"cannot write to {self.folder}: {each} is read from it; give another folder with -o")

    def claim(self) -> None:
        """Make the folder, or find it again; one that holds anything else is refused.

        Raises:
            OutputError: There is something else, or the folder cannot be made.
        """
        claim_folder(self.folder, ours=self.ledger.is_file, option="-o")

    def relative(self, path: Path) -> str:
        """A file's name in the folder, with / between its parts."""
        return path.relative_to(self.folder).as_posix()
