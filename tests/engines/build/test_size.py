"""An INT8 engine that is larger than its FP32 one is always said; a build is not made for nothing."""

import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from engines.backends.tensorrt_rtx import TensorRTRTX
from engines.build import size as sizes
from engines.build.builder import build_engine
from tests.engines.networks import Net, attention

pytestmark = pytest.mark.usefixtures("rtx")


def products(width):
    net = Net()
    net.weight("w", width, width)
    net.node("MatMul", net.input("x", ("N", width)) + " w", "h")
    net.node("Relu", "h", "r")
    net.weight("v", width, width)
    net.node("MatMul", "r v", "y")
    return net.model("y")


CACHE = CalibrationCache({"x": 0.03, "h": 0.02, "r": 0.02, "y": 0.01})


@pytest.fixture
def builds(monkeypatch):
    """The types of tensors in each model that is built."""
    seen = []
    build = TensorRTRTX.build

    def counted(self, model, **options):
        seen.append({node.op_type for node in model.graph.node})
        return build(self, model, **options)

    monkeypatch.setattr(TensorRTRTX, "build", counted)
    return seen


def said(record):
    return [finding.message for finding in record.findings if finding.rule == "larger-than-fp32"]


def test_a_small_one_is_larger_and_the_fp32_one_is_built_to_tell(tmp_path, builds):
    model = products(64)
    engine = build_engine(model, output=tmp_path / "int8.engine", cache=CACHE)
    assert len(builds) == 2
    assert "QuantizeLinear" in builds[0]
    assert "QuantizeLinear" not in builds[1]
    floats = build_engine(model, output=tmp_path / "fp32.engine", precision="fp32").path.stat().st_size
    ours = engine.path.stat().st_size
    assert ours > floats
    assert said(engine.record) == [sizes.larger_than(ours, floats, "an FP32 one of the same model").message]


def test_a_quantized_model_is_compared_with_the_float_one_that_it_stands_for(tmp_path, quantized, builds):
    (message,) = said(build_engine(quantized, output=tmp_path / "int8.engine").record)
    assert "an FP32 one of the same model" in message
    assert [bool({"QuantizeLinear", "DequantizeLinear"} & operators) for operators in builds] == [True, False]


def test_one_that_saves_much_is_not_compared(tmp_path, builds):
    record = build_engine(products(1024), output=tmp_path / "int8.engine", cache=CACHE).record
    assert len(builds) == 1
    assert said(record) == []


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_other_precisions_are_not_compared(tmp_path, builds, precision):
    assert said(build_engine(products(16), output=tmp_path / "m.engine", precision=precision).record) == []
    assert len(builds) == 1


def test_where_kernels_are_timed_the_weights_are_compared(tmp_path, builds, monkeypatch):
    monkeypatch.setattr(TensorRTRTX, "times_kernels", True)
    (message,) = said(build_engine(products(64), output=tmp_path / "int8.engine", cache=CACHE).record)
    assert len(builds) == 1
    assert "the weights alone in FP32 0.03 MB" in message


def test_a_float_one_that_cannot_be_built(tmp_path, builds):
    """TensorRT-RTX has no FP32 matrix products for 7.5."""
    record = build_engine(products(64), output=tmp_path / "m.engine", cache=CACHE, compute_capabilities=["7.5"]).record
    assert len(builds) == 2
    assert "the weights alone in FP32" in said(record)[0]


def test_int8_beside_attention_in_fp32(tmp_path):
    model = attention()
    onnx.checker.check_model(model)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    cache = CalibrationCache(dict.fromkeys((name for name in names if not name.endswith("_w")), 0.02))
    record = build_engine(model, output=tmp_path / "m.engine", cache=cache, rest="fp32").record
    assert record.operators_by_precision == {"INT8": 4}
    assert "FP16" not in record.kernels_by_precision
