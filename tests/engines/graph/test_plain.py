"""Sparse initializers, outputs that are no tensors of numbers, and inputs that cannot be run with, through to INT8."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.inputs import in_bfloat16, require_single_precision, runnable_inputs
from engines.graph.model import loaded
from engines.graph.plain import plain, replaced_outputs
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier, samples_of

SAMPLES = np.random.default_rng(0).standard_normal((12, 16)).astype(np.float32)


def products(*more, outputs=("scores",)):
    """Two matrix products, the first one's weight mostly zeros, and what further nodes make of the second."""
    net = Net()
    weight = net.random.standard_normal((16, 24)).astype(np.float32)
    net.constant("a", np.where(np.abs(weight) < 0.8, 0, weight).astype(np.float32))
    net.weight("b", 24, 20)
    net.node("MatMul", f"{net.input(shape=('N', 16))} a", "h")
    net.node("MatMul", "h b", "scores")
    for node in more:
        net.nodes.append(node)
    model = net.model(*outputs)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return model


def copied(model):
    return onnx.ModelProto.FromString(model.SerializeToString())


def sparse_constant(model, name):
    """The model with a sparse Constant node instead of an initializer."""
    model = sparse(model, name, flat=True)
    tensor = model.graph.sparse_initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], [name], sparse_value=tensor))
    return model


