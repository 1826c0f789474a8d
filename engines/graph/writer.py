"""New nodes and constants in a graph, under names that it does not have yet."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


class GraphWriter:
    """Adds to a graph, and to the names that count as taken: those of its branches and loop bodies too."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._constants: dict[str, list[tuple[npt.NDArray[np.generic], ir.Value]]] = {}
        self._taken: set[str | None] = {*graph.initializers, *(value.name for value in graph.inputs)}
        for node in ir.traversal.RecursiveGraphIterator(graph):
            self._taken |= {node.name, *(value.name for value in node.outputs)}
            if node.graph is not graph and node.graph is not None:
                self._taken |= {*node.graph.initializers, *(value.name for value in node.graph.inputs)}

    def node(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        *,
        name: str,
        outputs: Sequence[str],
        before: ir.Node,
        attributes: Mapping[str, int | ir.Attr] | None = None,
    ) -> tuple[ir.Value, ...]:
        """Add a node before its reader; give its outputs.

        Args:
            operator: Of ONNX itself.
            inputs: None for one that is left out.
            name: The node's, changed where it is taken.
            outputs: Their names, changed in the same way.
            before: The reader.
            attributes: By name.
        """
        node = ir.node(operator, inputs, attributes=attributes, name=self.free(name), num_outputs=len(outputs))
        for value, wanted in zip(node.outputs, outputs, strict=True):
            value.name = self.free(wanted)
        self.graph.insert_before(before, node)
        return tuple(node.outputs)

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer; the same one where it was made before under the same name."""
        for made, known in self._constants.setdefault(name, []):
            if made.dtype == array.dtype and np.array_equal(made, array):
                return known
        value = ir.Value(name=self.free(name), const_value=ir.tensor(array, name=name))
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self.graph.register_initializer(value)
        self._constants[name].append((array, value))
        return value

    def free(self, name: str) -> str:
        """A name that nothing in the graph has yet; it is taken from now on."""
        candidate, number = name, 0
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate
