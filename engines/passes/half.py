"""FP16: a float or Q/DQ model whose every tensor that may be half precision is, written out node by node.

A strongly typed TensorRT takes no FP16 flag: the graph itself must say each tensor's type.

1. Graph inputs and outputs stay FP32; a Cast stands at each.
2. What is computed from the inputs becomes FP16 wherever the ONNX operator has an FP16 form; the operator's schema
   decides, so what must be float (Resize's scales) stays float.
3. QuantizeLinear and DequantizeLinear stay FP32 with their scales, a Cast before and after. Scales are exact, no
   opset has to be raised, and TensorRT-RTX 1.7 builds the same INT8 kernels as from FP16 scales.
4. What is computed from constants and shapes alone stays FP32 up to where it meets an activation.
5. What leaves FP16's range although its inputs do not (powers, exponentials, sums of squares) stays FP32 until an
   operator brings it back (root, quotient, logarithm): an unfused LayerNorm, GELU or softmax is computed in FP32.
   Convolutions and matrix products are FP16 even there, which is reported.
6. Operators that are named to be kept stay FP32, and so does what follows them up to the next convolution or matrix
   product: an activation in FP16 would lose what they are kept for. Where some are named to be FP16 alone, all others
   stay FP32. Between what is kept and the Cast behind it stands a maximum with the smallest number, which changes
   nothing: where a convolution or product has a Cast on either side, TensorRT-RTX 1.7 drops both and computes in FP16.
7. A constant beyond 65504, or one that is smaller than 2^-14 throughout and would lose digits or vanish, keeps its
   operator in FP32; so do control flow and operators of other domains. Each of these is reported. A bound of Clip
   beyond 65504 becomes infinite, which is the same.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibrators.errors import ModelError
from engines.graph.operators import WEIGHTED, label

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

LARGEST = float(np.finfo(np.float16).max)
"""65504."""

SMALLEST = float(np.finfo(np.float16).smallest_normal)
"""2^-14: what is smaller has fewer than 11 significant bits."""

_INITIALIZERS_APART = 4
"""The IR version from which initializers need not be graph inputs."""

_QUANTIZATION = frozenset({"QuantizeLinear", "DequantizeLinear"})
_WIDENING = frozenset({"Pow", "Exp", "ReduceSumSquare", "ReduceProd", "ReduceLogSumExp", "CumSum", "CumProd"})
_NARROWING = frozenset(
    {"Sqrt", "Log", "Reciprocal", "Sigmoid", "Tanh", "Erf", "Softmax", "LogSoftmax", "ReduceLogSumExp"}
)
_MULTIPLYING = frozenset({*WEIGHTED, "Einsum"})
_PRECISE = frozenset({"ReduceL1", "ReduceL2", "ReduceLogSum", "LpNormalization", "LRN", "GridSample", "Range"})
"""Sums of squares inside, or coordinates: in FP32 themselves, results of ordinary size."""

_ADDED = {"BatchNormalization": (2, 3), "Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,)}
_ADDED |= dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization"), (2,))
"""Inputs that are added to something larger, such as a bias: nothing is lost where they vanish."""


@dataclass(frozen=True, slots=True)
class HalfModel:
    """What the pass made.

    Attributes:
        model: With FP16 tensors; inputs and outputs as they were.
        notes: A line on each operator that a constant, or its kind, keeps in FP32, or that may overflow in FP16.
    """

    model: "onnx.ModelProto"
    notes: tuple[str, ...]


def to_half(model: "onnx.ModelProto", *, keep: Collection[str] = (), only: Collection[str] | None = None) -> HalfModel:
    """Convert what `model` computes in FP32 to FP16, by the rules above; `model` itself is not changed.

    Args:
        model: Float, or with Q/DQ nodes.
        keep: Labels (`engines.graph.operators.label`) of operators that stay FP32.
        only: Labels of operators besides which all stay FP32; None lets all be FP16.

    Raises:
        ModelError: The type of a tensor cannot be told.
    """
    import onnx_ir as ir
    from onnx_ir.passes import common

    # It reports what it cannot infer with a traceback; `_is_float` says it in words.
    logging.getLogger("onnx_ir.passes.common.shape_inference").setLevel(logging.ERROR)
    if any(node.op_type == "Constant" for node in model.graph.node):
        original, model = model, type(model)()
        model.CopyFrom(original)  # lifting names the tensors of Constant nodes, which the two would share
    graph_model = ir.serde.deserialize_model(model)
    graph_model.ir_version = max(graph_model.ir_version, _INITIALIZERS_APART)
    if graph_model.functions:
        common.InlinePass()(graph_model)
    common.RemoveInitializersFromInputsPass()(graph_model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph_model)
    common.ShapeInferencePass(check_type=False, strict_mode=False)(graph_model)
    conversion = _Conversion(graph_model.graph, keep=frozenset(keep), only=None if only is None else frozenset(only))
    conversion.run()
    return HalfModel(ir.serde.serialize_model(graph_model), tuple(conversion.notes))


class _Conversion:
    """One walk through a graph in topological order.

    Attributes:
        notes: See `HalfModel`.
    """

    def __init__(self, graph: "ir.Graph", *, keep: frozenset[str], only: frozenset[str] | None) -> None:
        import onnx_ir as ir

        graph.sort()
        self.notes: list[str] = []
        self._graph, self._keep, self._only = graph, keep, only
        self._float, self._half = ir.DataType.FLOAT, ir.DataType.FLOAT16
        self._activations: set[ir.Value] = set(graph.inputs)
        self._wide: set[ir.Value] = set()
        self._kept: set[ir.Value] = set()
        self._halved: set[ir.Value] = set()
        self._twins: dict[ir.Value, ir.Value] = {}
        self._names = {value.name for node in graph.all_nodes() for value in node.outputs}
        self._names |= {value.name for value in graph.inputs} | set(graph.initializers)

    def run(self) -> None:
        for node in tuple(self._graph):
            inputs = [value for value in _reads(node) if value is not None]
            if node.op_type not in ("Shape", "Size") and any(value in self._activations for value in inputs):
                self._activations.update(node.outputs)
            if self._becomes_half(node):
                self._to_half(node)
            else:
                self._stay_float(node)
        self._restore_outputs()
        self._replace_constants()

    def _becomes_half(self, node: "ir.Node") -> bool:
        if not any(self._is_float(value) for value in (*_reads(node), *node.outputs)):
            return False
        if not any(value in self._activations for value in node.outputs) or node.op_type in _QUANTIZATION:
            return False
        name, named = f"{node.op_type} {node.name or node.outputs[0].name}", label(node)
        if self._is_wide(node) or node.op_type in _PRECISE:
            if self._only is not None and named in self._only:
                self.notes.append(f"{name} stays in FP32: it computes, or computes with, what may be beyond 65504")
            return False
        if self._is_kept(node):
            self._kept.update(node.outputs)
            return False
        if reason := self._obstacle(node):
            self.notes.append(f"{name} stays in FP32: {reason}")
            return False
        if wide := [value.name for value in node.inputs if value in self._wide]:
            self.notes.append(f"{name} reads {wide[0]} in FP16, which a power or an exponential may take beyond 65504")
        return True

    def _is_kept(self, node: "ir.Node") -> bool:
        """Whether `node` is to stay FP32, or follows one that is.

        A batch normalization goes with the operator that it is folded into.
        """
        if node.op_type == "BatchNormalization" and node.inputs[0] is not None:
            producer = node.inputs[0].producer()
            if producer is not None and producer.op_type in WEIGHTED:
                return self._is_kept(producer)
        if node.op_type not in _MULTIPLYING and any(value in self._kept for value in node.inputs):
            return True
        return label(node) in self._keep or (self._only is not None and label(node) not in self._only)

    def _is_wide(self, node: "ir.Node") -> bool:
        """Whether `node` computes, or computes with, what may be beyond 65504; marks its results."""
        reads_wide = node.op_type not in _MULTIPLYING and any(value in self._wide for value in node.inputs)
        squares = node.op_type == "Mul" and node.inputs[0] is node.inputs[1]
        if not (reads_wide or squares or node.op_type in _WIDENING):
            return False
        quotient = node.op_type == "Div" and node.inputs[1] in self._wide
        if node.op_type not in _NARROWING and not quotient:
            self._wide.update(value for value in node.outputs if self._is_float(value))
        return True

    def _obstacle(self, node: "ir.Node") -> str:
        """Why `node` cannot be FP16; empty if it can."""
        if any(True for _ in _subgraphs(node)):
            return "it holds a graph of its own"
        types = _half_types(node, self._graph.opset_imports.get(node.domain, 1))
        if types is None:
            return "it is no standard ONNX operator"
        for index, (value, halvable) in enumerate(zip(node.inputs, types[0], strict=True)):
            if value is not None and halvable and self._is_float(value):
                largest = _largest(value)
                if largest is not None and largest > LARGEST and node.op_type != "Clip":
                    return f"the constant {value.name} reaches {largest:.6g}, beyond FP16's {LARGEST:.0f}"
                if largest is not None and 0 < largest < SMALLEST and index not in _ADDED.get(node.op_type, ()):
                    return f"the constant {value.name} is at most {largest:.6g}, below FP16's smallest normal number"
        return ""

    def _to_half(self, node: "ir.Node") -> None:
        types = _half_types(node, self._graph.opset_imports.get(node.domain, 1))
        assert types is not None  # `_obstacle` has asked
        takes, gives = types
        for index, (value, halvable) in enumerate(zip(node.inputs, takes, strict=True)):
            if value is not None and halvable != (value in self._halved) and self._is_float(value):
                node.replace_input_with(index, self._twin(value))
        for value, halvable in zip(node.outputs, gives, strict=True):
            if halvable and self._is_float(value):
                value.dtype = self._half
                self._halved.add(value)

    def _stay_float(self, node: "ir.Node") -> None:
        for inner in (node, *_inner_nodes(node)):
            for index, value in enumerate(inner.inputs):
                if value is not None and value in self._halved:
                    inner.replace_input_with(index, self._twin(value))

    def _restore_outputs(self) -> None:
        for index, value in enumerate(self._graph.outputs):
            if value in self._halved:
                twin, name = self._twin(value), value.name
                value.name = self._fresh(f"{name}_fp16")
                twin.name = name
                self._graph.outputs[index] = twin

    def _replace_constants(self) -> None:
        """Let the FP16 twin of a constant that nothing reads in FP32 any more take its place and name."""
        initializers = self._graph.initializers
        for value, twin in self._twins.items():
            if value.is_initializer() and not value.uses() and not value.is_graph_output():
                assert value.name is not None and twin.name is not None
                del initializers[value.name], initializers[twin.name]
                twin.name = value.name
                self._graph.register_initializer(twin)

    def _twin(self, value: "ir.Value") -> "ir.Value":
        """`value` in the other type: made once, by a Cast behind the producer, or as a constant of its own."""
        if value not in self._twins:
            self._twins[value] = self._constant_twin(value) if value.is_initializer() else self._cast(value)
        return self._twins[value]

    def _constant_twin(self, value: "ir.Value") -> "ir.Value":
        import onnx_ir as ir

        assert value.const_value is not None
        name = self._fresh(f"{value.name}_fp16")
        with np.errstate(over="ignore"):  # only the bounds of a Clip: `_obstacle` has seen to the others
            tensor = ir.tensor(value.const_value.numpy().astype(np.float16), name=name)
        twin = ir.Value(name=name, shape=value.shape, type=ir.TensorType(self._half), const_value=tensor)
        self._graph.register_initializer(twin)
        return twin

    def _cast(self, value: "ir.Value") -> "ir.Value":
        import onnx_ir as ir

        to, suffix = (self._float, "fp32") if value in self._halved else (self._half, "fp16")
        producer = value.producer()
        if producer is not None and value not in self._halved and self._may_be_dropped(producer):
            value = self._behind_maximum(value, producer)
        name = self._fresh(f"{value.name}_{suffix}")
        cast = ir.node("Cast", [value], {"to": int(to)}, name=name)
        twin = cast.outputs[0]
        twin.name, twin.shape, twin.type = name, value.shape, ir.TensorType(to)
        if (producer := value.producer()) is not None:
            self._graph.insert_after(producer, cast)
        else:
            self._graph.insert_before(self._graph[0], cast)
        return twin

    def _may_be_dropped(self, node: "ir.Node") -> bool:
        """Whether `node` was told to stay FP32, and casts around it may make a builder think otherwise."""
        kept = self._only is None and any(value in self._kept for value in node.outputs)
        return kept or label(node) in self._keep or (self._only is not None and node.op_type in WEIGHTED)

    def _behind_maximum(self, value: "ir.Value", producer: "ir.Node") -> "ir.Value":
        import onnx_ir as ir

        name = self._fresh(f"{value.name}_lowest")
        lowest = ir.tensor(np.array(np.finfo(np.float32).min), name=name)
        constant = ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(self._float), const_value=lowest)
        self._graph.register_initializer(constant)
        name = self._fresh(f"{value.name}_kept")
        maximum = ir.node("Max", [value, constant], name=name)
        kept = maximum.outputs[0]
        kept.name, kept.shape, kept.type = name, value.shape, value.type
        self._graph.insert_after(producer, maximum)
        return kept

    def _fresh(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _is_float(self, value: "ir.Value | None") -> bool:
        """Whether `value` was FP32 in the model given, whatever it is now."""
        if value is None or not value.name:  # absent, or an output that nobody asked for
            return False
        if value.dtype is None:
            producer = value.producer()
            maker = f"{producer.op_type} {producer.name or ''}".strip() if producer else "the graph"
            raise ModelError(
                f"cannot convert to FP16: the type of {value.name}, which {maker} gives, is unknown; run the model "
                "through "
                "onnx.shape_inference or build it with --precision fp32"
            )
        return value in self._halved or value.dtype == self._float


def _reads(node: "ir.Node") -> "Iterator[ir.Value | None]":
    """What `node` reads, with what the graphs inside it take from outside."""
    yield from node.inputs
    for inner in _inner_nodes(node):
        yield from inner.inputs


def _inner_nodes(node: "ir.Node") -> "Iterator[ir.Node]":
    for graph in _subgraphs(node):
        for inner in graph:
            yield inner
            yield from _inner_nodes(inner)


def _subgraphs(node: "ir.Node") -> "Iterator[ir.Graph]":
    import onnx_ir as ir

    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _half_types(node: "ir.Node", opset: int) -> tuple[list[bool], list[bool]] | None:
    """Per input and per output, whether it may be FP16; None for an operator that ONNX does not define.

    An output may where its type is that of an input, so that both change together: Cast's and ConstantOfShape's are
    their own.
    """
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, opset, node.domain)
    except defs.SchemaError:
        return None
    allowed = {item.type_param_str for item in schema.type_constraints if "tensor(float16)" in item.allowed_type_strs}
    takes = [_formal(schema.inputs, index) in allowed for index in range(len(node.inputs))]
    bound = {
        _formal(schema.inputs, index) for index, value in enumerate(node.inputs) if value is not None and takes[index]
    }
    return takes, [_formal(schema.outputs, index) in bound for index in range(len(node.outputs))]


def _formal(parameters: "Iterable[onnx.defs.OpSchema.FormalParameter]", index: int) -> str:
    """The type variable of the parameter at `index`; the last one may stand for any number."""
    parameters = list(parameters)
    return str(parameters[min(index, len(parameters) - 1)].type_str)


def _largest(value: "ir.Value") -> float | None:
    """The largest finite magnitude in a constant, behind a DequantizeLinear too; None for anything else."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0] is not None:
        scale = producer.inputs[1] if producer.inputs[0].is_initializer() else None
        reach = _largest(scale) if scale is not None else None
        return None if reach is None else 128 * reach
    if not value.is_initializer() or value.const_value is None:
        return None
    numbers = np.abs(value.const_value.numpy())
    finite = numbers[np.isfinite(numbers)]
    return float(finite.max()) if finite.size else None
