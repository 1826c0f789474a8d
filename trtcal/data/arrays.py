"""Arrays of samples: `.npz` and `.npy` files, samples on the first axis, fed as they are or preprocessed as images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibrators.batches import IMAGE, Array, TensorSpec, bind
from calibrators.errors import DataError
from trtcal.data import labels as label_files
from trtcal.data.geometry import Size
from trtcal.data.labels import Labels

if TYPE_CHECKING:
    from PIL.Image import Image

LABELS = "labels"
"""The array of an `.npz` that holds class numbers, unless the model has an input of that name."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """Arrays by input name, all with the same number of samples.

    An `.npy` stays on the disk, memory-mapped; an `.npz` is read once, whole.

    Attributes:
        source: The file.
        arrays: By input name; `IMAGE` for a lone array of which no name is known.
        names: `sample 0`, `sample 1`, ...: positions, so that renaming the file changes nothing.
        labels: Class numbers, where they are known.
        class_names: None are known.
    """

    source: Path
    arrays: Mapping[str, Array]
    names: tuple[str, ...]
    labels: Labels | None
    class_names: tuple[str, ...] = ()

    @staticmethod
    def read(source: Path, *, labels: Path | None = None, inputs: Sequence[TensorSpec] = ()) -> "ArrayFile":
        """Read arrays.

        Args:
            source: `.npz`, or `.npy` for a model with one input.
            labels: An `.npy` of class numbers; it goes before an array `labels` in the `.npz`.
            inputs: The model's, where it is known.

        Raises:
            DataError: The file cannot be read, or its arrays or labels are no samples.
        """
        if not source.is_file():  # Opening a pipe would wait for ever.
            raise DataError(f"cannot read {source}: it is no file; give an .npz or .npy file")
        arrays = _npz(source) if source.suffix.lower() == ".npz" else {IMAGE: _npy(source)}
        own = None if LABELS in {spec.name for spec in inputs} else arrays.get(LABELS)
        if own is not None and len(arrays) > 1 and own.ndim == 1 and own.dtype.kind in "iu":
            arrays = {name: array for name, array in arrays.items() if name != LABELS}
        else:
            own = None
        count = _count(source, arrays)
        if labels is not None:
            numbers: Labels | None = label_files.read_npy(labels, count)
        else:
            numbers = None if own is None else label_files.checked(own, count, f"{source}, array {LABELS}")
        if len(arrays) == 1 and len(inputs) <= 1:
            arrays = {inputs[0].name if inputs else IMAGE: next(iter(arrays.values()))}
        names = tuple(f"sample {position}" for position in range(count))
        return ArrayFile(source, arrays, names, numbers)

    @property
    def holds_images(self) -> bool:
        """Whether this is one array of images: uint8 of shape N,H,W or N,H,W,C with 1, 3 (RGB) or 4 (RGBA) channels."""
        array = next(iter(self.arrays.values()))
        shaped = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3, 4))
        return len(self.arrays) == 1 and array.dtype == np.uint8 and shaped

    def check_images(self) -> None:
        """Refuse arrays that no image preprocessing can work on.

        Raises:
            DataError: Not one array of images.
        """
        if not self.holds_images:
            held = ", ".join(f"{array.dtype} of {'x'.join(map(str, array.shape))}" for array in self.arrays.values())
            fed = "to feed arrays as they are, use --preprocess none"
            raise DataError(f"{self.source} holds {held}, and images are uint8 of N,H,W or N,H,W,C; {fed}")

    def check_fed(self, inputs: Sequence[TensorSpec]) -> None:
        """Refuse arrays that do not fit the model's inputs.

        Raises:
            DataError: Names, shapes or kinds of number do not fit.
        """
        try:
            bind(self.take((0,)), inputs)
        except DataError as error:
            raise DataError(f"{self.source}: {error}") from error

    def where(self, position: int) -> str:
        """The sample's place, for messages."""
        return f"{self.source}, sample {position}"

    def image(self, position: int) -> "Image":
        """One sample as an image."""
        import PIL.Image

        pixels = np.ascontiguousarray(next(iter(self.arrays.values()))[position])
        return PIL.Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)

    def image_size(self, position: int) -> Size:
        """The (height, width) of a sample: of the image, or in the one array of four axes.

        Axes are N,H,W,C where that is images, or the last has 1 or 3 channels and the second has not; else N,C,H,W.

        Raises:
            DataError: No array has four axes, or several have.
        """
        if self.holds_images:
            return _size(next(iter(self.arrays.values())).shape[1:3])
        shapes = [array.shape for array in self.arrays.values() if array.ndim == 4]
        if len(shapes) != 1:
            held = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in self.arrays.items())
            raise DataError(
                f"of its arrays {len(shapes)} have four axes, as images have, and one must, to say their size ({held})"
            )
        last = shapes[0][3] in (1, 3) and shapes[0][1] not in (1, 3)
        return _size(shapes[0][1:3] if last else shapes[0][2:])

    def take(self, positions: Sequence[int]) -> dict[str, Array]:
        """Copies of some samples, by input name."""
        return {name: array[list(positions)] for name, array in self.arrays.items()}

    def content(self, position: int) -> bytes:
        """The SHA-256 of a sample's arrays: their dtypes, shapes and bytes, in the order of the inputs' names."""
        digest = hashlib.sha256()
        for name in sorted(self.arrays):
            sample = np.ascontiguousarray(self.arrays[name][position])
            digest.update(f"{sample.dtype.str} {sample.shape} ".encode() + sample.tobytes())
        return digest.digest()


