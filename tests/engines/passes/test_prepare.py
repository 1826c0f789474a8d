"""What quantization starts from computes what the model computed."""

import logging

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from calibrators.errors import ModelError
from engines.passes.prepare import prepared
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO


def run(model, batches):
    """Outputs of each batch, nothing optimized."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [session.run(None, batch) for batch in batches]


def the_same(model, feeds=None, **options):
    """Prepare a model; check that it is valid and gives the same to 1e-5 of its largest output; return it."""
    feeds = feeds or samples_of(model, 4, batch=4)
    result = ir.to_proto(prepared(model, **options))
    onnx.checker.check_model(result, full_check=True)
    for before, after in zip(run(model, feeds), run(result, feeds), strict=True):
        for expected, actual in zip(before, after, strict=True):
            assert actual.shape == expected.shape
            assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    assert [value.name for value in result.graph.output] == [value.name for value in model.graph.output]
    return result


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name):
    result = the_same(ZOO[name]().model)
    assert next(entry.version for entry in result.opset_import if not entry.domain) >= 13
    assert result.ir_version >= 8


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_in_a_higher_opset(name):
    result = the_same(ZOO[name]().model, opset=21)
    assert next(entry.version for entry in result.opset_import if not entry.domain) >= 21
    assert result.ir_version >= 10


def test_operators_whose_arguments_moved_are_raised_with_them():
    """Split's parts, ReduceMean's axes and Pad's value are attributes or inputs, by the opset."""
    net = Net(opset=11)
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Split", "a", "b c", axis=1, split=[2, 6])
    net.node("ReduceMean", "c", "mean", axes=[2, 3], keepdims=1)
    net.constant("pads", np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
    net.node("Pad", "b pads", "padded")
    net.node("Softmax", "mean", "soft", axis=1)
    for opset in (13, 21):
        the_same(net.model("padded", "soft"), opset=opset)


class TestBatchNormalization:
    """Folded where that is right, and nowhere else."""

    @pytest.mark.parametrize("options", [{}, {"epsilon": 0.1}, {"epsilon": 1e-3, "momentum": 0.99}])
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("group", [1, 2, 8])
    def test_behind_a_convolution(self, options, bias, group):
        net = Net()
        net.conv(net.input(), "a", 16, 8 // group, 3, 3, group=group, bias=bias)
        net.batch_norm("a", "y", 16, **options)
        result = the_same(net.model("y"))
        assert operators(result) == ["Conv"]
        assert result.graph.node[0].name == "a/Conv"

    @pytest.mark.parametrize("shape", [(16, 8, 5), (16, 8, 3, 3, 1)])
    def test_in_one_and_three_dimensions(self, shape):
        net = Net()
        net.conv(net.input(shape=("N", 8, *[6] * (len(shape) - 2))), "a", *shape)
        net.batch_norm("a", "y", 16)
        assert operators(the_same(net.model("y"))) == ["Conv"]

    @pytest.mark.parametrize("bias", [True, False])
    def test_behind_a_transposed_convolution(self, bias):
        net = Net()
        net.conv(net.input(), "a", 8, 16, 3, 3, operator="ConvTranspose", bias=bias)
        net.batch_norm("a", "y", 16)
        assert operators(the_same(net.model("y"))) == ["ConvTranspose"]

    def test_not_behind_a_grouped_transposed_convolution(self):
        """The one behind it, of a single group, may or may not be."""
        net = Net()
        net.conv(net.input(), "a", 8, 6, 3, 3, operator="ConvTranspose", group=2)
        net.batch_norm("a", "b", 12)
        net.conv("b", "c", 12, 4, 3, 3, operator="ConvTranspose")
        net.batch_norm("c", "y", 4)
        assert operators(the_same(net.model("y")))[:2] == ["ConvTranspose", "BatchNormalization"]

    @pytest.mark.parametrize("attributes", [{}, {"beta": 0.5, "alpha": 2.0}, {"transB": 1, "beta": 3.0}, {"transA": 1}])
    @pytest.mark.parametrize("bias", [None, (), (8,), (1, 8)])
    def test_behind_a_gemm(self, attributes, bias):
        net = Net()
        net.weight("w", *((8, 16) if attributes.get("transB") else (16, 8)), fan_in=16)
        names = net.input(shape=(16, 16)) + " w"
        if bias is not None:
            names += " " + net.constant("bias", net.random.standard_normal(bias).astype(np.float32))
        net.node("Gemm", names, "a", **attributes)
        net.batch_norm("a", "y", 8)
        model = net.model("y")
        result = the_same(model, [{"x": net.random.standard_normal((16, 16)).astype(np.float32)}])
        assert operators(result) == ["Gemm"]
        assert result.graph.node[0].name == "a/Gemm"

    def test_two_in_a_row(self):
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        net.batch_norm("a", "b", 8)
        net.batch_norm("b", "y", 8)
        result = the_same(net.model("y"))
        assert [(node.op_type, node.name) for node in result.graph.node] == [("Conv", "a/Conv")]

    def test_not_into_weights_that_another_reads(self):
        result = the_same(ZOO["shared_weights"]().model)
        assert operators(result).count("BatchNormalization") == 2

    def test_not_into_a_bias_that_another_reads(self):
        net = Net()
        net.constant("bias", net.random.standard_normal(8).astype(np.float32))
        for source, to in ((net.input(), "a"), ("a_bn", "b")):
            net.weight(f"{to}_w", 8, 8, 3, 3)
            net.node("Conv", f"{source} {to}_w bias", to, pads=[1, 1, 1, 1])
            if to == "a":
                net.batch_norm("a", "a_bn", 8)
        the_same(net.model("a_bn", "b"))

    @pytest.mark.parametrize("outputs", ["y", "y a"])
    def test_not_where_another_reads_what_is_not_normalized(self, outputs):
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        net.batch_norm("a", "b", 8)
        net.node("Add" if outputs == "y" else "Identity", "a b" if outputs == "y" else "b", "y")
        assert "BatchNormalization" in operators(the_same(net.model(*outputs.split())))

    def test_not_in_front_of_a_convolution(self):
        net = Net()
        net.batch_norm(net.input(), "a", 8)
        net.conv("a", "y", 8, 8, 3, 3)
        assert operators(the_same(net.model("y"))) == ["BatchNormalization", "Conv"]

    def test_not_with_parameters_from_the_data(self):
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        for name, value in (("shift", 1), ("mean", 0), ("var", 2)):
            net.constant(name, np.full(8, value, np.float32))
        net.node("BatchNormalization", "a " + net.input("scale", (8,)) + " shift mean var", "y")
        model = net.model("y")
        feeds = [{**samples_of(model, 1)[0], "scale": np.linspace(-1, 1, 8, dtype=np.float32)}]
        assert operators(the_same(model, feeds)) == ["Conv", "BatchNormalization"]


def old_network(opset):
    """Operators whose attributes have become inputs, or whose meaning has changed, since."""
    net = Net(opset=opset, ir_version=3 if opset == 8 else 6)
    net.conv(net.input(), "a", 8, 8, 3, 3, bias=False)
    net.batch_norm("a", "b", 8)
    net.node("Softmax", "b", "c", axis=1)
    integers = {"starts": [0], "ends": [4], "axes": [2]}
    if opset < 10:
        net.node("Slice", "c", "d", **integers)
    else:
        names = [net.constant(name, np.array(value, np.int64)) for name, value in integers.items()]
        net.node("Slice", " ".join(["c", *names]), "d")
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        net.node("Pad", "d", "e", pads=pads, value=0.5)
    else:
        net.constant("pads", np.array(pads, np.int64))
        net.constant("half", np.float32(0.5))
        net.node("Pad", "d pads half", "e")
    net.node("Split", "e", "f g", axis=1, split=[4, 4])
    net.node("Concat", "g f", "h", axis=1)
    net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    if opset == 8:
        net.node("Upsample", "h", "i", scales=[1.0, 1.0, 2.0, 2.0])
    elif opset < 11:
        net.node("Upsample" if opset == 9 else "Resize", "h scales", "i")
    else:
        net.constant("roi", np.zeros(0, np.float32))
        net.node("Resize", "h roi scales", "i")
    net.conv("i", "j", 8, 8, 3, 3)
    net.node("ReduceMean", "j", "k", axes=[2, 3], keepdims=0)
    net.node("ReduceSum", "j", "l", axes=[2, 3], keepdims=0)
    net.node("Add", "k l", "m")
    net.node("Unsqueeze", "m", "n", axes=[2])
    net.node("Squeeze", "n", "o", axes=[2])
    net.node("LogSoftmax", "o", "p")
    net.node("Dropout", "p", "q", **({"ratio": 0.3} if opset < 12 else {}))
    net.weight("w", 8, 5, fan_in=8)
    net.constant("bias", np.zeros(5, np.float32))
    net.node("Gemm", "q w bias", "y")
    return net.model("y")


@pytest.mark.parametrize("opset", range(8, 13))
def test_an_old_opset_is_raised(opset):
    model = old_network(opset)
    result = the_same(model)
    assert [(entry.domain, entry.version) for entry in result.opset_import] == [("", 13)]
    assert not {value.name for value in result.graph.input} & {tensor.name for tensor in result.graph.initializer}
    names = {name for node in model.graph.node for name in node.output}
    made = {name for node in result.graph.node for name in node.output}
    assert {"b", "d", "e", "h", "i", "j", "m", "y"} <= names & made


@pytest.mark.parametrize("opset, ir_version", [(13, 8), (17, 9), (21, 10)])
def test_a_newer_opset_stays(opset, ir_version):
    net = Net(opset=opset, ir_version=ir_version)
    net.conv(net.input(), "y", 8, 8, 3, 3)
    result = prepared(net.model("y"))
    assert (result.opset_imports[""], result.ir_version) == (opset, ir_version)


def test_functions_are_inlined():
    """A convolution inside a function of the model's own is one of the model's."""
    nodes = [
        helper.make_node("Conv", ["image", "kernels"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["sum"], ["activated"]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "ConvRelu", ["image", "kernels"], ["activated"], nodes, opsets)
    net = Net()
    net.weight("w", 8, 8, 3, 3)
    net.node("ConvRelu", net.input() + " w", "a", domain="local")
    net.node("ConvRelu", "a w", "y", domain="local")
    model = net.model("y")
    model.functions.append(function)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 8, 8]))
    result = the_same(model)
    assert operators(result) == ["Conv", "Relu", "Conv", "Relu"]
    assert not result.functions


def test_external_data(tmp_path):
    model = ZOO["conv_bn_relu"]().model
    path = tmp_path / "model.onnx"
    onnx.save(ZOO["conv_bn_relu"]().model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    feeds = samples_of(model, 2)
    graph = prepared(path)
    ir.external_data.load_to_model(graph)
    for expected, actual in zip(run(model, feeds), run(ir.to_proto(graph), feeds), strict=True):
        np.testing.assert_allclose(actual[0], expected[0], atol=1e-5)


def test_the_model_given_is_not_changed():
    model = ZOO["conv_bn_relu"]().model
    before = model.SerializeToString()
    prepared(model)
    assert model.SerializeToString() == before


def test_unused_nodes_go_and_unknown_operators_stay():
    net = Net(opset=11)
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "unread")
    net.node("Nonsense", "a", "y", domain="com.example")
    result = prepared(net.model("y"))
    assert [node.op_type for node in result.graph] == ["Conv", "Nonsense"]
    assert result.opset_imports == {"": 13, "com.example": 1}


def test_shapes_that_cannot_be_inferred_are_no_matter_for_the_log(caplog):
    """An output with a wrong shape: ONNX Runtime runs such models, and so a traceback would only frighten."""
    net = Net()
    net.conv(net.input(), "y", 8, 8, 3, 3)
    model = net.model("y")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    level = logging.getLogger("onnx_ir").level
    assert [node.op_type for node in prepared(model).graph] == ["Conv"]
    assert not caplog.records
    assert logging.getLogger("onnx_ir").level == level


def test_an_opset_that_cannot_be_raised_is_refused():
    """An operator of an opset that never was."""
    net = Net(opset=11)
    net.conv(net.input(), "y", 8, 8, 3, 3)
    model = net.model("y")
    model.graph.node.append(helper.make_node("NeverWas", ["y"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    with pytest.raises(
        ModelError, match="the model's opset 11 cannot be raised to 13: export it with opset 13 or more"
    ):
        prepared(model)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no model"):
        prepared(tmp_path / "missing.onnx")


def damaged_weight(model):
    """Fewer elements than there are, which the checker does not count."""
    weight = next(each for each in model.graph.initializer if each.name == "a_w")
    weight.dims[:] = [2, 3, 3, 3]
    model.graph.node.append(helper.make_node("Relu", ["a_w"], ["folded"]))


def unknown_type(model):
    model.graph.initializer[0].data_type = 99


def no_opset(model):
    del model.opset_import[:]


def missing_tensor(model):
    model.graph.node[0].input[0] = "missing"


@pytest.mark.parametrize("damage", [damaged_weight, unknown_type, no_opset, missing_tensor])
def test_what_the_libraries_fail_at_is_told(damage):
    model = classifier()
    damage(model)
    with pytest.raises(ModelError, match="export it again") as raised:
        prepared(model)
    assert "\n" not in str(raised.value)


def test_constants_that_are_infinite_once_folded_are_no_matter(recwarn):
    net = Net()
    net.conv(net.input("x", ("N", 3, 4, 4)), "a", 4, 3, 1, 1)
    net.constant("mask", np.array([0, 1, 1, 1], np.float32))
    net.node("Log", "mask", "floor")
    net.node("Max", "a floor", "y")
    found = prepared(net.model("y"))
    assert np.isneginf(found.graph.initializers["floor"].const_value.numpy()[0])
    assert [str(each.message) for each in recwarn] == []
