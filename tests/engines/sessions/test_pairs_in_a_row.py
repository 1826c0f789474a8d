"""Q/DQ pairs behind one another: each rounds and clips on its own, as the nodes say."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.sessions.onnxruntime import OnnxRuntimeSession

BETWEEN = {
    "nothing": ([], {}),
    "Transpose": (["Transpose"], {"perm": [0, 2, 1]}),
    "MaxPool": (["MaxPool"], {"kernel_shape": [1]}),
    "two moves": (["Transpose", "Identity"], {}),
}


def pairs(scales, between, kind=np.int8):
    """A pair for each scale, with operators between the first two."""
    nodes, constants, tensor = [], {}, "x"
    for place, scale in enumerate(scales):
        zero = np.array(128 if kind is np.uint8 else 0, kind)
        constants |= {f"scale{place}": np.float32(scale), f"zero{place}": zero}
        operands = [f"scale{place}", f"zero{place}"]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *operands], [f"q{place}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{place}", *operands], [f"d{place}"]))
        tensor = f"d{place}"
        operators, attributes = BETWEEN[between] if place == 0 else ([], {})
        for operator in operators:
            own = attributes if operator in ("Transpose", "MaxPool") else {}
            nodes.append(helper.make_node(operator, [tensor], [f"{tensor}_{operator}"], **own))
            tensor = f"{tensor}_{operator}"
    graph = helper.make_graph(
        nodes,
        "pairs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8])],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("arithmetic", ["int8", "literal"])
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("scales", [(0.5, 0.01), (0.01, 0.5), (0.3, 0.02, 0.005)])
def test_pairs_in_a_row_are_all_computed(scales, between, arithmetic, kind):
    x = np.random.default_rng(0).uniform(-3, 3, (2, 4, 8)).astype(np.float32)
    expected = x
    for scale in map(np.float32, scales):
        expected = np.clip(np.rint(expected / scale), -128, 127) * scale
    if between in ("Transpose", "two moves"):
        expected = expected.transpose(0, 2, 1) if between == "Transpose" else expected.transpose(2, 1, 0)
    with OnnxRuntimeSession(pairs(scales, between, kind), arithmetic=arithmetic) as session:
        (actual,) = session.run({"x": x}).values()
    np.testing.assert_allclose(actual, expected, atol=1e-6)
