"""Detector heads as small ONNX models: raw maps of a grid go in, the layout of a family comes out."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Maps = Mapping[str, np.ndarray]


class Head:
    """A graph that grows node by node; every input is a float map of free batch size.

    Values are named as they come; a constant is given as an array.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str | np.ndarray, outputs: int = 1, name: str = "", **attributes: object):
        """The name of what a node gives, or the names where it gives several."""
        names = [name or f"value{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, [self._named(value) for value in inputs], names, **attributes))
        return names[0] if outputs == 1 else names

    def run(self, maps: Maps, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs, in ONNX Runtime."""
        graph = helper.make_graph(
            self.nodes,
            "head",
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", *v.shape[1:]]) for k, v in maps.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return dict(zip(outputs, session.run(list(outputs), dict(maps)), strict=True))

    def _named(self, value: str | np.ndarray) -> str:
        if isinstance(value, str):
            return value
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def maps(seed: int, samples: int, channels: int, size: tuple[int, int], strides=(8, 16, 32), spread=1.0) -> Maps:
    """Random maps, one a stride: float32 of shape (samples, channels, height / stride, width / stride)."""
    generator = np.random.default_rng(seed)
    return {
        f"map{s}": generator.normal(0, spread, (samples, channels, size[0] // s, size[1] // s)).astype(np.float32)
        for s in strides
    }


def flat(head: Head, name: str, channels: int) -> str:
    """A map (N, channels, height, width) as (N, channels, cells)."""
    return head.add("Reshape", name, np.array([0, channels, -1]))


def cell_corners(size: tuple[int, int], strides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of all cells, float32 of shape (2, cells), and their strides, (1, cells)."""
    places = [(x, y, s) for s in strides for y in range(size[0] // s) for x in range(size[1] // s)]
    columns = np.array(places, np.float32).T
    return columns[:2], columns[2:]
