"""Statistics of whatever a function runs through a session: for evaluation code that knows how to feed a model."""

import queue
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from calibrators.batches import Array, Batch, TensorSpec, bind
from calibrators.errors import DataError, ModelError
from calibrators.statistics.file import Statistics
from engines.collection.collect import Tensors, collect
from engines.graph.model import ModelSource
from engines.sessions.onnxruntime import OnnxRuntimeSession, Session

AHEAD = 4
"""Batches that may wait for their statistics before the function has to."""

PATIENCE = 0.1
"""Seconds between looks at whether the statistics are still being gathered, when nothing moves."""


def observed(
    model: ModelSource,
    use: Callable[[Session], object],
    *,
    tensors: Tensors = "quantizable",
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Statistics of a model's activations on every batch that a function runs.

    They are those of `engines.collection.collect.collect` over the same batches: in any order and size, and from any
    number of threads, the same.

    Args:
        model: A float model, as a path or in memory.
        use: Is given a session of the model, which gives the model's outputs; what it returns is not looked at. Its
            exceptions come out as they are.
        tensors: As `collect` has it.
        progress: Called with the number of samples done since the last call, from another thread.

    Raises:
        ModelError: The model cannot be read or run, or has nothing to quantize.
        DataError: The function ran nothing, or an activation is NaN or infinite.
    """
    waiting = _Waiting()
    with OnnxRuntimeSession(model) as session, ThreadPoolExecutor(1, thread_name_prefix="observed") as beside:
        found = beside.submit(collect, model, waiting, tensors=tensors, progress=progress)
        proxy = _ObservedSession(session, waiting, found)
        try:
            use(proxy)
        except BaseException:
            waiting.abandon(found)
            raise
        finally:
            proxy.close()
        if not proxy.ran:
            waiting.abandon(found)
            if not isinstance(found.exception(), _AbandonedError):
                found.result()
            raise DataError(
                "the callback ran nothing, so there is nothing to calibrate on: have it call run on the session that "
                "it is given, once for each batch"
            )
        waiting.put(None, found)
        return found.result()


class _ObservedSession:
    """The session of a float model that hands on what it has run."""

    def __init__(self, session: OnnxRuntimeSession, waiting: "_Waiting", found: "Future[Statistics]") -> None:
        self._session, self._waiting, self._found = session, waiting, found
        self._open = True
        self.ran = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._session.outputs

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        if not self._open:
            raise ModelError("the calibration that this session was for is over: run the simulation itself")
        outputs = self._session.run(batch)
        arrays = {name: array.copy() for name, array in bind(batch, self.inputs).items()}  # the caller may reuse its
        names = batch.names if isinstance(batch, Batch) else ()
        self._waiting.put(Batch(arrays, names=names), self._found)
        self.ran = True
        return outputs

    def close(self) -> None:
        self._open = False

    def __enter__(self) -> "_ObservedSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The calibration closes it: a `with` in the function ends before the next batch does."""


class _AbandonedError(Exception):
    """Nobody wants the statistics any more."""


class _Waiting:
    """Batches between the thread that runs them and the one that gathers their statistics."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Batch | None] = queue.Queue(AHEAD)
        self._abandoned = False

    def put(self, batch: Batch | None, found: "Future[Statistics]") -> None:
        """Add a batch, or None for the end; where the other thread has failed, raise its error instead."""
        while True:
            if found.done():
                found.result()
                return
            try:
                self._queue.put(batch, timeout=PATIENCE)
                return
            except queue.Full:
                continue

    def abandon(self, found: "Future[Statistics]") -> None:
        """Have the other thread stop, and wait until it has."""
        self._abandoned = True
        while not found.done():
            try:
                self._queue.put(None, timeout=PATIENCE)
                break
            except queue.Full:
                continue
        found.exception()

    def __iter__(self) -> Iterator[Batch]:
        while (batch := self._queue.get()) is not None and not self._abandoned:
            yield batch
        if self._abandoned:
            raise _AbandonedError
