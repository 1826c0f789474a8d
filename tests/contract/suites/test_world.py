"""The world builds, calibrates and runs as TensorRT does, and refuses what TensorRT refuses."""

from typing import Any

import pytest

from tests.contract.world import World
from tests.engines.networks import classifier

SHAPES = ((1, 3, 16, 16), (4, 3, 16, 16), (8, 3, 16, 16))


@pytest.fixture
def said(trt: Any) -> list[tuple[Any, str]]:
    return []


@pytest.fixture
def logger(trt: Any, said: list[tuple[Any, str]]) -> Any:
    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            said.append((severity, message))

    return Logger()


def parsed(trt: Any, logger: Any, flags: int | None = None) -> tuple[Any, Any, Any]:
    """A builder, a network with the small classifier, and a config."""
    builder = trt.Builder(logger)
    if flags is None:
        explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        flags = 1 << int(explicit) if explicit is not None else 0
    network = builder.create_network(flags)
    assert trt.OnnxParser(network, logger).parse(classifier().SerializeToString())
    return builder, network, builder.create_builder_config()


def add_profile(builder: Any, config: Any) -> Any:
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *SHAPES)
    assert config.add_optimization_profile(profile) == 0
    return profile


def calibrator_of(trt: Any, batches: int, cache: bytes | None = None) -> Any:
    class Calibrator(trt.IInt8MinMaxCalibrator):
        def __init__(self) -> None:
            trt.IInt8MinMaxCalibrator.__init__(self)
            self.left = batches
            self.cache = cache

        def get_batch_size(self) -> int:
            return 4

        def get_batch(self, names: list[str]) -> Any:
            self.left -= 1
            return [4096] * len(names) if self.left >= 0 else None

        def read_calibration_cache(self) -> bytes | None:
            return self.cache

        def write_calibration_cache(self, cache: memoryview) -> None:
            self.cache = bytes(cache)

    return Calibrator()


def needs_calibrators(trt: Any) -> None:
    if not hasattr(trt, "IInt8Calibrator"):
        pytest.skip(f"TensorRT {trt.__version__} has no calibrators")


def test_a_whole_build_and_a_run(trt: Any, world: World, logger: Any, said: list[Any]) -> None:
    builder, network, config = parsed(trt, logger)
    assert (network.num_inputs, network.get_input(0).name, tuple(network.get_input(0).shape)) == (
        1,
        "image",
        (-1, 3, 16, 16),
    )
    assert network.num_layers == len(classifier().graph.node)
    add_profile(builder, config)
    config.set_flag(trt.BuilderFlag.TF32)
    world.says = [(trt.ILogger.WARNING, "slow")]
    plan = builder.build_serialized_network(network, config)
    assert bytes(plan) == bytes(memoryview(plan)) == world.plan
    assert isinstance(plan, trt.IHostMemory)
    assert plan.nbytes == len(world.plan or b"")
    assert world.flags == {trt.BuilderFlag.TF32}
    assert world.profiles[0].shapes == {"image": SHAPES}
    assert said == [(trt.ILogger.WARNING, "slow")]

    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == ["image", "scores"]
    assert [engine.get_tensor_mode(name) for name in names] == [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT]
    assert [tuple(shape) for shape in engine.get_tensor_profile_shape("image", 0)] == list(SHAPES)
    context = engine.create_execution_context()
    assert not context.execute_async_v3(5)
    assert not context.set_input_shape("image", (9, 3, 16, 16))
    assert context.set_input_shape("image", (2, 3, 16, 16))
    assert tuple(context.get_tensor_shape("scores")) == (2, 16)
    context.set_tensor_address("image", 256)
    context.set_tensor_address("scores", 512)
    ran: list[Any] = []
    world.compute = lambda *arguments: ran.append(arguments)
    assert context.execute_async_v3(5)
    assert ran == [({"image": 256, "scores": 512}, {"image": (2, 3, 16, 16), "scores": (2, 16)}, 5)]


