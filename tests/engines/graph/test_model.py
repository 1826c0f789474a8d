"""Models as calibration sees them: made here, broken on purpose, and real ones."""

import hashlib
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError
from engines.graph.model import (
    activations,
    digest_of,
    input_specs,
    load_model,
    loaded,
    model_digest,
    name_of,
    output_specs,
    scale_groups,
)
from engines.graph.operators import COMMUTES, label
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


def saved(path, model):
    onnx.save(model, path)
    return path


def with_external_data(folder):
    """A model whose weights lie in `weights/data.bin` below it; gives the path and the weights."""
    folder.mkdir(exist_ok=True)
    (folder / "weights").mkdir()
    model = ZOO["conv_bn_relu"]().model
    weights = numpy_helper.to_array(model.graph.initializer[0])
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights/data.bin", size_threshold=1024)
    return path, weights


class TestLoading:
    def refused(self, path):
        """The message of the error, which is one line and names the file."""
        with pytest.raises(ModelError) as caught:
            load_model(path)
        message = str(caught.value)
        assert caught.value.exit_code == 2
        assert len(message.splitlines()) == 1
        assert str(path) in message
        return message

    @pytest.mark.parametrize("name", ZOO)
    def test_a_model_comes_back_as_it_was_saved(self, name, tmp_path):
        model = ZOO[name]().model
        assert load_model(saved(tmp_path / "model.onnx", model)) == model
        assert loaded(model) is model

    def test_a_missing_file(self, tmp_path):
        assert "give the path of an ONNX file" in self.refused(tmp_path / "missing.onnx")

    def test_a_folder(self, tmp_path):
        assert "give the path of an ONNX file" in self.refused(tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"\x00" * 4096, b"not a model\n", b'{"format": 1}', b"PK\x03\x04\x14", b"\xff" * 100]
    )
    def test_what_is_no_model(self, content, tmp_path):
        path = tmp_path / "other.onnx"
        path.write_bytes(content)
        assert "not an ONNX model" in self.refused(path)

    @pytest.mark.parametrize("part", [0.05, 0.3, 0.5, 0.9, 0.99, 0.9999])
    def test_a_model_that_was_cut_off(self, part, tmp_path):
        path = saved(tmp_path / "cut.onnx", ZOO["identity_skip"]().model)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * part)])
        self.refused(path)

    @pytest.mark.parametrize("light", [True, False])
    def test_a_file_larger_than_any_model_is_not_read(self, light, tmp_path):
        path = tmp_path / "vast.onnx"
        path.touch()
        os.truncate(path, 2**40)
        with pytest.raises(ModelError, match="protocol buffers hold less than 2 GiB: save its weights"):
            loaded(path, light=light)

    def test_a_model_without_nodes(self, tmp_path):
        assert "empty" in self.refused(saved(tmp_path / "empty.onnx", helper.make_model(onnx.GraphProto(name="g"))))

    def test_a_model_that_breaks_the_rules(self, tmp_path):
        """Its node reads a tensor that nothing makes."""
        model = ZOO["conv_bn_relu"]().model
        model.graph.node[1].input[0] = "nowhere"
        assert "not a valid ONNX model" in self.refused(saved(tmp_path / "bad.onnx", model))

    @pytest.mark.parametrize("light", [True, False])
    def test_nodes_in_disorder(self, light, tmp_path):
        """ONNX Runtime sorts them; who goes through them once takes activations for constants."""
        model = ZOO["conv_bn_relu"]().model
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        for source in (model, saved(tmp_path / "unsorted.onnx", model)):
            with pytest.raises(
                ModelError, match=r"is not a valid ONNX model: node .* reads .* before it is made; sort"
            ):
                loaded(source, light=light)

    def test_a_circle(self, tmp_path):
        model = ZOO["conv_bn_relu"]().model
        model.graph.node.append(helper.make_node("Identity", ["round"], ["round"]))
        with pytest.raises(ModelError, match="node Identity -> round reads round before it is made"):
            loaded(saved(tmp_path / "circle.onnx", model))

    def test_two_weights_of_one_name(self, tmp_path):
        """ONNX Runtime takes the last, or the first that is in a file of its own."""
        model = ZOO["conv_bn_relu"]().model
        model.graph.initializer.append(model.graph.initializer[0])
        twice = model.graph.initializer[0].name
        for source in (model, saved(tmp_path / "twice.onnx", model)):
            with pytest.raises(ModelError, match=f"is not a valid ONNX model: it has two initializers {twice};"):
                loaded(source)

    def test_functions_that_call_themselves(self, tmp_path):
        model = ZOO["conv_bn_relu"]().model
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        call = helper.make_node("Again", ["a"], ["b"], domain="own")
        model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], [call], opsets))
        model.opset_import.append(opsets[1])
        with pytest.raises(ModelError, match=r"functions cannot be put in place: Cycle detected .*; export it again"):
            loaded(saved(tmp_path / "round.onnx", model))

    def test_external_data_are_loaded_on_request(self, tmp_path):
        path, weights = with_external_data(tmp_path)
        np.testing.assert_array_equal(numpy_helper.to_array(load_model(path).graph.initializer[0]), weights)
        assert load_model(path, weights=False).graph.initializer[0].data_location == TensorProto.EXTERNAL

    def test_missing_external_data(self, tmp_path):
        path, _ = with_external_data(tmp_path)
        (tmp_path / "weights" / "data.bin").unlink()
        assert "weights/data.bin, which is not beside it" in self.refused(path)

    def test_external_data_that_were_cut_off(self, tmp_path):
        path, _ = with_external_data(tmp_path)
        data = tmp_path / "weights" / "data.bin"
        data.write_bytes(data.read_bytes()[:1000])
        self.refused(path)

    @pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin"])
    def test_external_data_outside_the_folder_are_refused(self, location, tmp_path):
        (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
        path, _ = with_external_data(tmp_path / "inner")
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        self.refused(saved(path, model))

    def test_the_real_models(self, shared_data):
        for path in sorted((shared_data / "models").glob("*.onnx")):
            model = load_model(path)
            assert input_specs(model)
            assert output_specs(model)


class TestDigest:
    def test_of_one_file_is_its_sha256(self, tmp_path):
        path = saved(tmp_path / "model.onnx", ZOO["gemm"]().model)
        assert model_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_external_data_are_part_of_it(self, tmp_path):
        path, _ = with_external_data(tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        copy = tmp_path / "two" / "model.onnx"
        assert model_digest(copy) == model_digest(path)
        with (tmp_path / "two" / "weights" / "data.bin").open("r+b") as data:
            data.write(b"\x01")
        assert model_digest(copy) != model_digest(path)

    def test_of_a_model_in_memory(self):
        assert model_digest(ZOO["gemm"]().model) == model_digest(ZOO["gemm"]().model)
        assert model_digest(ZOO["gemm"]().model) != model_digest(ZOO["mat_mul"]().model)

    def test_what_is_in_memory_has_neither_a_file_s_digest_nor_its_name(self, tmp_path):
        model = ZOO["gemm"]().model
        onnx.save(model, tmp_path / "m.onnx")
        assert (digest_of(model), name_of(model)) == ("", "the model")
        assert digest_of(tmp_path / "m.onnx") == model_digest(tmp_path / "m.onnx")
        assert name_of(str(tmp_path / "m.onnx")) == "m.onnx"


class TestSpecs:
    def test_shapes_and_types(self):
        net = Net()
        net.input("ids", ("N", 5), TensorProto.INT64)
        net.input("half", (2, None, 3), TensorProto.FLOAT16)
        net.node("Identity", "half", "y")
        net.node("Identity", "ids", "z")
        specs = input_specs(net.model("y", element=TensorProto.FLOAT16))
        assert [(spec.name, spec.shape, spec.dtype) for spec in specs] == [
            ("ids", ("N", 5), np.int64),
            ("half", (2, None, 3), np.float16),
        ]

    def test_initializers_are_no_inputs(self):
        model = ZOO["opset_8"]().model
        assert len(model.graph.input) > 1
        assert [spec.name for spec in input_specs(model)] == ["x"]
        assert [spec.name for spec in output_specs(model)] == ["y"]

    def test_a_type_that_onnx_lacks(self):
        model = ZOO["conv_bn_relu"]().model
        model.graph.input[0].type.tensor_type.elem_type = 99
        with pytest.raises(ModelError, match="is of type 99, which ONNX lacks"):
            input_specs(model)

    def test_inputs_that_are_no_tensors_are_refused(self):
        model = ZOO["gemm"]().model
        sequence = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None)
        model.graph.input.append(sequence)
        with pytest.raises(ModelError, match="many is not a tensor"):
            input_specs(model)


class TestActivations:
    def test_in_topological_order_with_inputs_first(self):
        assert activations(ZOO["conv_bn_relu"]().model) == ("x", "a", "a_bn", "a_relu", "y")
        assert activations(ZOO["two_inputs"]().model) == (
            "image",
            "extra",
            "a",
            "a_relu",
            "highest",
            "flat",
            "both",
            "y",
        )

    def test_constants_and_what_follows_from_them_are_none(self):
        assert activations(ZOO["constant_weights"]().model) == ("x", "a", "a_relu", "average", "flat", "b", "y")

    def test_initializers_as_inputs_are_none(self):
        assert activations(ZOO["opset_8"]().model) == ("x", "a", "a_bn", "a_clip", "part", "y")

    def test_unnamed_nodes(self):
        assert activations(ZOO["unnamed"]().model) == ("x", "1", "2", "3")

    def test_shapes_and_integers_are_none(self):
        """What a Shape gives depends on no value, float or not; comparisons and integers hold no floats."""
        net = Net()
        net.input("x", ("N", 4, 6))
        net.node("Shape", "x", "shape")
        net.node("Cast", "shape", "float_shape", to=TensorProto.FLOAT)
        net.node("ReduceProd", "float_shape", "size", keepdims=0)
        net.node("Mul", "x size", "scaled")
        net.node("Reshape", "scaled shape", "same")
        net.node("ArgMax", "same", "best", axis=2)
        net.node("Cast", "best", "best_float", to=TensorProto.FLOAT)
        net.node("Greater", "x size", "mask")
        net.node("Where", "mask x same", "chosen")
        net.node("Add", "chosen best_float", "y")
        assert activations(net.model("y")) == ("x", "scaled", "same", "best_float", "chosen", "y")

    def test_integer_inputs_are_none_but_what_comes_of_them_is(self):
        net = Net()
        net.input("ids", ("N", 3), TensorProto.INT64)
        net.weight("table", 10, 4)
        net.node("Gather", "table ids", "embedded")
        net.node("Relu", "embedded", "y")
        assert activations(net.model("y")) == ("embedded", "y")

    def test_branches_are_left_out_and_what_they_give_is_not(self):
        assert activations(ZOO["branch"]().model) == ("x", "a", "a_relu", "highest", "chosen", "y")

    def test_a_branch_may_read_an_activation_that_its_node_does_not_name(self):
        """The condition is a constant, and both branches take `x` from outside."""
        net = Net()
        net.input("x", ("N", 4))
        output = [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 4])]
        graphs = {
            branch: helper.make_graph([helper.make_node(operator, ["x"], ["inner"])], branch, [], output)
            for branch, operator in (("then_branch", "Relu"), ("else_branch", "Neg"))
        }
        net.constant("always", np.array(True))
        net.node("If", "always", "y", **graphs)
        assert activations(net.model("y")) == ("x", "y")

    def test_half_and_double_precision_count(self):
        net = Net()
        net.input("x", ("N", 4), TensorProto.FLOAT16)
        net.node("Cast", "x", "wide", to=TensorProto.DOUBLE)
        net.node("Exp", "wide", "y")
        assert activations(net.model("y", element=TensorProto.DOUBLE)) == ("x", "wide", "y")

    def test_operators_that_onnx_does_not_know_are_taken_for_float(self):
        net = Net()
        net.input("x", ("N", 4))
        net.node("Gelu", "x", "a", domain="com.microsoft")
        net.node("Relu", "a", "y")
        assert activations(net.model("y")) == ("x", "a", "y")

    def test_of_the_real_models(self, shared_data):
        """TensorRT's own cache of this LeNet lists all of them but the classifier's flattened input."""
        from calibrators.cache.text import CalibrationCache

        names = activations(load_model(shared_data / "models" / "lenet_mnist.onnx"))
        cache = CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache")
        assert set(cache) <= set(names)
        assert names[0] == "data"


