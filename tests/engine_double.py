"""An engine that runs in Python on `tests.host_cuda`, behind doubles of TensorRT's real classes of one version.

It keeps TensorRT's rules, and fails where they are broken: every tensor has an address, shapes are inside the active
profile and set before the run, and a context has run with its shapes before it is captured.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import PropertyMock, create_autospec

import numpy as np

from tests.host_cuda import HostCuda

Arrays = Mapping[str, np.ndarray]


@dataclass
class Tensor:
    """An input or output; `profiles` holds (minimum, optimum, maximum) by profile."""

    name: str
    mode: str
    shape: tuple[int, ...]
    dtype: str = "FLOAT"
    profiles: Sequence[tuple[tuple[int, ...], ...]] = ()
    location: str = "DEVICE"
    format: str = "LINEAR"
    is_shape: bool = False


NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT64": np.int64,
}


REAL: dict[ModuleType, type] = {}
"""The real `Runtime` of each module, also while a test has put another in its place."""


def autospec(kind: type, **values: Any) -> Any:
    """A mock of an instance of `kind` that has nothing else; a callable among `values` is asked at each reading."""
    double = create_autospec(kind, instance=True, spec_set=True)
    for name, value in values.items():
        setattr(
            type(double), name, PropertyMock(side_effect=value) if callable(value) else PropertyMock(return_value=value)
        )
    return double


def doubling(**options: Any) -> "EngineDouble":
    """y = 2 x for x of 1 to 4 samples of 3 numbers."""
    tensors = [
        Tensor("x", "INPUT", (-1, 3), profiles=[((1, 3), (2, 3), (4, 3))]),
        Tensor("y", "OUTPUT", (-1, 3)),
    ]
    return EngineDouble(tensors, lambda feed: {"y": 2 * feed["x"]}, lambda shapes: {"y": shapes["x"]}, **options)


@dataclass
class EngineDouble:
    """What an engine is and does.

    Attributes:
        tensors: Inputs and outputs.
        compute: Outputs for inputs.
        infer: Shapes of outputs for shapes of inputs; -1 where the data decide.
        data: The serialized engine; anything else does not load.
        says: What TensorRT logs while it loads something, as (name of the severity, message).
        loads: Whether it loads `data`.
        runtime: Whether there is a `Runtime` at all.
        contexts: How many contexts there is memory for.
        shares_profiles: Whether two contexts can have one profile, as since TensorRT 10.
        kernel_time: Milliseconds of the device's clock that a run takes.
        capturable: What `is_stream_capturable` says.
        fails: What TensorRT logs while it fails to run; empty: it runs.
        spec: Makes a double of an instance of a class, with values of properties, callables among them for live ones.
        reallocate: How an output allocator is asked for memory; by default in Python, not through its C++ class.
        notify: How it is told a shape.
    """

    tensors: Sequence[Tensor]
    compute: Callable[[Arrays], Arrays]
    infer: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, tuple[int, ...]]]
    data: bytes = b"an engine"
    says: Sequence[tuple[str, str]] = ()
    loads: bool = True
    runtime: bool = True
    contexts: int = 99
    shares_profiles: bool = True
    kernel_time: float = 1.0
    capturable: bool = True
    fails: str = ""
    spec: Callable[..., Any] = autospec
    reallocate: Callable[[Any, str, int, int, int], int] = lambda allocator, name, address, size, stream: (
        allocator.reallocate_output_async(name, address, size, 256, stream)
    )
    notify: Callable[[Any, str, tuple[int, ...]], None] = lambda allocator, name, shape: allocator.notify_shape(
        name, shape
    )
    cuda: HostCuda = field(default_factory=HostCuda)
    made: list[Any] = field(default_factory=list)
    runtimes: list[Any] = field(default_factory=list)
    others: list["EngineDouble"] = field(default_factory=list)
    enqueued: list[dict[str, tuple[int, ...]]] = field(default_factory=list)

    def install(self, trt: ModuleType, monkeypatch: Any) -> "EngineDouble":
        """Let `trt.Runtime` be this engine's, and `calibrators.cuda.device.open_cuda` its GPU, for one test."""
        self.trt = trt
        self.kind = REAL.setdefault(trt, trt.Runtime)
        monkeypatch.setattr(trt, "Runtime", self._runtime)
        for module in ("engines.sessions.tensorrt", "engines.sessions.runtime"):
            monkeypatch.setattr(f"{module}.open_cuda", lambda: self.cuda)
        return self

    def add(self, other: "EngineDouble") -> None:
        """Another engine on the same GPU, in the same TensorRT; its data differ."""
        other.trt, other.kind, other.cuda, other.logger = self.trt, self.kind, self.cuda, None
        self.others.append(other)

    def of_mode(self, mode: str) -> list[Tensor]:
        return [tensor for tensor in self.tensors if tensor.mode == mode]

    def _runtime(self, logger: Any) -> Any:
        self.logger = logger
        if not self.runtime:
            self._log(self.says)
            raise TypeError("pybind11::init(): factory function returned nullptr")
        runtime = self.spec(self.kind, engine_host_code_allowed=False)
        runtime.deserialize_cuda_engine.side_effect = self._deserialize
        for other in self.others:
            other.logger = logger
        self.runtimes.append(runtime)
        return runtime

    def _log(self, says: Sequence[tuple[str, str]]) -> None:
        for severity, message in says:
            self.logger.log(getattr(self.trt.ILogger, severity), message)

    def _deserialize(self, data: bytes) -> Any:
        for other in self.others:
            if data == other.data:
                return other._deserialize(data)
        self._log(self.says)
        if not self.loads or data != self.data:
            return None
        trt, by_name = self.trt, {tensor.name: tensor for tensor in self.tensors}
        profiles = max((len(tensor.profiles) for tensor in self.tensors), default=0) or 1
        size = "device_memory_size_v2" if hasattr(trt.ICudaEngine, "device_memory_size_v2") else "device_memory_size"
        engine = self.spec(
            trt.ICudaEngine,
            num_io_tensors=len(self.tensors),
            num_optimization_profiles=profiles,
            **{size: 3 * 2**20},
        )
        engine.get_tensor_name.side_effect = lambda index: self.tensors[index].name
        engine.get_tensor_mode.side_effect = lambda name: getattr(trt.TensorIOMode, by_name[name].mode)
        engine.get_tensor_shape.side_effect = lambda name: trt.Dims(by_name[name].shape)
        engine.get_tensor_dtype.side_effect = lambda name: getattr(trt.DataType, by_name[name].dtype)
        engine.get_tensor_format.side_effect = lambda name: getattr(trt.TensorFormat, by_name[name].format)
        engine.get_tensor_location.side_effect = lambda name: getattr(trt.TensorLocation, by_name[name].location)
        engine.is_shape_inference_io.side_effect = lambda name: by_name[name].is_shape
        engine.get_tensor_profile_shape.side_effect = lambda name, index: [
            trt.Dims(shape) for shape in by_name[name].profiles[index]
        ]
        engine.create_execution_context.side_effect = lambda *strategy: self._context()
        return engine

    def _context(self) -> Any:
        if len(self.made) >= self.contexts:
            self._log([("ERROR", "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (none)")])
            return None
        context = ContextDouble(self, first=not self.made)
        self.made.append(context)
        return context.double


