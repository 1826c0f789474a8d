"""The world's runtime, engines and execution contexts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.contract import calls
from tests.contract.doubles import Live, give, spec_of

if TYPE_CHECKING:
    from tests.contract.world import World

Shape = tuple[int, ...]


@dataclass(frozen=True)
class EngineTensor:
    """An input or an output of an engine; `mode` is "input" or "output", `profile` smallest, best and largest shape."""

    name: str
    mode: str
    shape: Shape
    dtype: Any
    profile: tuple[Shape, ...] | None = None

    def within(self) -> tuple[Shape, ...]:
        """The smallest, best and largest shape of an input."""
        assert self.mode == "input", f"{self.name} is an output: only inputs have profiles"
        return self.profile or (self.shape,) * 3


class HostMemory(bytes):
    """Stands for IHostMemory: a buffer, with what the class has besides; everything else of `bytes` is refused."""

    kind: Any
    data_type: Any

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") and name != "__class__":
            return super().__getattribute__(name)
        kind = type(self).kind
        if name == "__class__":
            return kind
        if not hasattr(kind, name):
            raise AttributeError(f"'{kind.__name__}' object has no attribute '{name}'")
        return {"nbytes": len(self), "dtype": type(self).data_type}[name]


def host_memory(trt: Any, data: bytes) -> Any:
    """What TensorRT gives where it gives bytes."""
    kind = type("HostMemory", (HostMemory,), {"kind": trt.IHostMemory, "data_type": trt.int8})
    return kind(data)


@dataclass
class _State:
    """What a context was told."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    allocators: dict[str, Any] = field(default_factory=dict)


