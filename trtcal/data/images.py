"""Images and arrays as batches: what calibration, accuracy checks and benchmarks run on."""

import hashlib
import os
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from calibrators.batches import IMAGE, Array, Batch, TensorSpec
from calibrators.errors import DataError
from calibrators.files import require_path
from trtcal.data.arrays import ArrayFile
from trtcal.data.batching import ahead, check_alike, joined, split
from trtcal.data.fitting import image_channels
from trtcal.data.folder import ImageFolder
from trtcal.data.geometry import Size
from trtcal.data.labels import Labels
from trtcal.data.pixels import BadImageError
from trtcal.data.placing import placement
from trtcal.data.preprocess import PRESETS, Preprocess
from trtcal.data.recorded_preprocess import chosen_preprocess
from trtcal.data.sampling import chosen
from trtcal.tasks.placement import Placement

OnBadImage = Literal["error", "skip"]
PathLike = str | os.PathLike[str]


class ImageLoader:
    """Batches of a folder of images, or of the samples of an `.npz` or `.npy`; every `iter` gives the same ones.

    Threads make batches ahead of the consumer, at most one more than there are threads, and end with the iterator
    wherever it is left. An image's numbers depend on nothing but the image and the preprocessing.

    Args:
        source: A folder (`trtcal.data.folder.ImageFolder.read` says what is an image and a class), or arrays
            (`trtcal.data.arrays.ArrayFile.read`): an `.npz` with one array per model input, or an `.npy`. An array of
            images, uint8 of N,H,W or N,H,W,C, is preprocessed as images unless `preprocess` is "none".
        preprocess: A preset, a TOML file or a value; None takes what is recorded beside `model`, else chooses by the
            source and the model's input: "none" for arrays that are no images, "raw" for uint8 inputs, "unit" for one
            channel, else "imagenet".
        model: An ONNX model or an engine that the batches are for: `inputs` are its own, and the preprocessing that it
            was calibrated with is taken from its side-car, or its cache's, as `trtcal accuracy` does. A warning tells
            of another one in `preprocess`.
        batch_size: Samples per batch; the last may have fewer.
        count: How many samples to take at most, each class its share (`trtcal.data.sampling`); None takes all.
        seed: Of that choice.
        labels: A CSV `file,label` for a folder, an `.npy` for arrays.
        on_bad_image: "error" raises on an image that cannot be decoded; "skip" leaves it out and notes it in `skipped`.
        inputs: The model's, where it is known: what the preprocessing leaves open is taken from them, and batches are
            keyed by their names. Without them the key of images, and of a lone array, is `IMAGE`.

    Attributes:
        source: As a path.
        notes: What a user should know of how `preprocess` was chosen, one line each.
        preprocess: What is done to each image, nothing left open.
        batch_size: As given.
        seed: As given.
        available: How many samples the source holds, chosen or not.
        names: The chosen samples in order: paths relative to the folder, sorted, or positions in the arrays.
        labels: Their class numbers, int64, where they are known.
        class_names: By class number, where they are known.

    Raises:
        DataError: Here: no sample, labels or a preprocessing that do not fit, bad options. While iterating: an image
            that cannot be decoded, or images of different sizes in one batch.
    """

    def __init__(
        self,
        source: PathLike,
        *,
        preprocess: PathLike | Preprocess | None = None,
        model: PathLike | None = None,
        batch_size: int = 8,
        count: int | None = None,
        seed: int = 0,
        labels: PathLike | None = None,
        on_bad_image: OnBadImage = "error",
        inputs: Sequence[TensorSpec] = (),
    ) -> None:
        require_path(source, "images", "give a folder, or the path of an .npz or .npy file (numpy.save)")
        require_path(model, "the model of batches", "give its path, or inputs=session.inputs")
        require_path(labels, "labels", "give the path of a CSV or .npy file")
        _check_options(batch_size, count, on_bad_image)
        self.notes: tuple[str, ...] = ()
        if model is not None:
            from engines.inspection.file import inputs_of

            inputs = inputs or inputs_of(model)
            found = chosen_preprocess(preprocess, [model], inputs)
            preprocess, self.notes = found.preprocess, found.notes
            for line in self.notes:
                if line.startswith("warning: "):
                    warnings.warn(line.removeprefix("warning: "), stacklevel=2)
        self._open = partial(
            ImageLoader,
            source,
            preprocess=preprocess,
            batch_size=batch_size,
            count=count,
            seed=seed,
            labels=labels,
            on_bad_image=on_bad_image,
        )
        self._inputs = tuple(inputs)
        self.source = Path(source)
        self.batch_size, self.seed = batch_size, seed
        self._samples = _samples(self.source, None if labels is None else Path(labels), inputs)
        self.preprocess = _preprocess(preprocess, self._samples, inputs)
        self._key = inputs[0].name if inputs else IMAGE
        self._skip = on_bad_image == "skip"
        self._sizes: dict[str, Size] = {}
        self._digests: dict[int, bytes] = {}
        self.available = len(self._samples.names)
        self.class_names = self._samples.class_names
        self._choose(count, frozenset())

    def for_model(self, inputs: Sequence[TensorSpec]) -> "ImageLoader":
        """The same samples for a model with these inputs; itself, where it was opened for them.

        What is skipped while the other is iterated is noted in `skipped` of both.

        Raises:
            DataError: As the constructor.
        """
        if self._inputs == tuple(inputs):
            return self
        loader = self._open(inputs=inputs)
        loader._choose(*self._choice)
        loader._skipped, loader._sizes = self._skipped, self._sizes
        return loader

    def sampled(self, count: int | None, *, without: Collection[str] = ()) -> "ImageLoader":
        """Another choice from the same source by the same seed, such as images that this one leaves out.

        Args:
            count: How many samples to take at most, each class its share; None takes all.
            without: Names of samples that are not taken.

        Raises:
            DataError: No sample is left.
        """
        _check_options(self.batch_size, count, "error")
        other = copy(self)
        for known in ("contents", "digest"):
            vars(other).pop(known, None)
        other._choose(count, frozenset(without))
        if not other.names:
            raise DataError(f"none of the {self.available} samples of {self.source} is left: give more")
        return other

    def divided(self, count: int) -> "list[ImageLoader]":
        """Its own samples in two parts: `count` of them, each class its share, and the rest; one where none is left.

        What these skip, this one has skipped, too.
        """
        if count >= self.count:
            return [self]
        others = set(self._samples.names).difference(self.names)
        first = self.sampled(count, without=others)
        second = self.sampled(None, without=others.union(first.names))
        first._skipped = second._skipped = self._skipped
        return [first, second]

    def _choose(self, count: int | None, without: frozenset[str]) -> None:
        self._choice = count, without
        names, known = self._samples.names, self._samples.labels
        left = [position for position, name in enumerate(names) if name not in without]
        taken = chosen(
            [names[position] for position in left],
            count=count,
            seed=self.seed,
            labels=None if known is None else known[left],
        )
        self._positions = tuple(left[index] for index in taken)
        self._skipped: dict[str, str] = {}
        self.names = tuple(names[position] for position in self._positions)
        self.labels: Labels | None = None if known is None else known[list(self._positions)]

    @property
    def count(self) -> int:
        """How many samples were chosen."""
        return len(self.names)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(name, reason) of each image that an iteration has left out so far."""
        return list(self._skipped.items())

    def placement(self, name: str) -> Placement:
        """Where a sample lies in the model's input; arrays that are fed as they are are the input.

        The size is read from the image's header, once.

        Args:
            name: Any of the source's samples, chosen or not.

        Raises:
            DataError: There is no such sample, its image cannot be read or is smaller than the crop, or the arrays do
                not say how large images are.
        """
        position = self._position.get(name)
        if position is None:
            raise DataError(f"there is no {name} in {self.source}: give one of its {self.available} names")
        where = self._samples.where(position)
        try:
            if name not in self._sizes:
                self._sizes[name] = self._samples.image_size(position)
            as_is = self.preprocess.as_is
            return Placement.whole(self._sizes[name]) if as_is else placement(self.preprocess, self._sizes[name])
        except BadImageError as error:
            raise _unreadable(where, error) from error
        except DataError as error:
            raise DataError(f"image {where}: {error}") from error

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self._samples.names)}

    @cached_property
    def contents(self) -> tuple[bytes, ...]:
        """The SHA-256 of each chosen sample's content, in the order of `names`; reads each sample once.

        Where bad images are skipped, a file that cannot be read counts as an empty one.
        """
        return tuple(self._content(position) for position in self._positions)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, over each chosen sample's name, a zero byte, and the SHA-256 of its content.

        Neither labels nor preprocessing are part of it.
        """
        digest = hashlib.sha256()
        for name, content in zip(self.names, self.contents, strict=True):
            digest.update(os.fsencode(name) + b"\0" + content)
        return digest.hexdigest()

    def __len__(self) -> int:
        """The number of batches; images that are skipped may make it fewer."""
        return (self.count + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        parts = [self._positions[start : start + self.batch_size] for start in range(0, self.count, self.batch_size)]
        stop = threading.Event()
        waiting = Batch({})
        given = 0
        with closing(ahead(lambda part: self._read(part, stop), parts, stop=stop)) as made:
            for batch, bad in made:
                self._skipped.update(bad)
                waiting = joined(waiting, batch)
                while waiting.size >= self.batch_size:
                    full, waiting = split(waiting, self.batch_size)
                    given += full.size
                    yield full
        if waiting.size:
            given += waiting.size
            yield waiting
        if not given:
            name, reason = self.skipped[0]
            raise DataError(f"none of the {self.count} images in {self.source} can be read; {name}: {reason}")

    def _read(self, positions: Sequence[int], stop: threading.Event) -> tuple[Batch, dict[str, str]]:
        """The batch of `positions`, and the reason by name for each that was left out of it."""
        if isinstance(self._samples, ArrayFile) and self.preprocess.as_is:
            return self._batch(self._samples.take(positions), positions), {}
        rows: dict[int, Array] = {}
        bad: dict[str, str] = {}
        for position in positions:
            if stop.is_set():
                break
            where = self._samples.where(position)
            try:
                with self._samples.image(position) as image:
                    rows[position] = self.preprocess(image)
            except BadImageError as error:
                if not self._skip:
                    raise _unreadable(where, error) from error
                bad[self._samples.names[position]] = str(error)
            except DataError as error:
                raise DataError(f"image {where}: {error}") from error
        if not rows:
            return Batch({}), bad
        first = next(iter(rows))
        for position, row in rows.items():
            check_alike(row.shape, self._samples.where(position), rows[first].shape, self._samples.where(first))
        return self._batch({self._key: np.stack(list(rows.values()))}, list(rows)), bad

    def _content(self, position: int) -> bytes:
        """Each sample is read once, whatever choices of them there are."""
        if position not in self._digests:
            try:
                self._digests[position] = self._samples.content(position)
            except DataError:
                if not self._skip:
                    raise
                self._digests[position] = hashlib.sha256().digest()
        return self._digests[position]

    def _batch(self, arrays: dict[str, Array], positions: Sequence[int]) -> Batch:
        names, labels = self._samples.names, self._samples.labels
        return Batch(
            arrays,
            names=[names[position] for position in positions],
            labels=None if labels is None else labels[list(positions)],
        )


def open_images(
    source: PathLike,
    model_inputs: Sequence[TensorSpec],
    *,
    preprocess: PathLike | Preprocess | None = None,
    batch_size: int = 8,
    count: int | None = None,
    seed: int = 0,
    labels: PathLike | None = None,
    on_bad_image: OnBadImage = "error",
) -> ImageLoader:
    """An `ImageLoader` for a model: its preprocessing fits the model's inputs, its batches are keyed by their names.

    Raises:
        DataError: As `ImageLoader`; where the preprocessing or the arrays do not fit the model, it names the input.
    """
    return ImageLoader(
        source,
        preprocess=preprocess,
        batch_size=batch_size,
        count=count,
        seed=seed,
        labels=labels,
        on_bad_image=on_bad_image,
        inputs=model_inputs,
    )


def _check_options(batch_size: int, count: int | None, on_bad_image: str) -> None:
    for name, value in (("batch size", batch_size), ("count", count)):
        if value is not None and value < 1:
            raise DataError(f"the {name} must be at least 1, not {value}")
    if on_bad_image not in get_args(OnBadImage):
        raise DataError(f"on_bad_image must be one of {', '.join(get_args(OnBadImage))}, not {on_bad_image!r}")


def _samples(source: Path, labels: Path | None, inputs: Sequence[TensorSpec]) -> ImageFolder | ArrayFile:
    if source.is_dir():
        return ImageFolder.read(source, labels=labels)
    if not source.exists():
        raise DataError(f"there is no {source}: give a folder of images, or an .npz or .npy file")
    if source.suffix.lower() not in (".npz", ".npy"):
        raise DataError(f"{source} is neither a folder of images nor an .npz or .npy file: give one of these")
    return ArrayFile.read(source, labels=labels, inputs=inputs)


def _preprocess(
    wanted: PathLike | Preprocess | None, samples: ImageFolder | ArrayFile, inputs: Sequence[TensorSpec]
) -> Preprocess:
    if wanted is None:
        preprocess = PRESETS[_usual(samples, inputs)]
    else:
        preprocess = wanted if isinstance(wanted, Preprocess) else Preprocess.load(wanted)
    if isinstance(samples, ArrayFile):
        if not preprocess.as_is:
            samples.check_images()
        elif inputs:
            samples.check_fed(inputs)
    elif preprocess.as_is:
        raise DataError(
            f"preprocess none feeds arrays, and {samples.source} holds images: choose a preset or a .toml file"
        )
    return preprocess.for_model(inputs) if inputs else preprocess.settled()


def _usual(samples: ImageFolder | ArrayFile, inputs: Sequence[TensorSpec]) -> str:
    """The preset for who states none."""
    channels = image_channels(inputs)
    if isinstance(samples, ArrayFile) and (not samples.holds_images or (inputs and channels is None)):
        return "none"
    if channels is not None and inputs[0].dtype == np.uint8:
        return "raw"
    return "unit" if channels == 1 else "imagenet"


def _unreadable(where: str, error: BadImageError) -> DataError:
    advice = "remove it, or leave such images out with --on-bad-image skip"
    return DataError(f"cannot read image {where}: {error}; {advice}")
