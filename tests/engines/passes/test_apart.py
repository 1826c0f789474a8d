"""Nodes and free axes have names of their own, where TensorRT would take two for one."""

import onnx
import pytest
from onnx import TensorProto, helper

from engines.build.builder import build_engine
from engines.passes.apart import told_apart
from engines.passes.half import to_half
from tests.engines.networks import Net


def network(*free: str) -> onnx.ModelProto:
    """A convolution of images whose batch, height and width have these names."""
    batch, height, width = free
    net = Net()
    net.input(shape=(batch, 8, height, width))
    net.conv("x", "y", 8, 8, 3, 3)
    return net.model("y")


def axes(model: onnx.ModelProto) -> list[str | int]:
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    return [dimension.dim_param or dimension.dim_value for dimension in dimensions]


@pytest.mark.parametrize("name", ["?", "-1", "None"])
def test_axes_whose_names_say_nothing_get_their_own(name):
    model = network(name, name, name)
    before = model.SerializeToString()
    made = told_apart(model)
    assert axes(made) == ["x.0", 8, "x.2", "x.3"]
    assert model.SerializeToString() == before
    assert not any(
        dimension.dim_param == name for value in made.graph.output for dimension in value.type.tensor_type.shape.dim
    )


def test_names_that_say_something_stay_and_so_does_the_model():
    model = network("N", "S", "S")
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    assert told_apart(model) is model


def test_an_engine_of_sides_that_differ_is_built(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    shapes = "x:1x8x12x48..2x8x12x48..4x8x12x48"
    build_engine(
        network("?", "?", "?"),
        output=tmp_path / "m.engine",
        precision="fp32",
        backend="tensorrt-rtx",
        shapes=shapes,
    )
    assert (tmp_path / "m.engine").stat().st_size > 1000


@pytest.mark.parametrize(
    ("operator", "outputs", "attributes"),
    [
        ("LSTM", ["", "y"], {"hidden_size": 8}),
        ("LSTM", ["", "", "y"], {"hidden_size": 8}),
        ("GRU", ["", "y"], {"hidden_size": 8}),
    ],
)
def test_outputs_that_nobody_asked_for_have_no_type(operator, outputs, attributes):
    gates = {"LSTM": 4, "GRU": 3}[operator]
    net = Net()
    net.input(shape=(5, "N", 8))
    net.weight("w", 1, gates * 8, 8)
    net.weight("r", 1, gates * 8, 8)
    model = net.model()
    model.graph.node.append(helper.make_node(operator, ["x", "w", "r"], outputs, name="cell", **attributes))
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "N", 8]))
    onnx.checker.check_model(model)
    half = to_half(model).model
    assert TensorProto.FLOAT16 in {tensor.data_type for tensor in half.graph.initializer}
    onnx.checker.check_model(half)