class Running:
    """Makes the doubles that run an engine; what happens is kept in the world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.trt = world.trt
        self.logger: Any = None

    def runtime(self, logger: Any) -> Any:
        """`trt.Runtime(logger)`."""
        self.logger = logger
        runtime = spec_of(self.trt.Runtime)
        give(runtime, lenient=True, logger=logger, engine_host_code_allowed=False, DLA_core=-1, max_threads=1)
        runtime.deserialize_cuda_engine.side_effect = self._deserialized
        self.world.runtimes.append(runtime)
        return runtime

    def _deserialized(self, serialized_engine: Any) -> Any:
        world = self.world
        if bytes(serialized_engine) != world.plan:
            world.log(self.logger, "ERROR", "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed")
            return None
        return self._engine()

    def _engine(self) -> Any:
        world, trt = self.world, self.trt
        engine = spec_of(trt.ICudaEngine)
        tensors = {tensor.name: tensor for tensor in world.engine_tensors}
        give(
            engine,
            lenient=True,
            num_io_tensors=len(tensors),
            num_optimization_profiles=1,
            num_layers=1,
            name="network",
            device_memory_size=1024,
            device_memory_size_v2=1024,
            refittable=False,
            hardware_compatibility_level=trt.HardwareCompatibilityLevel.NONE,
            profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
            num_aux_streams=0,
            error_recorder=None,
        )
        engine.get_tensor_name.side_effect = lambda index: list(tensors)[index]
        engine.get_tensor_mode.side_effect = lambda name: getattr(trt.TensorIOMode, tensors[name].mode.upper())
        engine.get_tensor_shape.side_effect = lambda name: trt.Dims(tensors[name].shape)
        engine.get_tensor_dtype.side_effect = lambda name: tensors[name].dtype
        engine.get_tensor_location.side_effect = lambda name: trt.TensorLocation.DEVICE
        engine.get_tensor_format.side_effect = lambda name, profile_index=0: trt.TensorFormat.LINEAR
        engine.get_tensor_vectorized_dim.side_effect = lambda name, profile_index=0: -1
        engine.get_tensor_components_per_element.side_effect = lambda name, profile_index=0: -1
        engine.get_tensor_profile_shape.side_effect = lambda name, profile_index: [
            trt.Dims(shape) for shape in tensors[name].within()
        ]
        engine.is_shape_inference_io.return_value = False
        engine.serialize.side_effect = lambda: host_memory(trt, world.plan or b"")
        engine.create_execution_context.side_effect = lambda *strategy: self._context(engine, tensors)
        engine.create_engine_inspector.side_effect = self._inspector
        world.engines.append(engine)
        return engine

    def _inspector(self) -> Any:
        inspector = spec_of(self.trt.EngineInspector)
        inspector.get_engine_information.side_effect = lambda format: self.world.information
        return inspector

    def _context(self, engine: Any, tensors: dict[str, EngineTensor]) -> Any:
        world, trt = self.world, self.trt
        if world.memory_lacks:
            world.log(self.logger, "ERROR", "OutOfMemory: no memory for the execution context")
            return None
        state = _State()
        context = spec_of(trt.IExecutionContext)

        def set_input_shape(name: str, shape: Sequence[int]) -> bool:
            low, _, high = tensors[name].within()
            if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
                world.log(self.logger, "ERROR", f"setInputShape: {name} {tuple(shape)} is not within the profile")
                return False
            state.shapes[name] = tuple(shape)
            return True

        def set_tensor_address(name: str, memory: int) -> bool:
            state.addresses[name] = int(memory)
            return name in tensors

        def set_output_allocator(name: str, output_allocator: Any) -> bool:
            state.allocators[name] = output_allocator
            return name in tensors and tensors[name].mode == "output"

        def shapes() -> dict[str, Shape]:
            return self._shapes(tensors, state)

        give(
            context,
            lenient=True,
            engine=engine,
            name="",
            active_optimization_profile=0,
            all_binding_shapes_specified=Live(lambda: all(-1 not in shape for shape in shapes().values())),
            enqueue_emits_profile=True,
            error_recorder=None,
        )
        context.set_input_shape.side_effect = set_input_shape
        context.get_tensor_shape.side_effect = lambda name: trt.Dims(shapes()[name])
        context.set_tensor_address.side_effect = set_tensor_address
        context.get_tensor_address.side_effect = lambda name: state.addresses.get(name, 0)
        context.set_output_allocator.side_effect = set_output_allocator
        context.infer_shapes.side_effect = lambda: [
            name for name, shape in shapes().items() if tensors[name].mode == "input" and -1 in shape
        ]
        context.execute_async_v3.side_effect = lambda stream_handle: self._execute(tensors, state, stream_handle)
        for absent in ("execute", "execute_v2", "execute_async", "execute_async_v2"):
            if hasattr(trt.IExecutionContext, absent):
                error = AssertionError(f"the world does not know IExecutionContext.{absent}")
                getattr(context, absent).side_effect = error
        world.contexts.append(context)
        return context

    def _shapes(self, tensors: dict[str, EngineTensor], state: _State) -> dict[str, Shape]:
        """Of everything, as far as it is known: -1 elsewhere."""
        shapes = {name: state.shapes.get(name, tensor.shape) for name, tensor in tensors.items()}
        inputs = {name: shape for name, shape in shapes.items() if tensors[name].mode == "input"}
        if any(-1 in shape for shape in inputs.values()):
            return shapes
        if self.world.output_shapes is not None:
            return shapes | {name: tuple(shape) for name, shape in self.world.output_shapes(inputs).items()}
        batch = next(iter(inputs.values()))[0] if inputs else 1
        return {name: tuple(batch if size == -1 else size for size in shape) for name, shape in shapes.items()}

    def _execute(self, tensors: dict[str, EngineTensor], state: _State, stream: int) -> bool:
        world = self.world
        shapes = self._shapes(tensors, state)
        for name, tensor in tensors.items():
            dynamic_input = tensor.mode == "input" and -1 in tensor.shape and name not in state.shapes
            if dynamic_input or (not state.addresses.get(name) and name not in state.allocators):
                world.log(self.logger, "ERROR", f"enqueueV3: the shape or the address of {name} is not set")
                return False
        addresses = dict(state.addresses)
        for name, allocator in state.allocators.items():
            size = _volume(shapes[name]) * int(tensors[name].dtype.itemsize)
            addresses[name] = calls.reallocate_output(allocator, name, addresses.get(name, 0), size, stream)
            calls.notify_shape(allocator, name, shapes[name])
            if not addresses[name] and size:
                world.log(self.logger, "ERROR", f"enqueueV3: the allocator of {name} gave no memory")
                return False
        if world.compute is not None:
            world.compute(addresses, shapes, stream)
        return True


def _volume(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
