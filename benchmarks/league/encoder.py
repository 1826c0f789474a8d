"""A small transformer from a seed, with outlier channels: after some normalizations a few channels are far larger."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

TOKENS, WIDTH, HEADS, LAYERS, CLASSES = 24, 96, 4, 2, 10
OUTLIERS = 3
"""Channels of a normalization that are scaled up: large language models have a few in a thousand."""

VOCABULARY = 200

Floats = npt.NDArray[np.float32]


def embeddings(count: int, *, seed: int) -> Floats:
    """Sequences of tokens as a model's first layer sees them, shape (count, TOKENS, WIDTH)."""
    table = np.random.default_rng(5).standard_normal((VOCABULARY, WIDTH), np.float32)
    rng = np.random.default_rng([7, seed])
    noise = 0.3 * rng.standard_normal((count, TOKENS, WIDTH), np.float32)
    return np.asarray(table[rng.integers(0, VOCABULARY, (count, TOKENS))] + noise, np.float32)


def encoder(*, seed: int, gain: float) -> onnx.ModelProto:
    """BERT's encoder (Devlin et al., 2018: normalization after each addition, GELU by Erf), and a classifier.

    Args:
        seed: Of its weights.
        gain: By how much the outliers are larger.
    """
    graph = _Graph(seed, gain)
    x = graph.normalized("x")
    for layer in range(LAYERS):
        x = graph.normalized(graph.add("Add", x, graph.attention(x)), outliers=True)
        x = graph.normalized(graph.add("Add", x, graph.feed_forward(x)), outliers=layer < LAYERS - 1)
    return graph.classifier(x)


class _Graph:
    """A graph under way: each method adds nodes and gives the name of the last one's output."""

    def __init__(self, seed: int, gain: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._gain = gain
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def normalized(self, x: str, *, outliers: bool = False) -> str:
        scale, shift = self._rng.normal(1, 0.1, WIDTH), self._rng.normal(0, 0.1, WIDTH)
        if outliers:
            chosen = self._rng.choice(WIDTH, OUTLIERS, replace=False)
            scale[chosen] *= self._gain
            shift[chosen] += self._gain / 2 * np.sign(self._rng.standard_normal(OUTLIERS))
        return self.add("LayerNormalization", x, self._constant(scale), self._constant(shift), axis=-1, epsilon=1e-5)

    def attention(self, x: str) -> str:
        split = self._constant(np.array([0, TOKENS, HEADS, WIDTH // HEADS]))
        query, key, value = (
            self.add("Transpose", self.add("Reshape", self._linear(x, WIDTH, WIDTH), split), perm=order)
            for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = self.add("Mul", self.add("MatMul", query, key), self._constant(np.array((WIDTH / HEADS) ** -0.5)))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        whole = self._constant(np.array([0, TOKENS, WIDTH]))
        joined = self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), whole)
        return self._linear(joined, WIDTH, WIDTH)

    def feed_forward(self, x: str) -> str:
        x = self._linear(x, WIDTH, 4 * WIDTH)
        error = self.add("Erf", self.add("Mul", x, self._constant(np.array(2**-0.5))))
        gate = self.add("Mul", self.add("Add", error, self._constant(np.array(1.0))), self._constant(np.array(0.5)))
        return self._linear(self.add("Mul", x, gate), 4 * WIDTH, WIDTH)

    def classifier(self, x: str) -> onnx.ModelProto:
        """End in the mean over tokens and a fully connected layer; give the whole, checked."""
        x = self.add("ReduceMean", x, axes=[1], keepdims=0)
        weight = self._constant(self._rng.normal(0, WIDTH**-0.5, (WIDTH, CLASSES)))
        self._nodes.append(helper.make_node("MatMul", [x, weight], ["logits"], name="classifier"))
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", TOKENS, WIDTH])]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])]
        graph = helper.make_graph(self._nodes, "encoder", inputs, outputs, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model

    def _linear(self, x: str, channels: int, out: int) -> str:
        weight = self._constant(self._rng.normal(0, channels**-0.5, (channels, out)))
        return self.add("Add", self.add("MatMul", x, weight), self._constant(self._rng.normal(0, 0.05, out)))

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self._initializers)}"
        kind = np.float32 if values.dtype.kind == "f" else np.int64
        self._initializers.append(numpy_helper.from_array(values.astype(kind), name))
        return name
