"""Where the demo's files are, and whose the folder is."""

from dataclasses import dataclass
from pathlib import Path

from calibrators.files import claim_folder, write_whole


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo's files are.

    Attributes:
        folder: That holds them all.
        name: Of the model: its files begin with it.
    """

    folder: Path
    name: str = "digits"

    @property
    def about(self) -> Path:
        """What the folder holds and where the digits come from; also tells the demo's own folder from any other."""
        return self.folder / "README.txt"

    @property
    def calibration(self) -> Path:
        """Images to calibrate on; of digits, a folder per class."""
        return self.folder / "calibration"

    @property
    def test(self) -> Path:
        """Images to measure accuracy on; of digits, a folder per class."""
        return self.folder / "test"

    @property
    def annotations(self) -> Path:
        """What is in the test images, if they are scenes: COCO's JSON."""
        return self.folder / "annotations.json"

    @property
    def masks(self) -> Path:
        """The class of each pixel of the test images, if they are scenes."""
        return self.folder / "masks"

    @property
    def pictures(self) -> Path:
        """Some test images with what both models find in them, if they are scenes."""
        return self.folder / "pictures"

    @property
    def optimized(self) -> Path:
        """What `trtcal optimize` wrote of the model."""
        return self.folder / "optimized"

    @property
    def page(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @property
    def fp32(self) -> Path:
        """The FP32 model."""
        return self.folder / f"{self.name}.onnx"

    @property
    def cache(self) -> Path:
        """The calibration cache."""
        return self.folder / f"{self.name}.cache"

    @property
    def int8(self) -> Path:
        """The model with Q/DQ nodes."""
        return self.folder / f"{self.name}.int8.onnx"

    @property
    def fp32_engine(self) -> Path:
        """The engine of the FP32 model."""
        return self.folder / f"{self.name}.fp32.engine"

    @property
    def int8_engine(self) -> Path:
        """The engine of the model with Q/DQ nodes."""
        return self.folder / f"{self.name}.int8.engine"


def claim(places: Places, about: str) -> None:
    """Make the demo's folder, or find it again; a folder that holds anything else is refused.

    Args:
        places: In it.
        about: What is written of it; its first line tells it from another demo's.

    Raises:
        OutputError: There is something else, or the folder cannot be made or written.
    """
    claim_folder(places.folder, ours=lambda: _is_ours(places.about, about), option="--output")
    write_whole(places.about, about)


def _is_ours(path: Path, about: str) -> bool:
    return path.is_file() and path.read_bytes().startswith(about.partition("\n")[0].encode() + b"\n")
