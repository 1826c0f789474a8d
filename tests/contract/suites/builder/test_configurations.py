"""Builds with `tensorrt` by a configuration of layers: what the builder is told, with calibrators and without."""

import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.errors import BuildError, CacheError
from calibrators.ranges import calibrate
from calibrators.tensorrt import int8
from engines.backends.backend import BuildOptions
from engines.build.builder import build_engine
from engines.collection.collect import collect
from engines.qdq.write import quantize
from tests.contract.builds import batches, cache_of, flags, left_alone, nodes
from trtcal.config.settings import QuantConfig

READ = ["get_algorithm", "get_batch_size", "read_calibration_cache"]
"""What TensorRT asks of a calibrator that has a cache."""


def precisions(trt, world):
    """Of the layers that were told one."""
    found = {name: world.layer(name).precision for name in nodes(world) if world.layer(name).precision_is_set}
    return {name: str(number).rpartition(".")[2] for name, number in found.items()}


def written(world):
    """Whether the graph that was built has Q/DQ nodes."""
    return any("QuantizeLinear" in name for name in nodes(world))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "float"])
def test_a_layer_that_is_left_in_float(trt, world, plain, target, weak, precision):
    config = QuantConfig().add_layer_config("c1", precision=precision)
    cache = cache_of(plain)
    record = build_engine(plain, output=target, backend="tensorrt", cache=cache, config=config).record
    assert record.configured == {"c1": precision, "c2": "int8"}
    assert record.quantization == ("implicit" if weak else "explicit")
    assert any(
        note.startswith("by the configuration, 1 layer(s) are in F") or "in float" in note for note in record.notes
    )
    if weak:
        assert flags(world) == {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"}
        assert precisions(trt, world) == {"c1": "FLOAT" if precision == "fp32" else "HALF"}
        assert record.builder_options == {"layer_precisions": {"c1": "fp32" if precision == "fp32" else "fp16"}}
        assert world.calibrated == READ
    else:
        assert flags(world) == set()
        assert "c1_out_QuantizeLinear" not in nodes(world)
        assert ("x_fp16" in nodes(world)) == (precision != "fp32")  # its input in FP16


def test_float_in_a_build_whose_rest_is_fp32(trt, world, plain, target, weak):
    config = QuantConfig().skip(names="c2")
    build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain), config=config, rest="fp32")
    if weak:
        assert precisions(trt, world) == {"c2": "FLOAT"}


def test_all_layers_in_int8_need_no_constraint(world, plain, target, weak):
    record = build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain), config=QuantConfig()).record
    assert flags(world) == ({"INT8", "FP16"} if weak else set())
    assert written(world) == (not weak)
    assert set(record.configured.values()) == {"int8"}


@pytest.mark.parametrize("settings", [{"weight": "mse"}, {"weight_bits": 4}, {"granularity": "tensor"}])
def test_weights_that_a_calibrator_does_not_know_become_nodes(world, plain, target, weak, settings):
    config = QuantConfig().add_layer_config("c2", **settings)
    given = {"output": target, "backend": "tensorrt", "config": config}
    for ranges in ({"cache": cache_of(plain)}, {"calibrator": int8.EntropyCalibrator2(batches())}):
        record = build_engine(plain, **given, **ranges).record
        assert record.quantization == "explicit"
        assert written(world)
        assert world.calibrated == []
        if weak:
            assert any(
                "calibrators choose the scales of weights themselves, and c2 want others" in note
                for note in record.notes
            )


def test_range_methods_of_single_layers_come_from_statistics(world, plain, target, weak):
    config = QuantConfig().add_layer_config("c2", activation="minmax")
    statistics = collect(plain, batches())
    given = {"output": target, "backend": "tensorrt", "config": config}
    record = build_engine(plain, **given, cache=statistics).record
    assert record.quantization == "explicit"
    assert record.cache_sha256 == calibrate(statistics).sha256
    assert any("a cache holds one range method, and c2 take another" in note for note in record.notes) == weak
    calibrator = int8.EntropyCalibrator2(batches())
    again = build_engine(plain, **given, calibrator=calibrator).record
    assert again.cache_sha256 == calibrate(collect(plain, batches(), tensors="quantizable"), "entropy").sha256
    assert again.quantization == "explicit"
    assert world.calibrated == []
    with pytest.raises(CacheError, match="wants ranges by minmax for c2, and the cache holds those of mse: give the"):
        build_engine(plain, **given, cache=cache_of(plain))