def test_old_names_are_not_there(trt: Any, world: World, logger: Any, major: int) -> None:
    builder, network, config = parsed(trt, logger)
    if major > 8:
        with pytest.raises(AttributeError, match="build_engine"):
            builder.build_engine(network, config)
        with pytest.raises(AttributeError, match="max_workspace_size"):
            config.max_workspace_size = 1
    if major > 10:
        with pytest.raises(AttributeError, match="int8_calibrator"):
            config.int8_calibrator = None
        with pytest.raises(AttributeError, match="precision"):
            network.get_layer(0).precision = trt.float16


def test_a_dynamic_input_needs_a_profile(trt: Any, world: World, logger: Any, said: list[Any]) -> None:
    builder, network, config = parsed(trt, logger)
    assert builder.build_serialized_network(network, config) is None
    assert "no optimization profile" in said[-1][1]


def test_profiles_have_an_order(trt: Any, world: World, logger: Any) -> None:
    profile = trt.Builder(logger).create_optimization_profile()
    with pytest.raises(ValueError, match="inconsistent"):
        profile.set_shape("image", *reversed(SHAPES))


def test_a_build_that_fails_gives_none(trt: Any, world: World, logger: Any) -> None:
    builder, network, config = parsed(trt, logger)
    add_profile(builder, config)
    world.plan = None
    assert builder.build_serialized_network(network, config) is None


def test_what_the_parser_refuses(trt: Any, world: World, logger: Any, major: int) -> None:
    flags = int(major == 8)
    world.parser_errors = [world.parser_error("no such operator", node_name="conv1", node_operator="Conv")]
    parser = trt.OnnxParser(trt.Builder(logger).create_network(flags), logger)
    assert not parser.parse(classifier().SerializeToString())
    assert parser.num_errors == 1
    assert parser.get_error(0).desc() == "no such operator"
    assert parser.get_error(0).code() == trt.ErrorCode.UNSUPPORTED_NODE
    if hasattr(trt.ParserError, "node_name"):
        assert parser.get_error(0).node_name() == "conv1"
    world.parser_errors = []
    other = trt.OnnxParser(trt.Builder(logger).create_network(flags), logger)
    assert not other.parse(b"no model")
    assert not other.parse_from_file("/no/such/file.onnx")
    assert other.num_errors == 2


def test_the_parser_of_8_needs_an_explicit_batch(trt: Any, world: World, logger: Any, major: int) -> None:
    parser = trt.OnnxParser(trt.Builder(logger).create_network(), logger)
    assert parser.parse(classifier().SerializeToString()) == (major > 8)