def sparse(model, name, *, flat):
    """The model with an initializer in sparse form, by flat indices or by coordinates."""
    model = copied(model)
    tensor = next(each for each in model.graph.initializer if each.name == name)
    array = numpy_helper.to_array(tensor)
    places = np.flatnonzero(array) if flat else np.argwhere(array)
    values = numpy_helper.from_array(array[array != 0], name)
    model.graph.initializer.remove(tensor)
    indices = numpy_helper.from_array(places.astype(np.int64), f"{name}_places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, list(array.shape)))
    return model


FORMS = {
    "flat": lambda model: sparse(model, "a", flat=True),
    "coordinates": lambda model: sparse(model, "a", flat=False),
    "constant": lambda model: sparse_constant(model, "a"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sparse_weight_is_quantized_as_the_dense_one(tmp_path, form):
    dense = products()
    onnx.save(FORMS[form](dense), tmp_path / "sparse.onnx")
    found = [
        quantize(model, calibrate(collect(model, [{"x": SAMPLES}]), "minmax"))
        for model in (dense, tmp_path / "sparse.onnx")
    ]
    assert found[0].scales == found[1].scales
    one, other = ({each.name: each.raw_data for each in model.model.graph.initializer} for model in found)
    assert one == other


def zipped():
    return helper.make_node(
        "ZipMap", ["p"], ["probabilities"], name="zip", domain="ai.onnx.ml", classlabels_int64s=list(range(20))
    )


def maps(name="probabilities"):
    value = onnx.ValueInfoProto(name=name)
    kind = value.type.sequence_type.elem_type.map_type
    kind.key_type, kind.value_type.tensor_type.elem_type = TensorProto.INT64, TensorProto.FLOAT
    kind.value_type.tensor_type.shape.SetInParent()
    return value


def converted():
    """A classifier as scikit-learn's converters write it: a label, and a map of scores for each sample."""
    softmax = helper.make_node("Softmax", ["scores"], ["p"], axis=1)
    label = helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0)
    model = products(softmax, label, zipped(), outputs=("label",))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.output.append(maps())
    return model


def test_the_scores_behind_zipmap(tmp_path, command):
    onnx.save(converted(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", SAMPLES)
    images = ["--images", tmp_path / "x.npy", "--preprocess", "none"]
    assert command("calibrate", tmp_path / "m.onnx", *images, "-o", tmp_path / "m.cache")[0] == 0
    code, _, err = command("quantize", tmp_path / "m.onnx", "--cache", tmp_path / "m.cache", "-o", tmp_path / "q.onnx")
    assert code == 0, err
    assert "without its output probabilities, a sequence of maps, which no engine has: p, which ZipMap reads" in err
    assert [value.name for value in onnx.load(tmp_path / "q.onnx").graph.output] == ["label", "p"]
    code, out, err = command("accuracy", tmp_path / "m.onnx", tmp_path / "q.onnx", *images, "--json")
    assert code == 0, err
    assert "m.onnx is run without its output probabilities" in err
    score = json.loads(out)["models"][1]
    assert score["agreement"]["total"] == 12
    assert score["sqnr_db"] > 20


def test_text_beside_scores_is_left_out():
    names = helper.make_node(
        "LabelEncoder",
        ["place"],
        ["name"],
        domain="ai.onnx.ml",
        keys_int64s=[0, 1],
        values_strings=["cat", "dog"],
    )
    model = products(helper.make_node("ArgMax", ["scores"], ["place"], axis=1, keepdims=0), names)
    model.graph.output.append(helper.make_tensor_value_info("name", TensorProto.STRING, ["N"]))
    assert replaced_outputs(model) == ("without its output name, text, which no engine has",)
    with OnnxRuntimeSession(model) as session:
        assert list(session.run({"x": SAMPLES})) == ["scores"]
    made = quantize(model, calibrate(collect(model, [{"x": SAMPLES}]), "minmax"))
    assert [value.name for value in made.model.graph.output] == ["scores"]


def test_a_sequence_alone_has_a_way_out():
    model = products(helper.make_node("SequenceConstruct", ["h", "scores"], ["both"]), outputs=())
    value = onnx.ValueInfoProto(name="both")
    value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.output.append(value)
    with pytest.raises(ModelError, match=r"output both is a seq.*: make the tensors that it is made of outputs"):
        OnnxRuntimeSession(model)


def test_an_ordinary_model_is_the_same_object():
    model = classifier()
    assert plain(model) is model
    assert loaded(model) is model


class TestInputs:
    @staticmethod
    def taking(element, shape=("N", 16)):
        net = Net()
        net.input(shape=("N", 16))
        net.input("other", shape, element)
        net.node("MatMul", f"x {net.weight('w', 16, 20)}", "y")
        return net.model("y")

    @pytest.mark.parametrize(
        ("element", "shape", "message"),
        [
            (TensorProto.STRING, ("N", 1), "input other takes text, .* cut the model behind"),
            (TensorProto.BFLOAT16, ("N", 16), "takes bfloat16, .* export the model in float32 or FP16"),
            (TensorProto.FLOAT, (), "is a single number, without an axis of samples: make it an initializer"),
        ],
    )
    def test_what_cannot_be_run_with_is_said_before_any_data_is_read(self, element, shape, message):
        model = self.taking(element, shape)
        with pytest.raises(ModelError, match=message):
            runnable_inputs(model)
        with pytest.raises(ModelError, match=message):
            collect(model, iter(()))

    def test_an_input_without_a_shape(self):
        model = copied(products())
        model.graph.input[0].type.tensor_type.ClearField("shape")
        for use in (runnable_inputs, lambda model: collect(model, iter(()))):
            with pytest.raises(ModelError, match="does not state the shape of its input x: give it one"):
                use(model)

    def test_double_precision_is_refused_before_any_data_is_read(self, tmp_path, command):
        net = Net()
        net.input(shape=("N", 16), element=TensorProto.DOUBLE)
        net.constant("v", net.random.standard_normal((16, 20)))
        net.node("Neg", "v", "w")
        net.node("MatMul", "x w", "y")
        onnx.save(net.model("y", element=TensorProto.DOUBLE), tmp_path / "m.onnx")
        images = ["--images", tmp_path / "missing", "--preprocess", "none"]
        code, _, err = command("calibrate", tmp_path / "m.onnx", *images, "-o", tmp_path / "m.cache")
        assert code == 2
        assert "computes in float64 (at y/MatMul)" in err and "export it in float32" in err

    def test_double_precision_that_is_cast_is_none(self):
        net = Net()
        net.constant("v", net.random.standard_normal((16, 20)))
        net.node("Cast", "v", "w", to=TensorProto.FLOAT)
        net.node("MatMul", net.input(shape=("N", 16)) + " w", "y")
        model = net.model("y")
        require_single_precision(model)
        assert quantize(model, calibrate(collect(model, [{"x": SAMPLES}]), "minmax")).quantized == ("y/MatMul",)

    def test_others_are_as_they_were(self):
        assert [str(spec) for spec in runnable_inputs(self.taking(TensorProto.INT64))] == ["x:Nx16", "other:Nx16"]

    @pytest.mark.parametrize("shape", [(16,), (4, 4), ("H", "W")])
    def test_data_with_an_axis_of_samples_that_the_model_lacks(self, tmp_path, command, shape):
        net = Net()
        net.node("Reshape", f"{net.input(shape=shape)} {net.constant('s', np.int64([1, 16]))}", "r")
        net.node("MatMul", f"r {net.weight('w', 16, 20)}", "y")
        onnx.save(net.model("y"), tmp_path / "m.onnx")
        np.save(tmp_path / "x.npy", SAMPLES if len(shape) == 1 else SAMPLES.reshape(-1, 4, 4))
        images = ["--images", tmp_path / "x.npy", "--preprocess", "none"]
        code, _, err = command("calibrate", tmp_path / "m.onnx", *images, "-o", tmp_path / "m.cache")
        assert code == 2
        assert "without an axis of samples, and the data has one" in err


def test_bfloat16_inside():
    net = Net()
    net.node("Cast", net.input(shape=("N", 16)), "n", to=TensorProto.BFLOAT16)
    net.node("Cast", "n", "f", to=TensorProto.FLOAT)
    net.constant("w", np.ones((16, 20), helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)))
    net.node("MatMul", "n w", "p")
    net.node("Cast", "p", "y", to=TensorProto.FLOAT)
    model = net.model("y")
    assert in_bfloat16(model) == "n/Cast"
    with pytest.raises(ModelError, match=r"computes in bfloat16 \(at n/Cast\), .* export it in float32 or FP16"):
        collect(model, samples_of(model, 2))
    assert not in_bfloat16(classifier())