class ContextDouble:
    """One of its execution contexts."""

    def __init__(self, engine: EngineDouble, *, first: bool) -> None:
        self.engine = engine
        self.profile = 0 if first or engine.shares_profiles else -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.ran_with: object = None
        trt = engine.trt
        self.double = engine.spec(trt.IExecutionContext, active_optimization_profile=lambda: self.profile)
        self.double.set_optimization_profile_async.side_effect = self.choose
        self.double.set_input_shape.side_effect = self.set_shape
        self.double.get_tensor_shape.side_effect = lambda name: trt.Dims(self.all_shapes()[name])
        self.double.set_tensor_address.side_effect = self.set_address
        self.double.set_output_allocator.side_effect = self.set_allocator
        self.double.execute_async_v3.side_effect = self.execute
        if hasattr(trt.IExecutionContext, "is_stream_capturable"):
            self.double.is_stream_capturable.side_effect = lambda handle: engine.capturable

    def choose(self, profile: int, handle: int) -> bool:
        taken = {other.profile for other in self.engine.made if other is not self}
        if profile in taken and not self.engine.shares_profiles:
            message = f"Profile {profile} has been chosen by another IExecutionContext. Use another profileIndex."
            self.engine._log([("ERROR", message)])
            return False
        self.engine.cuda.streams[handle].give(lambda: None)
        self.profile, self.shapes = profile, {}
        return True

    def set_shape(self, name: str, shape: Any) -> bool:
        (tensor,) = (each for each in self.engine.of_mode("INPUT") if each.name == name)
        shape = tuple(shape)
        fits = shape == tensor.shape
        if tensor.profiles:
            low, _, high = tensor.profiles[self.profile]
            fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if not fits:
            self.engine._log([("ERROR", f"Set dimension {shape} for tensor {name} does not satisfy any profile.")])
            return False
        self.shapes[name] = shape
        return True

    def all_shapes(self) -> dict[str, tuple[int, ...]]:
        return {**self.shapes, **self.engine.infer(self.shapes)}

    def set_address(self, name: str, address: int) -> bool:
        assert address, f"{name} gets no address"
        self.addresses[name] = address
        return True

    def set_allocator(self, name: str, allocator: Any) -> bool:
        assert isinstance(allocator, self.engine.trt.IOutputAllocator)
        self.allocators[name] = allocator
        return True

    def execute(self, handle: int) -> bool:
        engine, stream = self.engine, self.engine.cuda.streams[handle]
        inputs, outputs = engine.of_mode("INPUT"), engine.of_mode("OUTPUT")
        assert {each.name for each in engine.tensors} <= set(self.addresses), "a tensor has no address"
        assert {each.name for each in inputs} <= set(self.shapes), "an input has no shape"
        state = (self.profile, dict(self.shapes), dict(self.addresses))
        if stream.captured is not None:
            assert self.ran_with == state, "captured without a run before it"
        if engine.fails:
            engine._log([("ERROR", engine.fails)])
            return False
        self.ran_with = state
        engine.enqueued.append(dict(self.shapes))
        shapes, addresses = self.all_shapes(), dict(self.addresses)

        def results() -> dict[str, np.ndarray]:
            feed = {}
            for each in inputs:
                dtype = np.dtype(NUMPY[each.dtype])
                size = math.prod(shapes[each.name]) * dtype.itemsize
                data = engine.cuda.at(addresses[each.name], size)
                feed[each.name] = data.view(dtype).reshape(shapes[each.name]).copy()
            given = engine.compute(feed)
            return {each.name: np.ascontiguousarray(given[each.name], NUMPY[each.dtype]) for each in outputs}

        def work() -> None:
            for name, value in results().items():
                if name not in self.allocators:
                    assert value.shape == shapes[name]
                    engine.cuda.at(addresses[name], value.nbytes)[:] = value.reshape(-1).view(np.uint8)
            engine.cuda.clock += engine.kernel_time

        if self.allocators:  # TensorRT waits for the sizes before it returns.
            assert stream.captured is None, "memory is asked for in a capture"
            stream.synchronize()
            for name, value in results().items():
                if name in self.allocators and not self.hand_over(name, value, handle):
                    return False
        stream.give(work)
        return True

    def hand_over(self, name: str, value: np.ndarray, handle: int) -> bool:
        """As TensorRT fills an output whose size the data decide."""
        allocator = self.allocators[name]
        address = self.engine.reallocate(allocator, name, self.addresses[name], value.nbytes, handle)
        if not address:
            self.engine._log([("ERROR", f"The output allocator gave no memory for {name}.")])
            return False
        self.engine.notify(allocator, name, value.shape)
        self.engine.cuda.at(address, value.nbytes)[:] = value.reshape(-1).view(np.uint8)
        return True
