"""The doubles refuse what the real classes refuse."""

from typing import Any

import pytest

from tests.contract.doubles import Live, give, spec_of
from tests.contract.signatures import signatures_of


def test_attributes_that_the_class_lacks_cannot_be_read_or_set(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    with pytest.raises(AttributeError, match=r"IBuilderConfig.*no attribute 'max_batch_size'"):
        _ = config.max_batch_size
    with pytest.raises(AttributeError, match="max_batch_size"):
        config.max_batch_size = 1
    with pytest.raises(AttributeError, match="flag_set"):
        config.flag_set(trt.BuilderFlag.TF32)
    assert not hasattr(config, "max_batch_size")


def test_methods_and_properties_without_a_setter_cannot_be_set(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    with pytest.raises(AttributeError, match="no setter"):
        config.num_optimization_profiles = 1
    with pytest.raises(AttributeError, match="read-only"):
        config.set_flag = None


def test_calls_are_checked_as_pybind11_checks_them(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 20)
    config.set_memory_pool_limit(pool=trt.MemoryPoolType.WORKSPACE, pool_size=1 << 20)
    for arguments, named in [
        ((), {}),
        ((trt.MemoryPoolType.WORKSPACE,), {}),
        ((trt.MemoryPoolType.WORKSPACE, 1, 2), {}),
        ((trt.MemoryPoolType.WORKSPACE, 1.5), {}),
        ((0, 1), {}),
        ((trt.MemoryPoolType.WORKSPACE,), {"size": 1}),
    ]:
        with pytest.raises(TypeError, match="set_memory_pool_limit"):
            config.set_memory_pool_limit(*arguments, **named)
    assert config.set_memory_pool_limit.call_count == 2


def test_the_real_functions_refuse_the_same_calls(trt: Any) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    for arguments, named in [((), {}), ((1, "text"), {}), ((trt.Logger.ERROR,), {}), ((), {"text": "x"})]:
        with pytest.raises(TypeError):
            logger.log(*arguments, **named)
        with pytest.raises(TypeError):
            spec_of(trt.Logger).log(*arguments, **named)


def test_properties_are_checked_when_they_are_set(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    with pytest.raises(TypeError, match="profiling_verbosity"):
        config.profiling_verbosity = 2
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    with pytest.raises(TypeError, match="flags"):
        config.flags = "INT8"


def test_what_nobody_said_is_asked_for(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    with pytest.raises(AssertionError, match=r"IBuilderConfig\.flags"):
        _ = config.flags
    with pytest.raises(AssertionError, match="get_tactic_sources"):
        config.get_tactic_sources()
    with pytest.raises(AssertionError, match="is_device_type_set"):
        config.is_device_type_set(spec_of(trt.ILayer))


def test_what_follows_from_the_signature_needs_no_word(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    assert config.reset() is None
    assert config.set_tactic_sources(0) is True
    assert isinstance(config.create_timing_cache(b""), trt.ITimingCache)


def test_doubles_pass_for_instances(trt: Any) -> None:
    config = spec_of(trt.IBuilderConfig)
    assert isinstance(config, trt.IBuilderConfig)
    builder, network = spec_of(trt.Builder), spec_of(trt.INetworkDefinition)
    builder.build_serialized_network(network, config)
    with pytest.raises(TypeError, match="build_serialized_network"):
        builder.build_serialized_network(config, network)


def test_values_are_given_and_computed(trt: Any) -> None:
    network = spec_of(trt.INetworkDefinition, num_inputs=2)
    assert network.num_inputs == 2
    give(network, num_inputs=Live(lambda: 3))
    assert network.num_inputs == 3
    with pytest.raises(AttributeError):
        give(network, number=1)
    with pytest.raises(AssertionError, match="is a method"):
        give(network, get_input=1)


@pytest.mark.parametrize(
    "kind",
    [
        "Builder",
        "INetworkDefinition",
        "OnnxParser",
        "ParserError",
        "IBuilderConfig",
        "IOptimizationProfile",
        "ITimingCache",
        "Runtime",
        "ICudaEngine",
        "IExecutionContext",
        "EngineInspector",
        "ITensor",
        "ILayer",
    ],
)
def test_every_function_tells_what_it_takes(trt: Any, kind: str) -> None:
    members = {name: value for name, value in vars(getattr(trt, kind)).items() if not name.startswith("_")}
    functions = {
        name: value.fset if isinstance(value, property) else getattr(getattr(trt, kind), name)
        for name, value in members.items()
        if not isinstance(value, property) or value.fset is not None
    }
    assert functions
    found = {name: signatures_of(function) for name, function in functions.items()}
    assert [name for name, signatures in found.items() if not signatures] == []
    unchecked = {kind for signatures in found.values() for signature in signatures for kind in signature.blind()}
    assert unchecked <= {"object", "capsule", "types.CapsuleType", "typing_extensions.CapsuleType"}


def test_properties_of_a_real_object_are_checked_alike(trt: Any) -> None:
    for logger in (trt.Logger(trt.Logger.ERROR), spec_of(trt.Logger)):
        with pytest.raises(TypeError):
            logger.min_severity = 1
        with pytest.raises(AttributeError):
            logger.severity = trt.Logger.ERROR
        logger.min_severity = trt.Logger.INFO
        assert logger.min_severity == trt.Logger.INFO


def test_arguments_that_may_be_left_out(trt: Any) -> None:
    parser = spec_of(trt.OnnxParser)
    assert parser.parse(b"model")
    assert parser.parse(b"model", None)
    assert parser.parse(model=b"model", path="model.onnx")
    with pytest.raises(TypeError, match="parse"):
        parser.parse("model.onnx")
    with pytest.raises(TypeError, match="parse"):
        parser.parse()


def test_sizes_are_tuples_lists_or_dims(trt: Any) -> None:
    context = spec_of(trt.IExecutionContext)
    for shape in ((1, 3), [1, 3], trt.Dims((1, 3))):
        assert context.set_input_shape("x", shape)
    for shape in (3, "13", (1.5, 3)) if len(signatures_of(trt.IExecutionContext.set_input_shape)) == 1 else (3, "13"):
        with pytest.raises(TypeError, match="set_input_shape"):
            context.set_input_shape("x", shape)


def test_types_that_the_signature_names_in_cpp(trt: Any) -> None:
    parser = spec_of(trt.OnnxParser)
    parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    with pytest.raises(TypeError, match="set_flag"):
        parser.set_flag(trt.BuilderFlag.TF32)
