"""Whole builds with `tensorrt`, by the doubles of each version: what the builder is told."""

import onnx
import pytest

from calibrators.errors import (
    BuildError,
)
from engines.backends.backend import BuildOptions
from engines.build.builder import build_engine
from engines.inspection.engine_record import Engine
from tests.contract.builds import flags, nodes
from tests.engines.networks import attention


def test_a_float_build(trt, world, cuda, plain, target, version):
    engine = build_engine(plain, output=target, backend="tensorrt", precision="fp32")
    assert target.read_bytes() == world.plan
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    assert world.network_flags == (0 if explicit is None else 1 << int(explicit))
    assert flags(world) == set()
    assert world.config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert [profile.shapes for profile in world.profiles] == [{"x": ((1, 16, 8, 8), (8, 16, 8, 8), (32, 16, 8, 8))}]
    assert nodes(world) == ["c1", "c1_relu", "c2", "c2_relu"]
    record = engine.record
    assert (record.backend, record.versions["tensorrt"]) == ("tensorrt", version)
    device = cuda.device()
    assert record.gpu == {"name": device.name, "compute_capability": device.compute_capability}
    assert record.portable == f"{record.gpu['compute_capability']} ({record.gpu['name']}, which it was built on)"
    assert (record.quantization, record.kernels, record.builder_options) == (None, None, {})
    assert "no list of layers" in record.kernels_absent
    assert record.inputs == ({"name": "x", "type": "FLOAT", "shape": [-1, 16, 8, 8]},)
    assert Engine.load(target).record == record


def test_attention_may_be_taken_apart(trt, world, target, tmp_path):
    onnx.save(attention("N"), tmp_path / "attention.onnx")
    build_engine(tmp_path / "attention.onnx", output=target, backend="tensorrt", precision="fp32")
    (network,) = world.networks
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    assert [layer.name for layer in layers] == ["q/MatMul", "k/MatMul", "v/MatMul", "attended/Attention", "y/MatMul"]
    if hasattr(trt, "IAttentionInputLayer"):
        assert isinstance(layers[3], trt.IAttentionInputLayer)
        assert layers[3].attention.decomposable


def test_fp16(world, plain, target, weak):
    record = build_engine(plain, output=target, backend="tensorrt", precision="fp16").record
    assert flags(world) == ({"FP16"} if weak else set())
    assert any("fp16" in name for name in nodes(world)) == (not weak)  # casts in the graph, or a flag
    assert (record.precision, record.rest) == ("fp16", None)


@pytest.mark.parametrize("rest", [None, "fp16", "fp32"])
def test_a_quantized_model(world, quantized, target, weak, rest):
    record = build_engine(quantized, output=target, backend="tensorrt", rest=rest).record
    expected = {"INT8"} if rest == "fp32" else {"INT8", "FP16"}
    assert flags(world) == (expected if weak else set())
    assert world.calibrated == []
    assert any(name.endswith("_int8_levels") for name in nodes(world)) == weak  # TensorRT 8 takes no INT8 constants
    assert any("fp16" in name for name in nodes(world)) == (not weak and rest != "fp32")
    assert record.quantization == "explicit"
    assert record.rest == (rest or "fp16")


def test_every_option(trt, world, plain, target, weak):
    compatible = "same-compute-capability"
    known = hasattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY")
    options = BuildOptions(
        workspace=1 << 30,
        optimization_level=5,
        hardware_compatibility=compatible if known else "ampere+",
        version_compatible=True,
        sparsity=True,
    )
    record = build_engine(plain, output=target, backend="tensorrt", precision="fp32", options=options).record
    assert world.pools == {trt.MemoryPoolType.WORKSPACE: 1 << 30}
    assert world.config.builder_optimization_level == 5
    levels = trt.HardwareCompatibilityLevel
    level = levels.SAME_COMPUTE_CAPABILITY if known else levels.AMPERE_PLUS
    assert world.config.hardware_compatibility_level == level
    assert flags(world) == {"VERSION_COMPATIBLE", "SPARSE_WEIGHTS"}
    assert record.builder_options == {
        "workspace": 1 << 30,
        "optimization_level": 5,
        "hardware_compatibility": options.hardware_compatibility,
        "version_compatible": True,
        "sparsity": True,
    }
    assert record.portable == (record.gpu["compute_capability"] if known else "8.0 and later (Ampere and newer)")


def test_a_hardware_compatibility_that_this_version_lacks(trt, world, plain, target):
    if hasattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY"):
        pytest.skip("this version has them all")
    options = BuildOptions(hardware_compatibility="same-compute-capability")
    with pytest.raises(BuildError, match=r"no hardware compatibility same-compute-capability: it has ampere\+$"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32", options=options)


def test_a_compute_capability_is_refused(world, plain, target):
    with pytest.raises(BuildError, match=r"builds for the GPU that it runs on: leave out --compute-capability 8\.6"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32", compute_capabilities=["8.6"])


def test_progress_and_phases(trt, world, plain, target):
    steps: list[int] = []
    phases: list[str] = []
    build_engine(plain, output=target, backend="tensorrt", precision="fp32", progress=steps.append, phase=phases.append)
    heard = hasattr(trt, "IProgressMonitor")
    assert phases == ([name for name, _ in world.phases] if heard else [])
    assert steps == ([1] * sum(count for _, count in world.phases) if heard else [])


def test_warnings_and_the_log(trt, world, plain, target, tmp_path):
    world.says = [(trt.ILogger.WARNING, "slow"), (trt.ILogger.WARNING, "slow"), (trt.ILogger.VERBOSE, "words")]
    record = build_engine(plain, output=target, backend="tensorrt", precision="fp32", log=tmp_path / "build.log").record
    assert record.warnings == ("slow (2 times)",)
    assert (tmp_path / "build.log").read_text() == "[warning] slow\n[warning] slow\n[verbose] words\n"


@pytest.mark.usefixtures("only_weak")
def test_precisions_of_layers(trt, world, plain, target):
    options = BuildOptions(layer_precisions={"c1": "fp32", "c?": "fp16", "*relu": "fp16"})
    build_engine(plain, output=target, backend="tensorrt", precision="fp16", options=options)
    assert flags(world) == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}
    found = {name: world.layer(name).precision for name in nodes(world)}
    half, single = trt.DataType.HALF, trt.DataType.FLOAT
    assert found == {"c1": single, "c1_relu": half, "c2": half, "c2_relu": half}


@pytest.mark.usefixtures("only_weak")
def test_a_pattern_that_fits_no_layer(world, plain, target):
    options = BuildOptions(layer_precisions={"c1": "fp32", "head*": "fp32"})
    with pytest.raises(
        BuildError, match=r"no layer fits head\* of --layer-precision or --config: .* c1, c1_relu, c2, \.\.\."
    ):
        build_engine(plain, output=target, backend="tensorrt", precision="fp16", options=options)


@pytest.mark.usefixtures("only_weak")
def test_a_type_that_the_build_does_not_allow(world, plain, target):
    options = BuildOptions(layer_precisions={"c1": "int8"})
    with pytest.raises(BuildError, match="c1 are to compute in int8, and the build allows fp16, fp32 only"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp16", options=options)


@pytest.mark.usefixtures("only_strong")
def test_precisions_of_layers_where_the_model_says_them(world, plain, target):
    options = BuildOptions(layer_precisions={"c1": "fp32"})
    with pytest.raises(BuildError, match="takes the type of each layer from the model"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp16", options=options)
