"""FP16 but for some layers, or some layers alone: what is kept, and that it computes the same."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from engines.backends.tensorrt_rtx import TensorRTRTX
from engines.build.builder import build_engine
from engines.graph.operators import label
from engines.passes.half import to_half
from tests.engines.networks import Net, samples_of
from tests.engines.passes.test_half import constants, node, run, types
from tests.engines.zoo import ZOO

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def chain(*, bare: bool = False) -> onnx.ModelProto:
    """Three convolutions, an activation behind each or nothing at all, and a product."""
    net = Net()
    x = net.input("x", ("N", 8, 8, 8))
    for name in "abc":
        x = net.conv(x, name, 8, 8, 3, 3)
        if not bare:
            x = net.batch_norm(x, f"{name}_bn", 8)
            x = net.node("Relu", x, f"{name}_relu")
    net.node("GlobalAveragePool", x, "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 8, 4)
    net.node("MatMul", "flat w", "y")
    return net.model("y")


def test_what_is_kept_reads_and_gives_fp32() -> None:
    half = to_half(chain(), keep=["b/Conv", "y/MatMul"]).model
    onnx.checker.check_model(half, full_check=True)
    found = types(half)
    kept = node(half, "b/Conv")
    assert [found[name] for name in kept.input] == [FLOAT] * 3
    assert found["b_bn"] == FLOAT  # a batch normalization goes with its convolution
    assert found["b_relu"] == FLOAT  # as does what follows, up to the next convolution
    assert [found[name] for name in ("a", "a_relu", "c_w", "c", "c_relu")] == [HALF] * 5
    assert found["w"] == FLOAT


def test_what_is_beyond_fp16_gets_from_one_kept_layer_to_the_next() -> None:
    model = chain()
    for weight in model.graph.initializer:
        if weight.name in ("b_w", "b_b"):
            values = onnx.numpy_helper.to_array(weight) * np.float32(1e6)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    (batch,) = samples_of(model, 4, batch=4)
    kept = {"one": ["b/Conv"], "all": ["b/Conv", "c/Conv", "y/MatMul"]}
    with np.errstate(all="ignore"):
        found = {name: run(to_half(model, keep=names).model, batch["x"]) for name, names in kept.items()}
    assert not np.isfinite(found["one"]).all()
    np.testing.assert_allclose(found["all"], run(model, batch["x"]), rtol=1e-2)


def test_what_alone_is_fp16() -> None:
    half = to_half(chain(), only=["b/Conv"]).model
    onnx.checker.check_model(half, full_check=True)
    found = types(half)
    assert [name for name in ("a_w", "b_w", "c_w", "w") if found[name] == HALF] == ["b_w"]
    assert (found["b"], found["b_bn"], found["a_relu"], found["c"]) == (HALF, HALF, FLOAT, FLOAT)


def test_none_of_each_is_the_model_itself() -> None:
    model = chain()
    untouched = to_half(model, only=()).model
    assert {tensor.data_type for tensor in untouched.graph.initializer} == {FLOAT}
    assert [item.op_type for item in untouched.graph.node] == [item.op_type for item in model.graph.node]
    assert to_half(model, keep=()).model == to_half(model).model


def test_an_addition_that_cannot_be_fp16_is_told() -> None:
    net = Net()
    net.node("Exp", net.input("x", ("N", 8)), "large")
    net.node("Add", "large x", "y")
    made = to_half(net.model("y"), only=["y/Add"])
    assert made.notes == ("Add y/Add stays in FP32: it computes, or computes with, what may be beyond 65504",)
    assert not constants(made.model)


@pytest.mark.parametrize("name", [name for name in ZOO if name not in ("branch", "opset_8")])
@pytest.mark.parametrize("how", ["keep", "only"])
def test_every_network_is_valid_and_computes_the_same(name: str, how: str) -> None:
    """Where all is kept that has weights, hardly anything is rounded; where it alone is FP16, no more than in FP16."""
    from engines.sessions.onnxruntime import OnnxRuntimeSession

    model = ZOO[name]().model
    weighted = [label(each) for each in model.graph.node if each.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    half = to_half(model, **{how: weighted[::2]}).model
    onnx.checker.check_model(half, full_check=True)
    (batch,) = samples_of(model, 2, batch=2)
    with OnnxRuntimeSession(model) as session, OnnxRuntimeSession(half) as other:
        expected, found = session.run(batch), other.run(batch)
    for key, value in expected.items():
        assert np.abs(found[key] - value).max() <= 2e-2 * max(1, np.abs(value).max()), key


def test_the_maximum_behind_a_kept_operator_changes_nothing() -> None:
    model = chain(bare=True)
    half = to_half(model, keep=["b/Conv"]).model
    assert [each.op_type for each in half.graph.node].count("Max") == 1
    without = onnx.ModelProto()
    without.CopyFrom(half)
    (maximum,) = (each for each in without.graph.node if each.op_type == "Max")
    maximum.op_type = "Identity"
    del maximum.input[1]
    (batch,) = samples_of(model, 4, batch=4)
    batch["x"][0] *= 1e6  # beyond FP16, where a maximum could matter
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(half, batch["x"]), run(without, batch["x"]))


class TestBuilt:
    """What TensorRT-RTX makes of it."""

    @pytest.fixture(autouse=True)
    def _rtx(self, rtx: object) -> None:
        assert TensorRTRTX.strongly_typed

    @pytest.mark.parametrize("bare", [False, True])
    @pytest.mark.parametrize("kept", ["a/Conv", "b/Conv", "c/Conv", "y/MatMul"])
    def test_a_kept_layer_runs_in_fp32(self, tmp_path, kept: str, bare: bool) -> None:
        from trtcal.config.settings import QuantConfig

        onnx.save(chain(bare=bare), tmp_path / "m.onnx")
        config = QuantConfig().skip(names="*").add_layer_config(kept, precision="fp32")
        record = build_engine(
            tmp_path / "m.onnx", output=tmp_path / "m.engine", precision="fp16", config=config, backend="tensorrt-rtx"
        ).record
        runs = {each.node: each.precision for each in record.operators}
        assert runs == {name: "FP32" if name == kept else "FP16" for name in runs}
        assert not [each for each in record.findings if each.rule == "not-as-configured"]

    def test_the_maximum_is_needed(self, tmp_path) -> None:
        """Should this fail, a newer TensorRT-RTX leaves casts alone, and the maximum can go."""
        half = to_half(chain(bare=True), keep=["b/Conv"]).model
        (maximum,) = (each for each in half.graph.node if each.op_type == "Max")
        maximum.op_type = "Identity"
        del maximum.input[1]
        onnx.save(half, tmp_path / "m.onnx")
        record = build_engine(tmp_path / "m.onnx", output=tmp_path / "m.engine", precision="fp16").record
        runs = {each.node: each.precision for each in record.operators}
        assert runs["b/Conv"] == "FP16"
