"""What is written opens in ONNX Runtime; what no file holds is written with its weights beside it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from calibrators.errors import ModelError
from engines.graph.model import load_model
from engines.qdq import save as saved
from engines.qdq.write import quantize, save
from tests.engines.networks import Net, classifier, samples_of


def run(path, feed):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)


def scales(model):
    return {name: 0.03 for node in model.graph.node for name in (*node.input, *node.output)}


def test_a_model_too_large_for_one_file_has_its_weights_beside_it(tmp_path, monkeypatch):
    model = classifier()
    result = quantize(model, scales(model))
    whole, apart = tmp_path / "whole.onnx", tmp_path / "apart.onnx"
    save(result, whole)
    monkeypatch.setattr(saved, "LARGEST_FILE", 1000)
    before = result.model.SerializeToString()
    save(result, apart)
    assert result.model.SerializeToString() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["apart.onnx", "apart.onnx.data", "whole.onnx"]
    (feed,) = samples_of(model, 1)
    np.testing.assert_array_equal(run(apart, feed)[0], run(whole, feed)[0])
    assert load_model(apart).graph.node == load_model(whole).graph.node


def test_nothing_is_written_where_the_runtime_refuses(tmp_path, monkeypatch):
    model = classifier()
    result = quantize(model, scales(model))
    result.model.opset_import[0].version = 28
    for size in (saved.LARGEST_FILE, 1000):
        monkeypatch.setattr(saved, "LARGEST_FILE", size)
        with pytest.raises(ModelError, match=r"cannot open the quantized model .*QuantizeLinear\(28\)") as raised:
            save(result, tmp_path / "m.onnx")
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("operator, domain, opset", [("Nonsense", "com.example", 17), ("Swish", "", 24)])
def test_operators_for_other_runtimes_are_written(tmp_path, operator, domain, opset):
    net = Net(opset=opset, ir_version=10)
    net.conv(net.input(), "c", 8, 8, 3, 3)
    net.node(operator, "c", "y", **({"domain": domain} if domain else {}))
    result = quantize(net.model("y"), {"x": 0.03})
    save(result, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").is_file()


def conv(shape=("N", 4, 8, 8)):
    net = Net(opset=18)
    net.conv(net.input("x", shape), "c", 4, 4, 1, 1)
    return net


def sequence(net):
    net.node("SplitToSequence", "c", "s", axis=1)
    net.node("ConcatFromSequence", "s", "y", axis=1)


def optional(net):
    net.node("Optional", "c", "o")
    net.node("OptionalGetElement", "o", "y")


def loop(net):
    """A sequence that a loop puts together."""
    body = helper.make_graph(
        [helper.make_node("SequenceInsert", ["s", "c"], ["t"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info("t", onnx.TensorProto.FLOAT, None),
        ],
    )
    net.constant("times", np.array(3))
    net.node("SequenceEmpty", "", "empty")
    net.nodes.append(helper.make_node("Loop", ["times", "", "empty"], ["all"], name="loop", body=body))
    net.node("ConcatFromSequence", "all", "y", axis=1)


def unread(net):
    """Outputs that nothing reads, of operators that have more than one."""
    net.constant("k", np.array([2]))
    net.node("TopK", "c k", "values indices", axis=1)
    net.node("Cast", "indices", "y", to=1)


@pytest.mark.parametrize("tail", [sequence, optional, loop, unread])
def test_what_is_no_tensor_and_what_nothing_reads_runs(tmp_path, tail):
    net = conv()
    tail(net)
    model = net.model("y")
    save(quantize(model, {"x": 0.03}), tmp_path / "m.onnx")
    (feed,) = samples_of(model, 1)
    onnx.save(model, tmp_path / "float.onnx")
    assert run(tmp_path / "m.onnx", feed)[0].shape == run(tmp_path / "float.onnx", feed)[0].shape


def test_a_normalization_in_training_stays():
    net = conv()
    net.batch_norm("c", "y", 4, training_mode=1)
    model = net.model("y")
    node = next(each for each in model.graph.node if each.op_type == "BatchNormalization")
    node.output.extend(["mean", "variance"])
    result = quantize(model, {"x": 0.03})
    assert "BatchNormalization" in {each.op_type for each in result.model.graph.node}


def test_a_sequence_folded_before_opset_18_runs(tmp_path):
    net = Net(opset=17)
    net.conv(net.input("x", ("N", 4, 8, 8)), "c", 4, 4, 1, 1)
    net.constant("part", np.array(2))
    net.constant("first", np.array(1))
    net.node("SplitToSequence", "c part", "s", axis=1)
    net.node("SequenceAt", "s first", "y")
    save(quantize(net.model("y"), {"x": 0.03}), tmp_path / "m.onnx")