def test_statistics_without_a_configuration(world, plain, target, weak):
    statistics = collect(plain, batches())
    record = build_engine(plain, output=target, backend="tensorrt", cache=statistics).record
    assert record.quantization == ("implicit" if weak else "explicit")
    assert record.cache_sha256 == calibrate(statistics).sha256


def test_a_calibrator_with_a_configuration(trt, world, plain, target, tmp_path, weak):
    config = QuantConfig().add_layer_config("c1", precision="fp32").add_layer_config("c2", activation="absmax")
    calibrator = int8.MinMaxCalibrator(batches(), cache=tmp_path / "model.cache")
    record = build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator, config=config).record
    assert record.quantization == ("implicit" if weak else "explicit")
    assert CalibrationCache.load(tmp_path / "model.cache").sha256 == record.cache_sha256
    if weak:
        assert precisions(trt, world) == {"c1": "FLOAT"}
        assert "get_batch" in world.calibrated


def test_a_quantized_model(trt, world, plain, target, weak):
    model = quantize(plain, cache_of(plain), layers={"c1": "so it is"}).model
    config = QuantConfig().add_name_config("c1", precision="fp32")
    record = build_engine(model, output=target, backend="tensorrt", config=config).record
    assert record.configured == {"c1": "fp32", "c2": "int8"}
    if weak:
        assert precisions(trt, world) == {"c1": "FLOAT"}
    else:
        assert "x_fp16" not in nodes(world)
    with pytest.raises(
        BuildError, match="has c2 in fp16, and the model has Q/DQ nodes there: quantize the float model"
    ):
        build_engine(
            model, output=target, backend="tensorrt", config=QuantConfig().add_name_config("c2", precision="fp16")
        )


def test_float_builds(trt, world, plain, target, weak):
    config = QuantConfig().skip(names="*").add_name_config("c2", precision="fp32")
    record = build_engine(plain, output=target, backend="tensorrt", precision="fp16", config=config).record
    assert record.configured == {"c1": "float", "c2": "fp32"}
    if weak:
        assert precisions(trt, world) == {"c2": "FLOAT"}
    else:
        assert {"x_fp16", "c1_relu_out_fp32"} <= set(nodes(world))  # FP16 up to the second's input
    with pytest.raises(BuildError, match="the configuration has c1, c2 in INT8, and the build is in fp16: leave out"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp16", config=QuantConfig())
    with pytest.raises(BuildError, match="the configuration has no layer in INT8: build with --precision fp16 or"):
        build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain), config=config)


@pytest.mark.usefixtures("only_weak")
def test_what_the_options_say_goes_before(trt, world, plain, target):
    config = QuantConfig().add_layer_config(["c1", "c2"], precision="fp32")
    options = BuildOptions(layer_precisions={"c1": "fp16"})
    build_engine(
        plain, output=target, backend="tensorrt", cache=calibrate(collect(plain, batches())), options=options,
        precision="int8", config=config.add_layer_config("c2", precision="int8"),
    )  # fmt: skip
    assert precisions(trt, world) == {"c1": "HALF"}


@pytest.mark.usefixtures("only_weak")
def test_a_type_that_the_build_does_not_allow(world, plain, target):
    config = QuantConfig().add_layer_config("c1", precision="fp16")
    with pytest.raises(BuildError, match="c1 are to compute in fp16, and the build allows fp32, int8 only"):
        build_engine(plain, output=target, backend="tensorrt", cache=cache_of(plain), rest="fp32", config=config)
    assert left_alone(target)


def test_names_with_brackets(trt, world, plain, target, tmp_path, weak):
    model = onnx.load(plain)
    for node in model.graph.node:
        node.name = node.name.replace("c1", "c[1]").replace("c2", "c1")
    named = tmp_path / "named.onnx"
    onnx.save(model, named)
    config = QuantConfig().add_layer_config("c[1]", precision="fp32")
    record = build_engine(named, output=target, backend="tensorrt", cache=cache_of(named), config=config).record
    assert record.configured == {"c[1]": "fp32", "c1": "int8"}
    if weak:
        assert precisions(trt, world) == {"c[1]": "FLOAT"}
