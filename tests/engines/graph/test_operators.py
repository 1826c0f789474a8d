"""What is known of the weighted operators, of nodes in either form."""

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from engines.graph.operators import CONVOLUTIONS, WEIGHTED, weight_axis


@pytest.mark.parametrize(
    ("operator", "attributes", "axis"),
    [
        ("Conv", {}, 0),
        ("ConvTranspose", {}, 1),
        ("MatMul", {}, 1),
        ("Gemm", {}, 1),
        ("Gemm", {"transB": 0}, 1),
        ("Gemm", {"transB": 1, "transA": 1}, 0),
    ],
)
def test_the_axis_of_output_channels(operator: str, attributes: dict[str, int], axis: int) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    assert weight_axis(node) == weight_axis(ir.from_proto(node)) == axis


def test_what_an_operator_is_said_to_be_exists() -> None:
    for name, known in WEIGHTED.items():
        onnx.defs.get_schema(name)
        if known.integers:
            onnx.defs.get_schema(known.integers)
        if known.transposed_by:
            assert known.transposed_by in onnx.defs.get_schema(name).attributes
    assert {"Conv", "ConvTranspose"} <= CONVOLUTIONS <= WEIGHTED.keys()
