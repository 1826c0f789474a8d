"""What a calibrator does while TensorRT builds, and the cache that comes out of it.

TensorRT's bindings print and swallow whatever a calibrator raises, take it for the end of the data, and write a cache
of what they got. They ignore a cache that they don't like, and the batch size of the calibrator. So a calibrator raises
nothing and keeps everything, judges a cache before TensorRT does, cuts batches to the size of the calibration profile,
and lets nothing be final before `finish`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from calibrators.batches import Batches, TensorSpec, fitted
from calibrators.cache.sidecar import sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.cuda.device import open_cuda
from calibrators.cuda.protocols import Cuda
from calibrators.errors import BuildError, CacheError, CacheMismatchError, DataError, TrtcalError
from calibrators.files import require_outputs
from calibrators.tensorrt.cache_exchange import Offer, labelled, offered, remarked
from calibrators.tensorrt.feeding import Feeding
from calibrators.tensorrt.interrupts import Interrupts
from calibrators.tensorrt.network import calibration_specs
from calibrators.tensorrt.progress import shown
from calibrators.tensorrt.rebatching import Once, batch_size, recut, require_whole, samples_of


class Calibrator:
    """What TensorRT's INT8 calibrators have in common; `calibrators.tensorrt.int8` has its four kinds.

    `trtcal.build_engine` calls `prepare`, lets TensorRT call back, and calls `finish`. In a builder of one's own
    `calibrating` does both, around the build. A calibrator serves any number of builds, one after the other.

    Args:
        batches: An iterable of batches (an array, or arrays by input name) that can be iterated again, such as an
            `ImageLoader`; a generator serves one calibration. None uses the cache alone. Their sizes do not matter:
            they are cut to that of the calibration profile, which the samples must fill to the last.
        cache: A calibration cache. One that is there and fits spares the calibration; otherwise the calibration writes
            it, with its side-car. None keeps it in memory.
        allow_version_mismatch: Use the scales of a cache of another TensorRT or algorithm, under the header that the
            running one wants. The file stays as it is.
        recalibrate: Calibrate and replace a cache that does not fit, or that TensorRT rejects, instead of an error.
        progress: Is told the number of samples of each batch that TensorRT takes; None shows a bar on standard error,
            where that is a terminal.
        cuda: The device; None opens the current one when the first batch is asked for.

    Attributes:
        algorithm: TensorRT's word for the kind of calibration, which the header of a cache holds.
        method: The range method that comes nearest, for Q/DQ nodes: of `calibrators.ranges.METHODS`.
        calibrates: Whether TensorRT can calibrate with it; if not, it holds batches and method.
        progress: As given; it may be replaced between builds.
        served: Batches that TensorRT has taken in this build.
        planned: Batches that there are; None until that is known.
        error: The first exception since `prepare`, if any: TensorRT is told that there is no more data, and `finish`
            raises it.
        notes: What became of the cache that was given, one line each.

    Raises:
        DataError: There are neither batches nor a cache.
    """

    algorithm: ClassVar[str] = ""
    method: ClassVar[Literal["entropy", "minmax", "percentile"]] = "entropy"
    calibrates: ClassVar[bool] = False
    _base: ClassVar[Any] = None
    _tensorrt: ClassVar[str] = ""  # its version, or why there is none that calibrates
    _refusal: ClassVar[type[TrtcalError]] = BuildError
    _has_int64: ClassVar[bool] = True

    def __init__(
        self,
        batches: Batches | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        allow_version_mismatch: bool = False,
        recalibrate: bool = False,
        progress: Callable[[int], None] | None = None,
        cuda: Cuda | None = None,
    ) -> None:
        if self._base is not None:
            self._base.__init__(self)  # without it, TensorRT crashes at the first callback
        if batches is None and cache is None:
            raise DataError(f"{type(self).__name__} has nothing to go by: give batches, a calibration cache or both")
        self.batches: Batches | None = Once(batches) if isinstance(batches, Iterator) else batches
        self.cache = None if cache is None else Path(cache)
        self.allow_version_mismatch = allow_version_mismatch
        self.recalibrate = recalibrate
        self.progress = progress
        self._cuda = cuda
        self._specs: tuple[TensorSpec, ...] = ()  # between `prepare` and `finish`
        self._interrupts: Interrupts | None = None
        self._reset()

    def _reset(self) -> None:
        """What a build begins with."""
        self.served = 0
        self.planned: int | None = None
        self.error: BaseException | None = None
        self.notes: tuple[str, ...] = ()
        self._result: CalibrationCache | None = None
        self._offer: Offer | None = None
        self._feeding: Feeding | None = None
        self._loader: Batches | None = None
        self._samples: int | None = None  # of the loader, where that is known
        self._read = self._exhausted = False
        self._written: bytes | None = None
        self._shown = ExitStack()
        self._advance: Callable[[int], None] = lambda done: None

    def prepare(self, specs: Sequence[TensorSpec], model_sha256: str = "") -> None:
        """Make ready for a build; everything that can be refused before it is refused here.

        Args:
            specs: The network's inputs, in the fixed shapes of the calibration profile: samples on the first axis, as
                many in each. TensorRT reads float inputs as float32, whatever their type, and others in their own; 8.6
                has no int64 and reads int32.
            model_sha256: Of the model; a cache whose side-car names another is refused. "" compares nothing.

        Raises:
            BuildError: The installed TensorRT has no calibrators.
            MissingDependencyError: TensorRT is not installed.
            CacheError: There is no cache and no batches; the cache cannot be read or does not fit.
            DataError: The batches do not fit the profile, or have been used up.
            OutputError: The cache could not be written.
        """
        self._require_calibrates()
        self._end()
        self._reset()
        size = batch_size(specs)
        self._offer = self._judged(model_sha256)
        if self._offer is None and self.batches is not None:
            self._plan(self.batches, specs, size)
        self._size = size
        self._model_sha256 = model_sha256
        self._interrupts = Interrupts(self.stop)
        self._specs = tuple(specs)

    def stop(self, error: BaseException) -> None:
        """Have no more batches served, and `error` raised by `finish`, unless there is one already.

        From any thread: where the build has a thread of its own, Ctrl-C comes to another.
        """
        if self.error is None:
            self.error = error

    def finish(self, *, built: bool = True) -> CalibrationCache | None:
        """End the build: free the device's memory, raise what was kept, and only now write the cache.

        To be called in any case, in the thread that called `prepare`. The second time it does as the first.

        Args:
            built: Whether TensorRT made an engine. If it failed for a reason of its own, that it took few batches is no
                error here, and a cache that was complete by then is written.

        Returns:
            The cache that the engine was built with, its side-car filled in where it is new; None where TensorRT got
            none.

        Raises:
            BuildError: TensorRT took fewer batches than there are, asked for none, or wrote no cache.
            BaseException: What was raised in a callback, as it was.
        """
        if self._specs:
            with self._kept():
                self._end()
                if self.error is None:
                    self._result = self._concluded(built=built)
        if self.error is not None:
            raise self.error
        return self._result

    @contextmanager
    def calibrating(self, network: Any, config: Any, *, model_sha256: str = "") -> Iterator[None]:
        """Make ready for the build in this block, and end it: `prepare` and `finish`.

        ::

            config.int8_calibrator = calibrator
            with calibrator.calibrating(network, config):
                plan = builder.build_serialized_network(network, config)
            cache = calibrator.finish()  # once more: the cache that it was built with

        Args:
            network: TensorRT's, with its inputs.
            config: Of the build; where inputs have free sizes, its calibration profile is set.
            model_sha256: As in `prepare`.

        Raises:
            BuildError: The calibration profile is missing; or as `prepare` and `finish` raise it.
            BaseException: As those; else what was raised in the block.
        """
        self._require_calibrates()
        self.prepare(calibration_specs(network, config), model_sha256)
        try:
            yield
        except BaseException:
            self.finish(built=False)  # what a callback raised is why the block failed, and comes out instead
            raise
        self.finish()

    # What TensorRT calls.

    def get_batch_size(self) -> int:
        """The samples per batch: those of the calibration profile."""
        self._require_prepared()
        return self._size

    def get_batch(self, names: Sequence[str]) -> list[int] | None:
        """The device's address of each input of the next batch, in the order of `names`; None where there is none."""
        self._require_prepared()
        with self._kept():
            if self.error is None and not self._exhausted:
                return self._next(names)
        return None

    def read_calibration_cache(self) -> bytes | None:
        """The cache, if there is one that fits."""
        self._require_prepared()
        with self._kept():
            if self.error is None and self._offer is not None:
                self._read = True
                return self._offer.text  # kept by the offer: TensorRT reads it after this call
        return None

    def write_calibration_cache(self, cache: memoryview) -> None:
        """Take TensorRT's cache, which is not there any more after this call."""
        self._require_prepared()
        with self._kept():
            self._written = bytes(cache)  # `finish` decides what becomes of it

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what is raised: TensorRT would swallow it."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - `finish` raises it
            self.stop(error)
            if self._feeding is not None:
                self._feeding.release()

    def _require_calibrates(self) -> None:
        if not self.calibrates:
            raise self._refusal(
                f"{type(self).__name__} cannot calibrate, as {self._tensorrt}: give it to trtcal.build_engine, which "
                "writes Q/DQ nodes from its batches, or calibrate with trtcal.collect and trtcal.calibrate"
            )

    def _require_prepared(self) -> None:
        self._require_calibrates()
        if not self._specs:
            # TensorRT prints it.
            raise BuildError(
                f"{type(self).__name__} is not prepared: build within `with calibrator.calibrating(network, config):`"
            )

    def _judged(self, model_sha256: str) -> Offer | None:
        """The cache, if it fits; None where batches stand in for one that does not, or is not there."""
        if self.cache is None or (self.batches is not None and not self.cache.exists()):
            return None
        try:
            offer = offered(
                self.cache,
                version=self._tensorrt,
                algorithm=self.algorithm,
                model_sha256=model_sha256,
                allow_version_mismatch=self.allow_version_mismatch,
            )
        except CacheMismatchError as error:
            if not self.recalibrate or self.batches is None:
                raise
            self.notes = (f"calibrating again: {error}",)
            return None
        self.notes = offer.notes
        return offer

    def _plan(self, batches: Batches, specs: Sequence[TensorSpec], size: int) -> None:
        if isinstance(batches, Once):
            batches.require_unread()
        if self.cache is not None:
            require_outputs([self.cache, sidecar_path(self.cache)])
        self._loader = fitted(batches, specs)
        self._samples = samples_of(self._loader)
        if self._samples is not None:
            require_whole(self._samples, size)
            self.planned = self._samples // size

    def _next(self, names: Sequence[str]) -> list[int] | None:
        if self._feeding is None:
            self._feeding = self._begun()
        addresses = self._feeding.next()
        if self.error is not None:  # from another thread, meanwhile
            return None
        if addresses is None:
            self._exhausted = True
            self._feeding.release()  # TensorRT wants the memory for what comes now
            self._compare_with_plan()
            return None
        unknown = [name for name in names if name not in addresses]
        if unknown or not names:
            listed = ", ".join(unknown) or "nothing"
            raise DataError(f"TensorRT asks for {listed}, and the batches hold {', '.join(addresses)}: name all inputs")
        self.served += 1
        self._advance(self._size)
        return [addresses[name] for name in names]

    def _begun(self) -> Feeding:
        if self._offer is not None:
            why = (
                f"TensorRT {self._tensorrt} rejects the cache {self.cache} without a reason, though its header fits, "
                "and asks for batches"
            )
            if not self.recalibrate or self.batches is None:
                raise CacheError(f"{why}: give batches with recalibrate=True, or another cache")
            self.notes = (*self.notes, f"calibrating again: {why}")
            self._plan(self.batches, self._specs, self._size)
        if self._loader is None:
            raise CacheError("TensorRT asks for batches and there are none: give batches, or a cache that fits")
        self._advance = self._shown.enter_context(shown(self.progress, self._samples))
        cuda = self._cuda if self._cuda is not None else open_cuda()  # in this thread, whose GPU is TensorRT's
        specs = [TensorSpec(spec.name, spec.shape, self._as_read(spec.dtype)) for spec in self._specs]
        sizes = {spec.name: prod(int(size or 0) for size in spec.shape) * spec.dtype.itemsize for spec in specs}
        return Feeding(recut(self._loader, specs), sizes, cuda)

    def _as_read(self, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
        if dtype.kind == "f":
            return np.dtype(np.float32)
        return np.dtype(np.int32) if dtype == np.int64 and not self._has_int64 else dtype

    def _compare_with_plan(self) -> None:
        skipped = len(getattr(self._loader, "skipped", ()))
        if self.planned is not None and self.planned * self._size != self.served * self._size + skipped:
            raise DataError(
                f"there should be {self.planned} calibration batches of {self._size} samples, and {self.served} came: "
                "the images changed meanwhile, or the loader's `count` is wrong"
            )
        self.planned = self.served

    def _end(self) -> None:
        """Back to how it was before `prepare`, the results apart."""
        self._specs = ()
        self._shown.close()
        if self._interrupts is not None:
            self._interrupts.end()
            self._interrupts = None
        if self._feeding is not None:
            self._feeding.close()

    def _concluded(self, *, built: bool) -> CalibrationCache | None:
        if self._feeding is None and self._read and self._offer is not None:
            return self._offer.cache
        if self._exhausted and self._written is not None:
            return self._saved(self._written)
        if not built:
            return None
        if self._feeding is None:
            raise BuildError(
                "TensorRT never asked the calibrator: where it built an engine, set config.int8_calibrator and INT8, "
                "and take a model without Q/DQ nodes; where it built none, its log tells why"
            )
        batches = f"{self.served} of {'an unknown number of' if self.planned is None else self.planned}"
        raise BuildError(
            f"TensorRT took {batches} calibration batches and "
            f"{'wrote no cache' if self._exhausted else 'went on without the others'}: no cache is kept; its log tells "
            "more"
        )

    def _saved(self, text: bytes) -> CalibrationCache:
        cache = labelled(
            text,
            self._loader,
            images=self.served * self._size,
            model_sha256=self._model_sha256,
            method=self.method,
            version=self._tensorrt,
        )
        self.notes = (*self.notes, *remarked(cache))
        if self.cache is not None:
            cache.save(self.cache)
        return cache
