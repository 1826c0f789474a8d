"""What each version of TensorRT has: the differences that the code must handle, read off NVIDIA's own bindings."""

from typing import Any

import pytest

from tests.contract.signatures import signatures_of

COLUMNS = ("8.6.1", "10.0.1", "10.9.0.34", "10.16.1.11", "11.0.0.114", "11.4.0.106")

PRESENT = {
    "calibrators": """
        xxxx.. IInt8Calibrator
        xxxx.. IInt8EntropyCalibrator2
        xxxx.. IInt8MinMaxCalibrator
        xxxx.. IInt8EntropyCalibrator
        xxxx.. IInt8LegacyCalibrator
        xxxx.. CalibrationAlgoType
        xxxx.. IBuilderConfig.int8_calibrator
        xxxx.. IBuilderConfig.set_calibration_profile
        xxxx.. IBuilderConfig.get_calibration_profile
        xxxx.. QuantizationFlag
        """,
    "precision flags": """
        xxxx.. BuilderFlag.INT8
        xxxx.. BuilderFlag.FP16
        .xxx.. BuilderFlag.BF16
        xxxx.. BuilderFlag.OBEY_PRECISION_CONSTRAINTS
        xxxx.. BuilderFlag.PREFER_PRECISION_CONSTRAINTS
        xxxxxx BuilderFlag.TF32
        xxxxxx BuilderFlag.DIRECT_IO
        xxxxxx BuilderFlag.SPARSE_WEIGHTS
        xxxxxx BuilderFlag.VERSION_COMPATIBLE
        """,
    "networks": """
        xxxxxx Builder.create_network
        xxxx.. NetworkDefinitionCreationFlag.EXPLICIT_BATCH
        .xxxxx NetworkDefinitionCreationFlag.STRONGLY_TYPED
        x..... Builder.max_batch_size
        .xxxxx INetworkDefinition.get_flag
        ...xxx IAttentionInputLayer
        ...xxx LayerType.ATTENTION_INPUT
        ...xxx IAttention.decomposable
        """,
    "types of tensors and layers": """
        xxxx.. ITensor.dynamic_range
        xxxx.. ITensor.set_dynamic_range
        xxxx.. ILayer.precision
        xxxx.. ILayer.reset_precision
        xxxx.. ILayer.set_output_type
        xxxxxx ILayer.get_output_type
        .xxxxx DataType.INT64
        """,
    "what the GPU can do": """
        xxxx.. Builder.platform_has_fast_int8
        xxxx.. Builder.platform_has_fast_fp16
        xxxx.. Builder.platform_has_tf32
        """,
    "building": """
        xxxxxx Builder.build_serialized_network
        x..... Builder.build_engine
        ..xxxx Builder.build_engine_with_config
        ...xxx Builder.build_serialized_network_to_stream
        ...... IBuilderConfig.set_compute_capability
        xxxxxx IBuilderConfig.builder_optimization_level
        xxxxxx IBuilderConfig.hardware_compatibility_level
        xxxxxx HardwareCompatibilityLevel.AMPERE_PLUS
        ..xxxx HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        """,
    "workspace": """
        xxxxxx IBuilderConfig.set_memory_pool_limit
        x..... IBuilderConfig.max_workspace_size
        """,
    "progress": """
        .xxxxx IProgressMonitor
        .xxxxx IBuilderConfig.progress_monitor
        """,
    "timing caches": """
        xxxxxx IBuilderConfig.create_timing_cache
        xxxxxx IBuilderConfig.set_timing_cache
        xxxxxx ITimingCache.combine
        ..xxxx BuilderFlag.EDITABLE_TIMING_CACHE
        ..xxxx ITimingCache.queryKeys
        .....x IBuilderConfig.build_route
        """,
    "errors of the parser": """
        xxxxxx OnnxParser.parse
        xxxxxx OnnxParser.parse_from_file
        xxxxxx ParserError.desc
        .xxxxx ParserError.node_name
        .xxxxx ParserError.node_operator
        """,
    "inputs and outputs": """
        x..... ICudaEngine.num_bindings
        x..... ICudaEngine.get_binding_name
        xxxxxx ICudaEngine.num_io_tensors
        xxxxxx ICudaEngine.get_tensor_name
        xxxxxx ICudaEngine.get_tensor_profile_shape
        xxxxxx IExecutionContext.set_input_shape
        xxxxxx IExecutionContext.set_tensor_address
        xxxxxx IExecutionContext.set_output_allocator
        xxxxxx IExecutionContext.infer_shapes
        """,
    "running": """
        xxxxxx IExecutionContext.execute_async_v3
        x..... IExecutionContext.execute_async_v2
        xxxxxx IExecutionContext.execute_v2
        ...... IExecutionContext.is_stream_capturable
        ...xxx ICudaEngine.create_runtime_config
        ...... IRuntimeConfig.cuda_graph_strategy
        """,
    "device memory": """
        xxxx.. ICudaEngine.device_memory_size
        ..xxxx ICudaEngine.device_memory_size_v2
        xxxx.. ICudaEngine.create_execution_context_without_device_memory
        .xxxxx ExecutionContextAllocationStrategy.USER_MANAGED
        """,
    "weight streaming": """
        .xxx.. ICudaEngine.weight_streaming_budget
        ..xxxx ICudaEngine.weight_streaming_budget_v2
        """,
}


