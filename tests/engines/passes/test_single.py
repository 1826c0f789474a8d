"""FP16 models in float32: the same function but for FP16's rounding, under the same names, through to INT8."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.model import activations
from engines.graph.runtime import Judge
from engines.passes import prepare
from engines.passes.prepare import UNPROVED, WIDENED, WIDENED_NOTE, prepared
from engines.qdq.write import quantizable_tensors, quantize
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO

NARROW = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def halved(model):
    """A float32 model in FP16 all through, inputs and outputs too, as exporters write it; no names change."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    branches = [each.g for node in model.graph.node for each in node.attribute if each.HasField("g")]
    for value in (*model.graph.input, *model.graph.output, *(value for each in branches for value in each.output)):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def types(model):
    """Of everything in it."""
    found = {tensor.data_type for tensor in model.graph.initializer}
    found |= {each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)}
    found |= {each.type.tensor_type.elem_type for each in model.graph.value_info}
    return found | {each.i for node in model.graph.node for each in node.attribute if each.name in ("to", "dtype")}


def given(model, feed):
    kinds = {value.name: value.type for value in Judge(model).inputs}
    narrow = {name: np.float16 if kinds[name] == "tensor(float16)" else array.dtype for name, array in feed.items()}
    return Judge(model).run({name: array.astype(narrow[name]) for name, array in feed.items()})


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_in_fp16(name):
    original = ZOO[name]().model
    if any(entry.version < 13 for entry in original.opset_import if not entry.domain):
        pytest.skip("FP16 came to some operators with a later opset")
    model = halved(original)
    (feed,) = samples_of(original, 2, batch=2)
    graph = prepared(model)
    assert graph.meta[WIDENED] and not graph.meta[UNPROVED]
    result = ir.to_proto(graph)
    assert not types(result) & NARROW
    for output, expected in given(model, feed).items():
        actual = given(result, feed)[output]
        assert np.abs(actual - expected).max() <= 2e-2 * np.abs(expected).max()
    assert quantizable_tensors(model) == quantizable_tensors(original)


def test_an_fp16_model_is_calibrated_and_quantized_under_its_names():
    model, samples = halved(classifier(classes=20)), samples_of(classifier(), 16, batch=4)
    statistics = collect(model, samples)
    assert set(statistics) == set(activations(model))
    found = quantize(model, calibrate(statistics, "minmax"))
    wide = quantize(classifier(classes=20), calibrate(collect(classifier(classes=20), samples), "minmax"))
    assert WIDENED_NOTE.format("FP16") in found.remarks
    assert not types(found.model) & NARROW
    assert found.quantized == wide.quantized
    for tensor, scale in wide.scales.items():
        assert found.scales[tensor] == pytest.approx(scale, rel=2e-3)
    (expected,) = (given(model, samples[0])[name].astype(np.float64) for name in ("scores",))
    noise = given(found.model, samples[0])["scores"] - expected
    assert 10 * np.log10((expected**2).sum() / (noise**2).sum()) > 25
    names = [[layer.name for layer in Simulation(each).layers] for each in (model, classifier())]
    assert names[0] == names[1]


def test_types_that_nodes_state():
    """Cast, ConstantOfShape, RandomNormalLike's dtype, Constant, and a branch of If."""
    net = Net()
    net.input("x", (2, 8))
    net.node("Cast", "x", "h", to=TensorProto.FLOAT16)
    net.constant("w", np.eye(8, dtype=np.float16))
    net.node("MatMul", "h w", "p")
    net.node("Shape", "x", "s")
    net.node("ConstantOfShape", "s", "ones", value=numpy_helper.from_array(np.float16([1])))
    net.node("Add", "p ones", "q")
    branches = {
        name: helper.make_graph(
            [
                helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float16(factor))),
                helper.make_node("Mul", ["q", "k"], ["r"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info("r", TensorProto.FLOAT16, [2, 8])],
        )
        for name, factor in (("then_branch", 2), ("else_branch", 3))
    }
    net.input("which", (), TensorProto.BOOL)
    net.nodes.append(helper.make_node("If", ["which"], ["t"], name="if", **branches))
    net.node("Cast", "t", "y", to=TensorProto.FLOAT)
    result = ir.to_proto(prepared(net.model("y")))
    assert not types(result) & NARROW
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    for which, factor in ((True, 2), (False, 3)):
        np.testing.assert_array_equal(Judge(result).run({"x": x, "which": np.array(which)})["y"], factor * (x + 1))


def test_weights_that_are_cast_at_once_do_not_make_it_an_fp16_model():
    net = Net()
    net.constant("half", np.ones((4, 8), np.float16))
    net.node("Cast", "half", "w", to=TensorProto.FLOAT)
    net.node("MatMul", f"{net.input('x', (2, 4))} w", "y")
    assert WIDENED not in prepared(net.model("y")).meta


def test_a_float32_model_is_left_alone():
    assert WIDENED not in prepared(classifier()).meta


def test_another_function_is_still_refused(monkeypatch):
    """The proof has FP16's rounding for its bound, and sees what is more."""

    def wrong(graph):
        as_single(graph)
        for value in graph.graph.initializers.values():
            if value.name == "b_w":
                value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.02), name="b_w")

    as_single = prepare.as_single
    monkeypatch.setattr(prepare, "as_single", wrong)
    with pytest.raises(ModelError, match="would compute something else"):
        prepared(halved(classifier(seed=5)))