def _size(lengths: Sequence[int]) -> Size:
    height, width = lengths
    return height, width


def _npz(path: Path) -> dict[str, Array]:
    arrays = {}
    name = None
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is no .npz file: save it with numpy.savez")
        with opened as file:
            for name in file.files:
                arrays[name] = file[name]
                if not isinstance(arrays[name], np.ndarray):
                    raise DataError(f"{path} holds {name}, which is no array: save it with numpy.savez")
    except DataError:
        raise
    except Exception as error:  # The reader on hostile bytes raises anything: zlib.error, MemoryError, RuntimeError...
        raise _unreadable(path, name, error) from error
    if not arrays:
        raise DataError(f"{path} holds no array: save one per model input, named as the input")
    return arrays


def _npy(path: Path) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # As above: OverflowError for a negative size, SyntaxError, ...
        raise _unreadable(path, None, error) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is no .npy file: save it with numpy.save, or call it .npz")
    return array


def _unreadable(path: Path, name: str | None, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot read {path}: {error.strerror}")
    if "Object arrays" in str(error) or "Python objects" in str(error):
        array = f"array {name} of {path}" if name else str(path)
        return DataError(f"{array} holds Python objects, not plain numbers: save an array of one number type")
    if isinstance(error, MemoryError):
        return DataError(
            f"{path}: its arrays do not fit in memory: save fewer samples, or an .npy, which is read in parts"
        )
    if "encrypted" in str(error):
        return DataError(f"{path} is encrypted: save it with numpy.savez, without a password")
    if "mmap an empty" in str(error):
        return DataError(f"{path}: it holds no sample; samples are on the first axis")
    return DataError(f"cannot read {path}: it is damaged, or no NumPy file")


def _count(source: Path, arrays: Mapping[str, Array]) -> int:
    """The number of samples, the same in each array."""
    counts = {}
    for name, array in arrays.items():
        label = str(source) if name == IMAGE else f"{source}, array {name}"
        if array.dtype.kind not in "biuf":
            raise DataError(f"{label}: {array.dtype} is no number that a model takes")
        if array.ndim == 0 or array.size == 0:
            raise DataError(f"{label}: it holds no sample; samples are on the first axis")
        counts[name] = len(array)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"{source}: the arrays hold different numbers of samples ({listed})")
    return next(iter(counts.values()))
