"""Activations as ONNX Runtime's convolutions leave them.

On x86 its convolutions work on a blocked layout (NCHWc: channels in blocks of 8 or 16) and put what somebody else reads
into plain order. Statistics do not care for order. So where calibration is the reader, it takes the blocked tensor, and
point-wise operators in between stay blocked too.
"""

import onnx

BLOCKED = "com.microsoft.nchwc"
BLOCK = 16
"""A number of channels that this divides fills its blocks, whether they are 8 or 16 wide: no padding gets among the
values."""

POINTWISE = frozenset({"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Tanh"})


def without_reordering(model: onnx.ModelProto) -> dict[str, str]:
    """Edit a model that ONNX Runtime has optimized, in place; give the new name of each output that has one."""
    graph = model.graph
    plain_of = {  # plain tensor -> blocked tensor of the same values
        node.output[0]: node.input[0]
        for node in graph.node
        if node.domain == BLOCKED and node.op_type == "ReorderOutput" and _channels(node) % BLOCK == 0
    }
    pointwise = {
        node.output[0]: node for node in graph.node if node.op_type in POINTWISE and node.domain in ("", "ai.onnx")
    }
    added: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.domain == BLOCKED and node.op_type == "ReorderInput" and node.input[0] in pointwise:
            function = pointwise[node.input[0]]
            if function.input[0] in plain_of:
                stays = onnx.NodeProto()
                stays.CopyFrom(function)
                stays.name = f"{function.name or function.output[0]}_blocked"
                stays.input[0] = plain_of[function.input[0]]
                stays.output[0] = node.output[0]
                nodes.append(stays)
                added[function.output[0]] = node.output[0]
                continue
        nodes.append(node)
    renamed: dict[str, str] = {}
    for output in graph.output:
        name = plain_of.get(output.name) or added.get(output.name)
        if name is not None and name not in renamed.values():
            renamed[output.name] = name
            output.CopyFrom(onnx.ValueInfoProto(name=name))
    _drop_unread(nodes, {output.name for output in graph.output})
    del graph.node[:]
    graph.node.extend(nodes)
    return renamed


def _drop_unread(nodes: list[onnx.NodeProto], wanted: set[str]) -> None:
    """Remove nodes whose outputs nobody reads."""
    read = set(wanted)
    kept = []
    for node in reversed(nodes):
        if read & set(node.output) or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            kept.append(node)
            read.update(node.input)
            for attribute in node.attribute:
                read.update(name for inner in attribute.g.node for name in inner.input)
    nodes[:] = reversed(kept)


def _channels(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "channels"), 1)