def test_the_progress_monitor_can_stop_a_build(trt: Any, world: World, logger: Any) -> None:
    if not hasattr(trt, "IProgressMonitor"):
        pytest.skip(f"TensorRT {trt.__version__} has no progress monitor")
    heard: list[str] = []

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            heard.append(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return goes_on

    builder, network, config = parsed(trt, logger)
    add_profile(builder, config)
    config.progress_monitor = Monitor()
    goes_on = True
    assert builder.build_serialized_network(network, config) is not None
    assert heard == [name for name, _ in world.phases]
    goes_on = False
    assert builder.build_serialized_network(network, config) is None


def test_calibration(trt: Any, world: World, logger: Any) -> None:
    needs_calibrators(trt)
    builder, network, config = parsed(trt, logger)
    profile = add_profile(builder, config)
    config.set_calibration_profile(profile)
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator = calibrator_of(trt, 2)
    seen: list[Any] = []
    world.on_batch = lambda names, addresses: seen.append((names, addresses))
    assert builder.build_serialized_network(network, config) is not None
    before = ["get_algorithm", "get_batch_size", "read_calibration_cache"]
    assert world.calibrated == [*before, "get_batch", "get_batch", "get_batch", "write_calibration_cache"]
    assert seen == [(["image"], [4096])] * 2
    assert calibrator.cache.startswith(b"TRT-")
    assert b"-MinMaxCalibration\nimage: 3c010a14\n" in calibrator.cache

    world.calibrated.clear()
    config.int8_calibrator = calibrator_of(trt, 2, calibrator.cache)
    assert builder.build_serialized_network(network, config) is not None
    assert world.calibrated == before

    world.calibrated.clear()
    config.int8_calibrator = calibrator_of(trt, 2, b"TRT-7000-MinMaxCalibration\nimage: 3c010a14\n")
    assert builder.build_serialized_network(network, config) is not None
    assert world.calibrated.count("get_batch") == 3


def test_int8_needs_something_to_take_ranges_from(trt: Any, world: World, logger: Any, said: list[Any]) -> None:
    needs_calibrators(trt)
    builder, network, config = parsed(trt, logger)
    add_profile(builder, config)
    config.set_flag(trt.BuilderFlag.INT8)
    assert builder.build_serialized_network(network, config) is None
    assert "no scaling factors" in said[-1][1]
    config.int8_calibrator = calibrator_of(trt, 0)
    assert builder.build_serialized_network(network, config) is None
    assert "no scaling factors" in said[-1][1]


def test_a_strongly_typed_network_takes_no_precision_flags(trt: Any, world: World, logger: Any) -> None:
    if not hasattr(trt.BuilderFlag, "FP16") or not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        pytest.skip(f"TensorRT {trt.__version__} has not both")
    builder, network, config = parsed(trt, logger, 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    add_profile(builder, config)
    assert builder.build_serialized_network(network, config) is not None
    config.set_flag(trt.BuilderFlag.FP16)
    assert builder.build_serialized_network(network, config) is None


def test_flags_are_bits(trt: Any, world: World, logger: Any) -> None:
    _, _, config = parsed(trt, logger)
    config.flags = 1 << int(trt.BuilderFlag.TF32)
    assert config.get_flag(trt.BuilderFlag.TF32)
    config.set_flag(flag=trt.BuilderFlag.SPARSE_WEIGHTS)
    assert config.flags == 1 << int(trt.BuilderFlag.TF32) | 1 << int(trt.BuilderFlag.SPARSE_WEIGHTS)
    config.clear_flag(trt.BuilderFlag.TF32)
    assert world.flags == {trt.BuilderFlag.SPARSE_WEIGHTS}


def test_a_timing_cache_grows_with_a_build(trt: Any, world: World, logger: Any) -> None:
    builder, network, config = parsed(trt, logger)
    add_profile(builder, config)
    assert config.set_timing_cache(config.create_timing_cache(b"tactics"), ignore_mismatch=False)
    assert world.timing_cache == b"tactics"
    builder.build_serialized_network(network, config)
    assert bytes(config.get_timing_cache().serialize()) == b"tactics and a tactic"


def test_precisions_of_layers(trt: Any, world: World, logger: Any) -> None:
    if not hasattr(trt.ILayer, "precision"):
        pytest.skip(f"TensorRT {trt.__version__} has no precisions of layers")
    _, network, _ = parsed(trt, logger)
    layer = network.get_layer(0)
    assert layer.type == trt.LayerType.CONVOLUTION
    assert layer.get_input(0) is network.get_input(0)
    assert not layer.precision_is_set
    layer.precision = trt.float16
    layer.set_output_type(0, trt.float16)
    assert (layer.precision, layer.precision_is_set, layer.get_output_type(0)) == (trt.float16, True, trt.float16)
    layer.reset_precision()
    assert not layer.precision_is_set


def test_constructors_are_checked(trt: Any, world: World, logger: Any) -> None:
    for maker in (trt.Builder, trt.Runtime):
        with pytest.raises(TypeError):
            maker()
        with pytest.raises(TypeError):
            maker(print)
    with pytest.raises(TypeError):
        trt.OnnxParser(logger, logger)
    assert isinstance(trt.Builder(logger), trt.Builder)
    assert hasattr(trt.Builder, "build_serialized_network")
    assert not hasattr(trt.Builder, "build_cuda_engine")


def test_engines_of_something_else_and_no_memory(trt: Any, world: World, logger: Any, said: list[Any]) -> None:
    runtime = trt.Runtime(logger)
    assert runtime.deserialize_cuda_engine(b"something else") is None
    assert said[-1][0] == trt.ILogger.ERROR
    world.engine_tensors = [world.tensor("x", "input", (1, 3), trt.float32)]
    world.memory_lacks = True
    assert runtime.deserialize_cuda_engine(world.plan).create_execution_context() is None
