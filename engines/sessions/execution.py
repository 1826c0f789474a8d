"""One way through an engine: an execution context, a stream and the memory between host and device."""

import math
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from calibrators.batches import Array, TensorSpec
from calibrators.cuda.protocols import Cuda, Graph
from calibrators.errors import DeviceError, EngineError
from engines.backends.backend import Log
from engines.backends.logger import listening
from engines.sessions.buffers import Buffer, output_allocator
from engines.sessions.closing import Closing
from engines.sessions.engine_io import EngineIO, Shape
from engines.sessions.runtime import LoadedEngine, first_error, is_out_of_memory, new_context


class Execution(Closing):
    """An engine's execution context on a stream of its own; several of them run at the same time.

    A run is `prepare`, `copy_in`, `launch`, `copy_out`, then `finish` for the outputs: all but the first and the last
    only give work to the stream. Memory on both sides is kept from run to run and grows where it has to.

    With `cuda_graph` the launch is captured in a CUDA graph, by TensorRT's rules: the engine runs once with the shapes
    that are set, is then captured on this stream, which is not the default one, and is captured again when a shape
    changes. Where that fails it is launched as it is, and `no_graph` tells why.

    Args:
        loaded: The engine; it must outlive the execution.
        io: What it takes and gives.
        cuda: The GPU.
        cuda_graph: Launch through a CUDA graph.

    Attributes:
        stream: The stream.
        no_graph: Why there is no CUDA graph though one was wanted; empty where there is one.

    Raises:
        DeviceError: The context does not fit in the GPU's memory.
        EngineError: TensorRT makes no context.
    """

    def __init__(self, loaded: LoadedEngine, io: EngineIO, cuda: Cuda, *, cuda_graph: bool = False) -> None:
        self._loaded, self._io, self._cuda = loaded, io, cuda
        self._wants_graph = cuda_graph
        self.no_graph = ""
        self._graph: Graph | None = None
        self._state: tuple[int, dict[str, Shape]] | None = None
        self._allocators: dict[str, Any] = {}
        self._shapes: dict[str, Shape] = {}
        self._context: Any = None
        with ExitStack() as stack:
            self.stream = stack.enter_context(cuda.stream())
            self._buffers = {spec.name: Buffer(cuda, spec.name) for spec in (*io.inputs, *io.outputs)}
            for buffer in self._buffers.values():
                stack.callback(buffer.free)
            stack.callback(self._drop_graph)
            self._context = new_context(loaded, cuda)
            stack.callback(self._drop_context)
            stack.callback(self._settle)
            self._resources = stack.pop_all()

    def prepare(self, feed: Mapping[str, Array], profile: int) -> None:
        """Get ready for a run on these arrays.

        Args:
            feed: Arrays by input name, in the inputs' types, of shapes that the profile allows.
            profile: The index of the optimization profile.

        Raises:
            DeviceError: The memory does not suffice.
            EngineError: TensorRT refuses the shapes.
        """
        state = (profile, {name: array.shape for name, array in feed.items()})
        changed = state != self._state
        if changed:
            self._state = None
            self._set_shapes(profile, feed)
        for name, array in feed.items():
            np.copyto(self._buffers[name].view(array.dtype, array.shape), array)
        if changed and self._wants_graph:
            self.no_graph = self._captured()
        self._state = state

    def copy_in(self) -> None:
        """Give the stream the copies of the inputs to the device."""
        for spec in self._io.inputs:
            self._buffers[spec.name].copy_in(self.stream)

    def launch(self) -> None:
        """Give the stream the engine's work.

        Raises:
            EngineError: TensorRT refuses.
            DeviceError: An output whose size the data decide does not fit in the GPU's memory.
        """
        if self._graph is not None:
            self._graph.launch(self.stream)
        else:
            self._enqueue()

    def copy_out(self) -> None:
        """Give the stream the copies of the outputs to the host."""
        for spec in self._io.outputs:
            if spec.name in self._allocators:
                self._shapes[spec.name] = self._allocators[spec.name].shape
            self._buffers[spec.name].copy_out(_bytes(spec, self._shapes[spec.name]), self.stream)

    def finish(self) -> dict[str, Array]:
        """Wait for the stream; give the outputs by name, in arrays of their own.

        Raises:
            DeviceError: The work failed on the device.
        """
        self.stream.synchronize()
        return {
            spec.name: self._buffers[spec.name].view(spec.dtype, self._shapes[spec.name]).copy()
            for spec in self._io.outputs
        }

    def run(self, feed: Mapping[str, Array], profile: int) -> dict[str, Array]:
        """All of it: outputs by name, for arrays by input name; arguments and errors as the steps have them."""
        self.prepare(feed, profile)
        self.copy_in()
        self.launch()
        self.copy_out()
        return self.finish()

    def close(self) -> None:
        """Free the context, the stream and all memory; the second time nothing happens."""
        self._resources.close()

    def _set_shapes(self, profile: int, feed: Mapping[str, Array]) -> None:
        self._drop_graph()
        said: Log = []
        with listening(self._loaded.trt, said):
            self._choose_profile(profile, said)
            for name, array in feed.items():
                if not self._context.set_input_shape(name, array.shape):
                    sizes = "x".join(map(str, array.shape))
                    raise EngineError(f"{self._loaded.path} refuses {name}:{sizes}: {first_error(said)}")
                self._buffers[name].reserve(array.nbytes)
            for spec in self._io.outputs:
                self._place(spec)
            for name, buffer in self._buffers.items():
                if not self._context.set_tensor_address(name, buffer.address):
                    raise EngineError(f"{self._loaded.path} takes no memory for {name}: {first_error(said)}")

    def _choose_profile(self, profile: int, said: Log) -> None:
        if self._context.active_optimization_profile == profile:
            return
        if not self._context.set_optimization_profile_async(profile, self.stream.handle):
            raise EngineError(
                f"{self._loaded.path} does not let go of its optimization profile {profile}: {first_error(said)}; "
                "TensorRT before 10 shares none between streams: use one stream"
            )
        self.stream.synchronize()

    def _place(self, spec: TensorSpec) -> None:
        """Give an output its memory, or the allocator that will when the data have decided its size."""
        shape = tuple(self._context.get_tensor_shape(spec.name))
        buffer = self._buffers[spec.name]
        self._shapes[spec.name] = shape
        if -1 not in shape:
            buffer.reserve(_bytes(spec, shape), on_host=spec.name in self._io.on_host)
        elif spec.name not in self._allocators:
            buffer.reserve(0)
            self._allocators[spec.name] = output_allocator(self._loaded.trt, buffer)
            self._context.set_output_allocator(spec.name, self._allocators[spec.name])

    def _enqueue(self) -> None:
        said: Log = []
        for allocator in self._allocators.values():
            allocator.error = None
        with listening(self._loaded.trt, said):
            done = self._context.execute_async_v3(self.stream.handle)
        for allocator in self._allocators.values():
            if allocator.error is not None:
                raise allocator.error
        if not done:
            reason = first_error(said)
            kind = DeviceError if is_out_of_memory(reason) else EngineError
            raise kind(f"{self._loaded.path} does not run: {reason}")

    def _captured(self) -> str:
        """Run once, then capture; why that cannot be, else nothing."""
        if self._allocators:
            return f"the data decide the size of output {min(self._allocators)}"
        self.copy_in()
        self._enqueue()
        self.stream.synchronize()
        capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT for RTX has it.
        if capturable is not None and not capturable(self.stream.handle):
            return "TensorRT says that this engine cannot be captured"
        self.stream.begin_capture()
        try:
            self._enqueue()
        except EngineError as error:
            self._abandon_capture()
            return str(error)
        except BaseException:
            self._abandon_capture()
            raise
        try:
            self._graph = self.stream.end_capture()
        except DeviceError as error:
            return str(error)
        return ""

    def _abandon_capture(self) -> None:
        with suppress(DeviceError):  # what failed has spoilt the capture
            self.stream.end_capture().free()

    def _settle(self) -> None:
        """Let the stream end what an error or Ctrl-C has left it with: memory in use must not be freed."""
        with suppress(DeviceError):
            self.stream.synchronize()

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.free()
        self._graph = None

    def _drop_context(self) -> None:
        self._context = None
        self._allocators.clear()


def _bytes(spec: TensorSpec, shape: Shape) -> int:
    return math.prod(shape) * spec.dtype.itemsize
