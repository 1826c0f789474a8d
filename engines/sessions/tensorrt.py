"""TensorRT engines as sessions: samples in, outputs out, on the GPU."""

import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from calibrators.batches import Array, bind
from calibrators.cuda.device import open_cuda
from calibrators.cuda.protocols import Cuda
from calibrators.errors import EngineError
from engines.graph.chunks import run_in_chunks, sample_count
from engines.inspection.engine_record import EngineRecord
from engines.sessions.closing import Closing
from engines.sessions.engine_io import read_io
from engines.sessions.execution import Execution
from engines.sessions.runtime import LoadedEngine, load_engine


class TensorRTSession(Closing):
    """A serialized engine in the TensorRT that it was built with.

    Any number of samples runs: more than the optimization profile allows run in several goes, and where it wants more
    than there are, the last one is repeated, and what the repeats give is cut off. Of several profiles the one is taken
    that needs the fewest runs.

    Runs of several threads wait for each other; `execution` gives ways through the engine that do not.

    Args:
        path: The engine; its side-car, ``<path>.json``, is read where it is there.
        cuda: The GPU; None opens the current one.
        cuda_graph: Launch through CUDA graphs, where the engine can be captured.

    Attributes:
        inputs: What it takes; a size is free (None) where a profile leaves it open.
        outputs: What it gives.
        cuda: The GPU.
        record: The side-car; None where there is none.
        runtime: What runs it, such as "tensorrt".
        version: The version of that.

    Raises:
        DeviceError: There is no GPU, its driver is too old, or its memory does not suffice.
        EngineError: The engine does not load here, or trtcal cannot feed it.
        MissingDependencyError: Its TensorRT, or a CUDA library for Python, is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, cuda: Cuda | None = None, cuda_graph: bool = False) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        with ExitStack() as stack:
            # TensorRT comes first, as it knows best what is wrong with a machine that cannot run the engine.
            self._loaded: LoadedEngine | None = load_engine(self.path)
            stack.callback(self._unload)
            self.cuda = cuda or open_cuda()
            self._io = read_io(self._loaded.trt, self._loaded.engine, name=str(self.path))
            self.inputs, self.outputs = self._io.inputs, self._io.outputs
            self.record: EngineRecord | None = self._loaded.record
            self.runtime, self.version = self._loaded.backend, self._loaded.version
            self._execution: Execution | None = None
            self._cuda_graph = cuda_graph
            self._resources = stack.pop_all()

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Run the samples of `batch`.

        Args:
            batch: Arrays by input name, samples on the first axis, in any precision of the right kind of number.

        Returns:
            Arrays by output name.

        Raises:
            DataError: The arrays do not fit the inputs.
            DeviceError: The GPU's memory does not suffice, or the work fails on it.
            EngineError: No profile allows the shapes, or TensorRT refuses to run.
            ModelError: More samples than fit, and an output that cannot be cut into samples.
        """
        feed = bind(batch, self.inputs)
        sample_count(str(self.path), feed)
        choice = self._io.choose(feed, name=str(self.path))
        with self._lock:
            self._require_open()
            # Not before: TensorRT 8 gives an optimization profile to one context only.
            way = self._execution or self._resources.enter_context(self.execution(cuda_graph=self._cuda_graph))
            self._execution = way
            return run_in_chunks(
                str(self.path),
                lambda chunk: way.run(chunk, choice.profile),
                feed,
                fewest=choice.fewest,
                most=choice.most,
            )

    def execution(self, *, cuda_graph: bool = False) -> Execution:
        """Another way through the engine, with a stream and memory of its own; it must be closed before the session.

        Raises:
            DeviceError: The GPU's memory does not suffice.
            EngineError: The session is closed, or TensorRT refuses.
        """
        return Execution(self._require_open(), self._io, self.cuda, cuda_graph=cuda_graph)

    def profile_for(self, batch: Mapping[str, Array]) -> int:
        """The index of the profile that takes these arrays as they are, in one run.

        Raises:
            DataError: The arrays do not fit the inputs.
            EngineError: None does; the message has the ranges of all.
        """
        feed = bind(batch, self.inputs)
        self._io.require(feed, name=str(self.path))
        return self._io.choose(feed, name=str(self.path)).profile

    def close(self) -> None:
        """Free the engine and all memory; the session cannot run afterwards."""
        with self._lock:
            self._execution = None
            self._resources.close()

    def _require_open(self) -> LoadedEngine:
        if self._loaded is None:
            raise EngineError(f"the session of {self.path} is closed; open another")
        return self._loaded

    def _unload(self) -> None:
        self._loaded = None
