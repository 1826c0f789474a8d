"""Multiply-accumulates, against those counted by hand and published."""

import pytest

from engines.simulation.costs import inferred_shapes, macs, operand_bits, sized
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


def counted(model, inputs=None):
    simulation = Simulation(model)
    return macs(simulation.layers, inferred_shapes(simulation.floats, inputs))


def test_by_hand():
    net = Net()
    net.conv(net.input(shape=("N", 3, 16, 16)), "full", 8, 3, 3, 3)  # 8x16x16 outputs of 3x3x3 products
    net.conv("full", "strided", 16, 8, 3, 3, strides=[2, 2])  # 16x8x8 of 8x3x3
    net.conv("strided", "depthwise", 16, 1, 3, 3, group=16)  # 16x8x8 of 1x3x3
    net.conv("depthwise", "dilated", 4, 16, 3, 3, dilations=[2, 2], pads=[2, 2, 2, 2])  # 4x8x8 of 16x3x3
    net.conv("dilated", "up", 4, 6, 2, 2, operator="ConvTranspose", strides=[2, 2], pads=[0, 0, 0, 0])  # 4x8x8 by 6x2x2
    net.node("GlobalAveragePool", "up", "average")
    net.node("Flatten", "average", "flat")
    net.weight("product_w", 6, 10, fan_in=6)
    net.node("MatMul", "flat product_w", "product")  # 10 of 6
    net.weight("gemm_w", 5, 10, fan_in=10)
    net.node("Gemm", "product gemm_w", "y", transB=1)  # 5 of 10
    assert counted(net.model("y")) == {
        "full/Conv": 8 * 256 * 27,
        "strided/Conv": 16 * 64 * 72,
        "depthwise/Conv": 16 * 64 * 9,
        "dilated/Conv": 4 * 64 * 144,
        "up/ConvTranspose": 4 * 64 * 24,
        "product/MatMul": 60,
        "y/Gemm": 50,
    }


def test_a_skip_costs_nothing_and_a_batch_is_one_image():
    found = counted(ZOO["identity_skip"]().model)
    assert found["sum/Add"] == 0
    assert found["a/Conv"] == 8 * 64 * 72


def test_a_product_over_sequences_counts_each_element():
    net = Net()
    net.input(shape=("N", 7, 8))
    net.weight("w", 8, 3, fan_in=8)
    net.node("MatMul", "x w", "y")
    assert counted(net.model("y")) == {"y/MatMul": 7 * 3 * 8}


def test_sizes_that_are_free_are_given():
    net = Net()
    net.conv(net.input(shape=("N", 3, "height", "width")), "y", 4, 3, 3, 3)
    model = net.model("y")
    simulation = Simulation(model)
    assert "y" not in inferred_shapes(simulation.floats)
    assert sized(simulation.layers) == ("y",)
    assert counted(model, {"x": (1, 3, 10, 20)}) == {"y/Conv": 4 * 200 * 27}


def test_the_model_itself_is_not_changed():
    model = ZOO["identity_skip"]().model
    before = model.SerializeToString()
    inferred_shapes(model, {"x": (2, 8, 8, 8)})
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "name, expected",
    [
        ("cifar10_resnet20", 40_551_040),  # He et al.: 40.8 million with the rest
        ("mlperf_tiny_resnet8", 12_501_632),  # MLPerf Tiny: 12.5 million
        ("mlperf_tiny_kws_dscnn", 2_656_768),  # MLPerf Tiny: 2.7 million
        ("lenet_mnist", 20 * 576 * 25 + 50 * 64 * 500 + 800 * 500 + 500 * 10),
    ],
)
def test_known_networks(shared_data, name, expected):
    assert sum(counted(shared_data / "models" / f"{name}.onnx").values()) == expected


def test_the_width_of_a_multiplication():
    assert [operand_bits(8, 8), operand_bits(16, 16), operand_bits(32, 32), operand_bits(8, 4)] == [8, 16, 32, 6]
