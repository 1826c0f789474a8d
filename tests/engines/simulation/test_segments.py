"""A model in segments: every node in one of them, cut where little is passed on."""

import onnx
import pytest

from engines.graph.operators import label
from engines.simulation.segments import segments
from engines.simulation.simulated_model import Layer, Simulation
from tests.engines.networks import Net


def narrow():
    """Two blocks that are wide inside, between tensors of few channels; the first one's start is read by the last."""
    net = Net()
    x = net.node("Relu", net.conv(net.input("x", ("N", 4, 8, 8)), "stem", 4, 4, 3, 3), "start")
    for block in ("a", "b"):
        wide = net.node("Relu", net.conv(x, f"{block}_in", 32, 4, 1, 1), f"{block}_wide")
        y = net.conv(wide, f"{block}_out", 4, 32, 1, 1)
        x = net.node("Relu", net.node("Add", f"{y} {x}", f"{block}_add"), f"{block}_sum")
    net.node("Shape", "start", "size")
    net.node("Reshape", f"{x} size", "y")
    return net.model("y", "a_sum")


@pytest.fixture
def work():
    return Simulation(narrow())


@pytest.mark.parametrize("each", [1, 2, 3, 100])
def test_every_node_is_in_one_segment(work, each):
    cut = segments(work.floats, work.layers, {"x": (2, 4, 8, 8)}, each=each)
    labels = [name for segment in cut for name in segment.layers]
    assert sorted(labels) == sorted(map(label, work.floats.graph.node))
    assert sorted(name for segment in cut for name in segment.gives) == ["a_sum", "y"]
    assert (len(cut) == 1) == (each == 100)
    known = {"x"}
    for segment in cut:
        assert set(segment.reads) <= known
        known |= set(segment.passes)


def test_it_is_cut_where_little_is_passed_on(work):
    cut = segments(work.floats, work.layers, {"x": (2, 4, 8, 8)}, each=3)
    assert all("wide" not in name for segment in cut for name in segment.passes)
    assert all(set(segment.passes) <= {"start", "a_sum", "b_sum", "size"} for segment in cut)
    assert len(cut) > 1


def test_a_tensor_of_no_known_type_is_not_passed_on():
    net = Net()
    net.node("Relu", net.conv(net.input("x", ("N", 4, 8, 8)), "one", 4, 4, 3, 3), "first")
    net.nodes.append(onnx.helper.make_node("Odd", ["first"], ["odd"], domain="elsewhere"))
    net.node("Relu", net.conv("odd", "two", 4, 4, 3, 3), "y")
    model = net.model("y")
    layers = [Layer(f"{name}/Conv", "Conv", "", "") for name in ("one", "two")]
    cut = segments(model, layers, {"x": (2, 4, 8, 8)}, each=1)
    assert all("odd" not in segment.passes for segment in cut)
    assert len(cut) > 1
