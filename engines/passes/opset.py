"""The opset of a model, raised or lowered, with the meaning of its operators kept.

1. A lower opset than wanted is raised by onnx's version converter. It leaves what became an attribute to defaults that
   mean something else; here it is set:

   - Upsample, and Resize of opset 10, sample at output position / scale: ``coordinate_transformation_mode`` is
     asymmetric. Nearest neighbours are rounded down, and where all scales shrink, up, as ONNX Runtime does.
   - Hardmax below 13 took all axes from its own on for one: a Flatten before it and a Reshape behind it do that.
2. An opset beyond 21 is lowered as far as its operators have all that the model uses of them: inputs, outputs,
   attributes, and types. The newest operators, QuantizeLinear among them, are ahead of the runtimes. Nothing is
   rewritten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from calibrators.errors import ModelError

LOWEST_OPSET = 13
"""QuantizeLinear and DequantizeLinear take an axis, hence scales per channel, from this opset on."""

SERVES = 21
"""Of an opset this low or lower, nothing is lowered: all that trtcal writes runs wherever this opset does."""

IR_VERSION_OF_21 = 10
"""The IR version that opset 21 came with."""

_FLATTENS_BELOW = 13
_ASYMMETRIC_BELOW = 11


@dataclass(frozen=True, slots=True)
class _Former:
    """A node as it was before the opset was raised.

    Attributes:
        operator: Its type.
        inputs: The names of what it reads.
        axis: Its axis; 1 where it names none, as was the default.
        shrinks: Whether its scales are constant, and none of them enlarges.
    """

    operator: str
    inputs: tuple[str | None, ...]
    axis: int
    shrinks: bool


def raised(model: ir.Model, wanted: int) -> ir.Model:
    """Give a model an opset of `wanted` at least.

    Raises:
        ModelError: Its opset cannot be raised.
    """
    from onnxscript.version_converter import ConvertVersionPass

    opset = model.opset_imports.get("", 0)
    if opset >= wanted:
        return model
    former = {node.outputs[0].name: _former(node) for node in model.graph if node.domain in ("", "ai.onnx")}
    model = ConvertVersionPass(wanted, fallback=True)(model).model
    _rename_as_read(model, former)
    if model.opset_imports.get("", 0) < wanted:
        raise ModelError(
            f"the model's opset {opset} cannot be raised to {wanted}: export it with opset {wanted} or more"
        )
    for node in tuple(model.graph):
        was = former.get(node.outputs[0].name)
        if was is None:
            continue
        if node.op_type == "Resize" and opset < _ASYMMETRIC_BELOW and was.operator in ("Resize", "Upsample"):
            node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
            node.attributes.add(ir.AttrString("nearest_mode", "ceil" if was.shrinks else "floor"))
        elif node.op_type == "Hardmax" and opset < _FLATTENS_BELOW:
            _flatten_around(node, was.axis)
    return model


def _former(node: ir.Node) -> _Former:
    scales = (
        node.inputs[1].const_value if node.op_type == "Resize" and len(node.inputs) == 2 and node.inputs[1] else None
    )
    shrinks = scales is not None and bool((scales.numpy() <= 1).all())
    return _Former(
        node.op_type,
        tuple(None if value is None else value.name for value in node.inputs),
        node.attributes.get_int("axis", 1),
        shrinks,
    )


def _rename_as_read(model: ir.Model, former: Mapping[str | None, _Former]) -> None:
    """Give tensors back the names by which a node of the same output read them: raising an Upsample loses its own."""
    graph = model.graph
    present = {value.name for node in graph for value in node.outputs}
    present |= {value.name for value in (*graph.inputs, *graph.initializers.values())}
    for node in graph:
        was = former.get(node.outputs[0].name)
        for value, name in zip(node.inputs, was.inputs if was else (), strict=False):
            if value is not None and name and name not in present and value.producer() is not None:
                value.name = name
                present.add(name)


def _flatten_around(node: ir.Node, axis: int) -> None:
    """Let a node over its last axis work on all axes from `axis` on as one, as its operator did before opset 13."""
    data, result, graph = node.inputs[0], node.outputs[0], node.graph
    assert data is not None and graph is not None
    node.attributes.add(ir.AttrInt64("axis", -1))
    if data.shape is not None and axis in (-1, len(data.shape) - 1):
        return
    shape = ir.node("Shape", [data], name=f"{node.name}_shape")
    flat = ir.node("Flatten", [data], {"axis": axis}, name=f"{node.name}_flat")
    for added in (shape, flat):
        added.outputs[0].name = added.name
        graph.insert_before(node, added)
    node.replace_input_with(0, flat.outputs[0])
    back = ir.node("Reshape", [result, shape.outputs[0]], name=f"{node.name}_back")
    graph.insert_after(node, back)
    final = back.outputs[0]
    final.shape, final.type = result.shape, result.type
    for reader, place in tuple(result.uses()):
        if reader is not back:
            reader.replace_input_with(place, final)
    for place, output in enumerate(graph.outputs):
        if output is result:
            graph.outputs[place] = final
    final.name, result.name, result.shape = result.name, f"{result.name}_flat", None


def lower(model: ir.Model, wanted: int) -> None:
    """Give a model, whose types are known, an opset of `SERVES` or `wanted` at most where that serves."""
    opset, wanted = model.opset_imports.get("", 0), max(wanted, SERVES)
    if opset <= wanted:
        return
    nodes = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.domain in ("", "ai.onnx")]
    lowest = max((_lowest(node, opset, wanted) for node in nodes), default=opset)
    if lowest < opset:
        model.opset_imports[""] = lowest
        model.ir_version = min(model.ir_version, max(IR_VERSION_OF_21, _ir_version(lowest)))


def _lowest(node: ir.Node, opset: int, wanted: int) -> int:
    """The lowest opset from `wanted` on whose operator has all that a node of opset `opset` uses."""
    while (since := _since(node.op_type, opset)) > wanted:
        try:
            older = onnx.defs.get_schema(node.op_type, since - 1)
        except onnx.defs.SchemaError:  # it came with this opset
            return since
        if not _has_all(older, node):
            return since
        opset = since - 1
    return wanted


def _has_all(schema: onnx.defs.OpSchema, node: ir.Node) -> bool:
    """Whether an operator has all that a node uses of its newer form."""
    if len(node.inputs) > schema.max_input or len(node.outputs) > schema.max_output:
        return False
    if node.op_type == "Mod" and _rounds_floats_down(node):
        return False
    known = set(node.attributes) <= set(schema.attributes)
    return known and _takes(schema.inputs, node.inputs) and _takes(schema.outputs, node.outputs)


def _rounds_floats_down(node: ir.Node) -> bool:
    """Whether this is a Mod of floats with ``fmod`` 0, which opset 28 gave a meaning: no type or attribute tells."""
    data = node.inputs[0]
    floats = data is not None and data.dtype is not None and data.dtype.is_floating_point()
    return floats and not node.attributes.get_int("fmod", 0)


def _takes(formal: Sequence[onnx.defs.OpSchema.FormalParameter], values: Sequence[ir.Value | None]) -> bool:
    """Whether parameters, the last of which may stand for several, allow the types of values, as far as known."""
    return all(
        f"tensor({value.type.dtype.name.lower()})" in formal[min(place, len(formal) - 1)].types
        for place, value in enumerate(values)
        if value is not None and isinstance(value.type, ir.TensorType)
    )


def _since(operator: str, opset: int) -> int:
    """The opset that the operator's form in `opset` came with; for one that ONNX does not know, `opset` itself."""
    try:
        return int(onnx.defs.get_schema(operator, opset).since_version)
    except onnx.defs.SchemaError:
        return opset


def _ir_version(opset: int) -> int:
    return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True))
