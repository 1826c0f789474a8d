"""The constant operand of a matrix product: on either side, and in stacks; see docs/placement.md."""

import pytest

from engines.passes.prepare import prepared
from engines.qdq.placement import planned
from tests.engines.networks import Net


@pytest.mark.parametrize(
    "shape, left, place", [((8, 16), False, (1, 1)), ((16, 8), True, (0, 0)), ((2, 4, 8, 16), False, (1, 3))]
)
def test_is_a_weight(shape, left, place):
    net = Net()
    net.weight("w", *shape)
    x = net.input("x", (2, 4, 8, 8))
    net.node("MatMul", f"w {x}" if left else f"{x} w", "y")
    (site,) = planned(prepared(net.model("y"))).sites
    assert site.tensor == "x"
    assert (site.weight.input, site.weight.axis) == place


@pytest.mark.parametrize("inputs", ["x v", "v x"])
def test_a_vector_is_none(inputs):
    net = Net()
    net.weight("v", 8)
    net.weight("w", 8, 8)
    net.node("MatMul", net.input("x", ("N", 8, 8)) + " w", "other")
    net.node("MatMul", inputs, "y")
    left = planned(prepared(net.model("y", "other"))).left
    assert "vector" in left["y/MatMul"]


def test_a_gemm_has_its_on_the_right():
    net = Net()
    net.weight("w", 8, 8)
    net.node("MatMul", net.input("x", (8, 8)) + " w", "other")
    net.node("Gemm", "w x", "y")
    assert "of MatMul, not of Gemm" in planned(prepared(net.model("y", "other"))).left["y/Gemm"]
