"""Small networks, float and with Q/DQ nodes, for tests of graphs and engines."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ZERO = np.int8(0)
"""TensorRT's zero point."""


class Network:
    """Builds an ONNX model node by node; every method gives the name of the tensor it makes."""

    def __init__(self, *shape: int | str, opset: int = 17, input_type: int = TensorProto.FLOAT) -> None:
        self.random = np.random.default_rng(0)
        self.opset = opset
        self.inputs = [helper.make_tensor_value_info("x", input_type, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def quantized(
        self, tensor: str, name: str, *, scale: Any = 0.05, axis: int | None = None, zero_point: Any = ZERO
    ) -> str:
        """Q and DQ, named `name`_Q and `name`_DQ."""
        attributes = {} if axis is None else {"axis": axis}
        scales = self.constant(f"{name}_scale", np.asarray(scale, np.float32))
        zeros = np.broadcast_to(zero_point, np.shape(scale)) if zero_point is not None else None
        operands = [scales, *([] if zeros is None else [self.constant(f"{name}_zero", zeros)])]
        integers = self.node("QuantizeLinear", [tensor, *operands], f"{name}_Q", **attributes)
        return self.node("DequantizeLinear", [integers, *operands], f"{name}_DQ", **attributes)

    def weights(self, name: str, shape: Sequence[int], *, axis: int = 0, quantized: bool = True) -> str:
        values = self.random.normal(0, 0.1, shape).astype(np.float32)
        if not quantized:
            return self.constant(name, values)
        others = tuple(index for index in range(values.ndim) if index != axis % values.ndim)
        scales = np.abs(values).max(axis=others, keepdims=True) / 127
        operands = [
            self.constant(f"{name}_int8", np.rint(values / scales).astype(np.int8)),
            self.constant(f"{name}_scale", scales.reshape(-1).astype(np.float32)),
            self.constant(f"{name}_zero", np.zeros(scales.size, np.int8)),
        ]
        return self.node("DequantizeLinear", operands, f"{name}_DQ", axis=axis)

    def conv(
        self,
        tensor: str,
        name: str,
        channels: tuple[int, int],
        *,
        kernel: int = 3,
        groups: int = 1,
        activations: bool = True,
        weights: bool = True,
        scale: Any = 0.05,
        axis: int | None = None,
        relu: bool = True,
    ) -> str:
        """A convolution, `name`, with a bias and then `name`_relu; quantized on either side or both."""
        if activations:
            tensor = self.quantized(tensor, f"{name}_in", scale=scale, axis=axis)
        before, after = channels
        weight = self.weights(f"{name}_w", (after, before // groups, kernel, kernel), quantized=weights)
        bias = self.constant(f"{name}_b", self.random.normal(0, 0.1, after).astype(np.float32))
        result = self.node("Conv", [tensor, weight, bias], name, pads=[kernel // 2] * 4, group=groups)
        return self.node("Relu", [result], f"{name}_relu") if relu else result

    def batch_normalization(self, tensor: str, name: str, channels: int) -> str:
        parameters = [
            self.constant(f"{name}_{index}", np.abs(self.random.normal(1, 0.1, channels)).astype(np.float32))
            for index in range(4)
        ]
        return self.node("BatchNormalization", [tensor, *parameters], name)

    def model(
        self, *outputs: str, output_type: int = TensorProto.FLOAT, domains: Sequence[str] = ()
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            self.inputs,
            [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


@pytest.fixture
def network() -> type[Network]:
    return Network


@pytest.fixture
def convolutions(network: type[Network]) -> onnx.ModelProto:
    """Two quantized convolutions, c1 and c2, for inputs x of N,16,16,16."""
    built = network("N", 16, 16, 16)
    return built.model(built.conv(built.conv("x", "c1", (16, 32)), "c2", (32, 32)))


@pytest.fixture
def float_convolutions(network: type[Network]) -> onnx.ModelProto:
    """The same in float."""
    built = network("N", 16, 16, 16)
    first = built.conv("x", "c1", (16, 32), activations=False, weights=False)
    return built.model(built.conv(first, "c2", (32, 32), activations=False, weights=False))


@pytest.fixture
def rtx() -> Any:
    """The library of TensorRT for RTX, which builds without a GPU."""
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