class TestScaleGroups:
    def groups(self, name, **options):
        return {group.members: group.sources for group in scale_groups(ZOO[name]().model, **options)}

    def test_both_sides_of_a_max_pooling(self):
        assert self.groups("max_pool") == {("a_relu", "pooled"): ("a_relu",)}
        assert self.groups("max_pool", through=COMMUTES) == {("a_relu", "pooled"): ("a_relu",)}

    def test_all_of_a_concatenation(self):
        assert self.groups("concat") == {("a_relu", "b_sigmoid", "both"): ("a_relu", "b_sigmoid")}

    def test_average_pooling_shares_in_caches_only(self):
        both = ("a_relu", "highest", "average", "both")
        assert self.groups("pooled_concat") == {both: ("a_relu",)}
        assert self.groups("pooled_concat", through=COMMUTES) == {both: ("a_relu", "average")}
        assert self.groups("constant_weights") == {("a_relu", "average", "flat"): ("a_relu",)}
        assert self.groups("constant_weights", through=COMMUTES) == {("average", "flat"): ("average",)}

    def test_reshape_split_and_transpose(self):
        net = Net()
        net.constant("shape", np.array([0, -1], np.int64))
        net.node("Split", net.input(), "top bottom", axis=1)
        net.node("Relu", "bottom", "kept")
        net.node("Reshape", "kept shape", "flat")
        net.node("Transpose", "flat", "turned", perm=[1, 0])
        groups = {group.members: group.sources for group in scale_groups(net.model("top", "turned"))}
        assert groups == {("x", "top", "bottom"): ("x",), ("kept", "flat", "turned"): ("kept",)}

    def test_only_the_first_input_of_an_operator_that_moves_values(self):
        """A dynamic slice's bounds and a constant beside a concatenation have no scale; the latter has."""
        net = Net()
        net.input("bound", (1,), TensorProto.INT64)
        net.constant("ends", np.array([8], np.int64))
        net.constant("filling", np.zeros((1, 8, 8, 8), np.float32))
        net.node("Slice", net.input(shape=(1, 8, 8, 8)) + " bound ends", "part")
        net.node("Concat", "part filling", "y", axis=0)
        (group,) = scale_groups(net.model("y"))
        assert (group.members, group.sources) == (("x", "part", "y"), ("x", "y"))

    @pytest.mark.parametrize("mode, shares", [(None, True), (False, True), (True, False), ("input", False)])
    def test_dropout_shares_one_unless_it_drops(self, mode, shares):
        net = Net()
        names = [net.input(), net.constant("ratio", np.float32(0.5)), "mode"]
        if mode == "input":
            net.input("mode", (1,), TensorProto.BOOL)
        elif mode is not None:
            net.constant("mode", np.array(mode))
        net.node("Dropout", " ".join(names[: 2 + (mode is not None)]), "y mask")
        assert bool(scale_groups(net.model("y"))) == shares

    def test_a_mask_has_none(self):
        net = Net(opset=9)
        net.node("Dropout", net.input(), "y mask", ratio=0.5)
        net.node("Relu", "mask", "z")
        (group,) = scale_groups(net.model("y", "z"))
        assert group.members == ("x", "y")

    def test_a_model_without_such_operators_has_none(self):
        assert self.groups("conv_bn_relu") == {}


def test_labels_name_unnamed_nodes_by_their_output():
    assert label(ZOO["conv_bn_relu"]().model.graph.node[0]) == "a/Conv"
    assert label(ZOO["unnamed"]().model.graph.node[0]) == "Conv -> 1"


def test_an_output_without_a_shape_is_no_fault(tmp_path):
    net = Net()
    net.conv(net.input(), "y", 8, 8, 3, 3)
    model = net.model("y")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx").graph.output[0].name == "y"