def has(trt: Any, path: str) -> bool:
    value = trt
    for name in path.split("."):
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
    return True


@pytest.mark.parametrize("rows", PRESENT.values(), ids=PRESENT)
def test_what_is_there(trt: Any, version: str, rows: str) -> None:
    column = COLUMNS.index(version)
    table = dict(reversed(line.split()) for line in rows.strip().splitlines())
    expected = {path: marks[column] == "x" for path, marks in table.items()}
    assert {path: has(trt, path) for path in table} == expected


def test_the_bits_of_a_network_mean_other_things_in_each_major_version(trt: Any, major: int) -> None:
    values = {name: int(value) for name, value in trt.NetworkDefinitionCreationFlag.__members__.items()}
    assert {name: value for name, value in values.items() if not name.startswith("PREFER_")} == {
        8: {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1},
        10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
        11: {"STRONGLY_TYPED": 0},
    }[major]
    assert values.get("PREFER_JIT_PYTHON_PLUGINS") in {8: (None,), 10: (None, 2), 11: (1,)}[major]


def test_the_bits_of_builder_flags_move(trt: Any, major: int) -> None:
    assert int(trt.BuilderFlag.TF32) == {8: 7, 10: 6, 11: 6}[major]
    assert int(trt.BuilderFlag.VERSION_COMPATIBLE) == {8: 15, 10: 13, 11: 12}[major]


@pytest.mark.parametrize(
    "path, parameters",
    [
        ("IBuilderConfig.set_timing_cache", ["self", "cache", "ignore_mismatch"]),
        ("IBuilderConfig.create_timing_cache", ["self", "serialized_timing_cache"]),
        ("IBuilderConfig.set_memory_pool_limit", ["self", "pool", "pool_size"]),
        ("IOptimizationProfile.set_shape", ["self", "input", "min", "opt", "max"]),
        ("ICudaEngine.get_tensor_profile_shape", ["self", "name", "profile_index"]),
        ("IExecutionContext.set_input_shape", ["self", "name", "shape"]),
        ("IExecutionContext.set_tensor_address", ["self", "name", "memory"]),
        ("IExecutionContext.set_output_allocator", ["self", "name", "output_allocator"]),
        ("IExecutionContext.execute_async_v3", ["self", "stream_handle"]),
    ],
)
def test_arguments_that_no_version_names_otherwise(trt: Any, path: str, parameters: list[str]) -> None:
    kind, name = path.split(".")
    signatures = signatures_of(getattr(getattr(trt, kind), name))
    assert {tuple(parameter.name for parameter in signature.parameters) for signature in signatures} == {
        tuple(parameters)
    }


def test_the_version_has_the_numbers_that_caches_are_named_after(version: str) -> None:
    assert all(part.isdigit() for part in version.split(".")[:3])
