"""Which tensors have a size that the data decide: held against the sizes that ONNX Runtime gives for other samples."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.graph.data_sizes import data_sized, data_sized_outputs
from engines.graph.runtime import Judge
from tests.engines.networks import Net


def selecting(*nodes, more=()):
    """A convolution's largest values by place, those over a threshold, and what further nodes make of them."""
    net = Net()
    net.conv(net.input("x", (1, 3, 8, 8)), "c", 4, 3, 3, 3)
    net.node("ReduceMax", "c", "m", axes=[1], keepdims=0)
    net.constant("t", np.float32(0.5))
    for name, value in more:
        net.constant(name, value)
    for operator, inputs, to, attributes in (
        ("Greater", "m t", "g", {}),
        ("NonZero", "g", "nz", {}),
        ("Transpose", "nz", "places", {"perm": [1, 0]}),
        ("GatherND", "m places", "picked", {}),
        *nodes,
    ):
        net.node(operator, inputs, to, **attributes)
    return net


def sizes(model, names):
    """The shapes that tensors have for eight samples."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    judge, random = Judge(copy), np.random.default_rng(0)
    samples = [random.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(8)]
    found = [judge.run({"x": sample}) for sample in samples]
    return {name: {each[name].shape for each in found} for name in names}


def node(operator, inputs, to, /, **attributes):
    return operator, inputs, to, attributes


COUNT = node("Shape", "picked", "count")

NETWORKS = {
    "selection": ([], []),
    "its size as a value": ([COUNT, node("Expand", "one count", "wide")], [("one", np.float32([1]))]),
    "padded to a size": (
        [
            COUNT,
            node("Sub", "most count", "rest"),
            node("Concat", "zero rest", "pads", axis=0),
            node("Pad", "picked pads", "padded"),
            node("Reshape", "padded most", "whole"),
        ],
        [("most", np.int64([64])), ("zero", np.int64([0]))],
    ),
    "scattered over a tensor": ([node("ScatterND", "m places picked", "spread")], []),
    "k from the data": (
        [
            node("Cast", "g", "gi", to=TensorProto.INT64),
            node("ReduceSum", "gi", "sum", keepdims=0),
            node("Unsqueeze", "sum zero", "k"),
            node("Flatten", "m", "f"),
            node("TopK", "f k", "best at"),
        ],
        [("zero", np.int64([0]))],
    ),
    "sizes of sizes": ([node("Shape", "c", "s"), node("Reshape", "c s", "same")], []),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_varies_is_found(name):
    nodes, more = NETWORKS[name]
    net = selecting(*nodes, more=more)
    tensors = [each for made in net.nodes for each in made.output]
    model = net.model("picked")
    varying = {each for each, shapes in sizes(model, tensors).items() if len(shapes) > 1}
    found = data_sized(model)
    assert varying <= found.keys()
    assert {"nz", "places", "picked"} <= varying
    assert not found.keys() & {"x", "c", "m", "g", "whole", "spread", "count", "s", "same", "k", "f"}


def test_the_node_that_decides_is_named():
    model = selecting(COUNT).model("picked", "c")
    assert data_sized(model) == dict.fromkeys(("nz", "places", "picked"), "nz/NonZero")
    assert data_sized_outputs(model) == {"picked": "nz/NonZero"}


def test_a_loop_that_selects_inside():
    body = helper.make_graph(
        [helper.make_node("NonZero", ["row"], ["found"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("row", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("found", TensorProto.INT64, None),
        ],
    )
    net = Net()
    net.input("x", (1, 3, 8, 8))
    net.constant("n", np.int64(1))
    net.nodes.append(helper.make_node("Loop", ["n", "", "x"], ["last"], name="each", body=body))
    assert data_sized(net.model("last", element=TensorProto.INT64)) == {"last": "each"}


def test_models_that_cannot_be_read_have_none(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert data_sized_outputs(tmp_path / "bad.onnx") == {}
