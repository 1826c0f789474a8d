"""Whatever depends on no input is a constant: computed once, by ONNX Runtime, under the name that it has.

onnxscript's folding leaves a node that reads more than 8,192 numbers, or gives more than one tensor. Here

1. each node whose operands are all constant is computed, with what its branches read from outside, but for random
   numbers;
2. its results stay where a node with another operand reads them;
3. of more than 2^18 elements, only weights, biases and what no more than restates its operands: a mask that is written
   out would make the file grow.
"""

from collections.abc import Iterator
from contextlib import suppress

import onnx
import onnx_ir as ir

from calibrators.errors import ModelError
from engines.graph.float_layers import ONNX, ONNX_RUNTIME
from engines.graph.operators import RANDOM, WEIGHTED
from engines.graph.runtime import Judge

LARGEST = 2**18
"""Elements, as in onnxscript's folding."""

MOST_BYTES = 2**30
"""Operands of one node: larger ones do not fit in a model of their own."""

Known = dict[ir.Value, ir.TensorProtocol]


def fold(model: ir.Model) -> None:
    """Replace what depends on no input by the rules above, as far as ONNX Runtime can compute it."""
    graph = model.graph
    inputs = set(graph.inputs)
    known: Known = {
        value: value.const_value
        for value in graph.initializers.values()
        if value.const_value is not None and value not in inputs
    }
    computed = list[ir.Node]()
    for node in graph:
        if _is_constant(node, known):
            with suppress(ModelError):  # an operator, or a type, that ONNX Runtime lacks
                known.update(_results(node, model, known))
                computed.append(node)
    for node in reversed(computed):  # readers first: what they alone read is then not wanted any more
        wanted = [value for value in node.outputs if value.uses()]
        if _is_worth_its_size(node, wanted, known):
            for value in wanted:
                _replace(graph, value, known[value])
            if not any(value.is_graph_output() for value in node.outputs):
                graph.remove(node, safe=True)


def _is_constant(node: ir.Node, known: Known) -> bool:
    within = tuple(_nodes(node))
    if any(each.domain not in (*ONNX, ONNX_RUNTIME) or each.op_type in RANDOM for each in within):
        return False
    tensors = [known.get(value) for value in _operands(node)]
    if any(tensor is None or tensor.dtype == ir.DataType.STRING for tensor in tensors):
        return False
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) <= MOST_BYTES


def _nodes(node: ir.Node) -> Iterator[ir.Node]:
    """A node, and those in its branches."""
    yield node
    for branch in _branches(node):
        yield from ir.traversal.RecursiveGraphIterator(branch)


def _branches(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _operands(node: ir.Node) -> list[ir.Value]:
    """What a node reads, and what its branches take from outside; each once."""
    read, own = dict.fromkeys(value for value in node.inputs if value is not None), set[ir.Value]()
    for each in _nodes(node):
        for branch in _branches(each):
            own.update(branch.inputs, branch.initializers.values())
            read.update(dict.fromkeys(branch.outputs))
        if each is not node:
            own.update(each.outputs)
            read.update(dict.fromkeys(value for value in each.inputs if value is not None))
    return [value for value in read if value not in own]


def _results(node: ir.Node, model: ir.Model, known: Known) -> Known:
    """What a node gives, computed in a model of its own.

    Raises:
        ModelError: ONNX Runtime cannot.
    """
    alone = onnx.ModelProto(ir_version=model.ir_version)
    alone.graph.name = "constant"
    alone.graph.node.append(ir.serde.serialize_node(node))
    alone.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in node.outputs if value.name)
    for domain, version in model.opset_imports.items():
        alone.opset_import.add(domain=domain, version=version)
    for value in _operands(node):
        tensor = known[value]
        copy = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
        alone.graph.initializer.append(ir.serde.serialize_tensor(copy))
    found = Judge(alone).run({})
    named = {value.name: value for value in node.outputs if value.name}
    if named.keys() - found.keys():  # a sequence
        raise ModelError("it gives what is no tensor")
    return {value: ir.tensor(found[name], name=name) for name, value in named.items() if name is not None}


def _is_worth_its_size(node: ir.Node, wanted: list[ir.Value], known: Known) -> bool:
    size = sum(known[value].size for value in wanted)
    read = sum(known[value].size for value in _operands(node))
    weighted = any(reader.op_type in WEIGHTED for value in wanted for reader, _ in value.uses())
    return weighted or size <= max(LARGEST, read)


def _replace(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Let a value's readers read a constant; it has the value's name, unless that is the graph's output too."""
    name = str(value.name)
    constant_name = f"{name}_constant" if value.is_graph_output() else name
    if not value.is_graph_output():
        value.name = f"{name}_computed"
    tensor.name = constant_name
    constant = ir.Value(name=constant_name, const_value=tensor, shape=ir.Shape(tensor.shape.numpy()))
    constant.type = ir.TensorType(tensor.dtype)
    graph.register_initializer(constant)
    for reader, place in tuple(value.uses()):
        reader.replace_input_with(place, constant)
