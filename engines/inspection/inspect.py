"""What an engine really runs: in which precision each Conv, Gemm and MatMul, and which Q/DQ pairs came to nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.graph.operators import WEIGHTED, label
from engines.inspection.kernels import Kernel
from engines.qdq.read import DEQUANTIZE, QUANTIZE
from engines.structure.findings import Finding

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Operator:
    """A weighted operator of the model, as the engine runs it.

    Attributes:
        node: Its name in the model.
        op_type: Conv, ConvTranspose, Gemm or MatMul.
        precision: INT8, FP16, FP32, ...; None where it cannot be told: no kernel names it, as when it was computed at
            build time.
        kernel: The kernel that runs it; None where no kernel names it.
        quantized: Whether the model has a DequantizeLinear on any of its inputs.
    """

    node: str
    op_type: str
    precision: str | None
    kernel: str | None
    quantized: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in ("node", "op_type", "precision", "kernel", "quantized")}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Operator":
        """Undo `to_dict`."""
        return cls(**{name: value[name] for name in ("node", "op_type", "precision", "kernel", "quantized")})


def operators_of(model: "onnx.ModelProto", kernels: Iterable[Kernel]) -> tuple[Operator, ...]:
    """Every weighted operator of the model that was built, with the kernel that runs it.

    A kernel that multiplies goes before generated ones: a convolution's name is also on the kernels that prepare its
    input and scale its output. A product with a single row may be a generated kernel. TensorRT-RTX turns some 1x1
    convolutions into matrix products and forgets their names: where there are as many nameless kernels that multiply by
    constants as operators that no kernel names, and all work in one precision, that is theirs.
    """
    kernels = tuple(kernels)
    by_node = _by_node(kernels)
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    nameless = [kernel for kernel in kernels if not kernel.nodes and not kernel.generated and kernel.constants]
    forgotten = [node for node in nodes if label(node) not in by_node]
    common = {kernel.precision for kernel in nameless}
    theirs = common.pop() if len(nameless) == len(forgotten) and len(common) == 1 else None
    dequantized = _dequantized(model)
    operators = []
    for node in nodes:
        kernel = min(by_node.get(label(node), ()), key=lambda item: item.generated, default=None)
        operators.append(
            Operator(
                node=label(node),
                op_type=node.op_type,
                precision=kernel.precision if kernel is not None else theirs,
                kernel=kernel.name if kernel is not None else None,
                quantized=any(name in dequantized for name in node.input[:2]),
            )
        )
    return tuple(operators)


def findings_of(model: "onnx.ModelProto", kernels: Iterable[Kernel]) -> tuple[Finding, ...]:
    """The Q/DQ nodes of the model that was built which did not become INT8 arithmetic or INT8 storage."""
    kernels = tuple(kernels)
    return (
        *_float_despite_quantizers(model, kernels),
        *_round_trips(model, kernels),
        *_lone_quantizers(model, kernels),
    )


def rescaling(kernels: Iterable[Kernel]) -> int:
    """How many FP32 kernels finish what an INT8 kernel wrote in FP32.

    TensorRT-RTX's INT8 convolutions write FP32 (its log shows it); a generated kernel behind each adds the bias,
    activates, and quantizes for the next.
    """
    kernels = tuple(kernels)
    written = {
        tensor.name
        for kernel in kernels
        if kernel.precision == "INT8" and not kernel.generated
        for tensor in kernel.outputs
        if tensor.type == "Float"
    }
    return sum(
        kernel.generated and kernel.precision == "FP32" and any(tensor.name in written for tensor in kernel.inputs)
        for kernel in kernels
    )


def counted(precisions: Iterable[str | None]) -> dict[str, int]:
    """How many of each precision, narrowest first; what has none is not counted."""
    order = ("INT4", "FP4", "INT8", "FP8", "FP16", "BF16", "FP32", "FP64")
    counts = Counter(precision for precision in precisions if precision)
    return {precision: counts[precision] for precision in order if counts[precision]}


def _float_despite_quantizers(model: "onnx.ModelProto", kernels: tuple[Kernel, ...]) -> Iterator[Finding]:
    for operator in operators_of(model, kernels):
        if operator.quantized and operator.precision in ("FP16", "BF16", "FP32", "FP64"):
            message = (
                f"{operator.op_type} {operator.node} has Q/DQ inputs and runs in {operator.precision} "
                f"(kernel {operator.kernel}): its quantization costs accuracy and gains no speed"
            )
            yield Finding("warning", "float-despite-qdq", (operator.node,), message)


def _round_trips(model: "onnx.ModelProto", kernels: tuple[Kernel, ...]) -> Iterator[Finding]:
    """Pairs that one generated kernel computes on its own: quantized and dequantized on the spot."""
    by_node = _by_node(kernels)
    quantizes = {node.output[0]: node for node in model.graph.node if node.op_type == QUANTIZE}
    for node in model.graph.node:
        if node.op_type != DEQUANTIZE or node.input[0] not in quantizes:
            continue
        quantize, dequantize = label(quantizes[node.input[0]]), label(node)
        naming = by_node.get(dequantize, [])
        if len(naming) == 1 and naming[0].generated and quantize in naming[0].nodes:
            message = (
                f"{quantize} and {dequantize} are a round trip within the {naming[0].precision} kernel "
                f"{naming[0].name}: no INT8 comes of them, which costs a little time and is harmless otherwise"
            )
            yield Finding("note", "round-trip", (quantize, dequantize), message)


def _lone_quantizers(model: "onnx.ModelProto", kernels: tuple[Kernel, ...]) -> Iterator[Finding]:
    """Kernels that do nothing but quantize, or dequantize weights."""
    quantizers = {label(node): node for node in model.graph.node if node.op_type in (QUANTIZE, DEQUANTIZE)}
    casts = {label(node): node for node in model.graph.node if node.op_type == "Cast"}
    inputs = {value.name for value in model.graph.input}
    inputs |= {node.output[0] for node in casts.values() if node.input[0] in inputs}
    inputs |= {node.output[0] for node in casts.values() if node.input[0] in inputs}  # FP32 -> FP16 -> FP32
    for kernel in kernels:
        if not kernel.generated:
            continue
        nodes = tuple(name for name in kernel.nodes if name not in casts)
        found = tuple(name for name in nodes if name in quantizers)
        lone = found == nodes and bool(found)
        writes = any(tensor.type == "Int8" for tensor in kernel.outputs)
        quantizes = tuple(name for name in found if quantizers[name].op_type == QUANTIZE)
        entry = [name for name in quantizes if writes and quantizers[name].input[0] in inputs]
        if lone and not kernel.inputs:
            message = (
                f"the INT8 weights behind {', '.join(found)} are dequantized at every run, by the kernel {kernel.name}"
            )
            yield Finding("warning", "weights-dequantized", found, message)
        elif entry:
            message = (
                f"{entry[0]} quantizes an input of the engine, and is a kernel of its own ({kernel.name}): {_COSTS}"
            )
            yield Finding("note", "lone-quantize", (entry[0],), message)
        elif lone and writes and quantizes == found:
            message = (
                f"{', '.join(found)} is a kernel of its own ({kernel.name}): it reads {kernel.inputs[0]}; {_COSTS}"
            )
            yield Finding("note", "lone-quantize", found, message)


_COSTS = "that costs a little time"


def _dequantized(model: "onnx.ModelProto") -> set[str]:
    """Tensors that come from a DequantizeLinear, through a Cast or not."""
    found = {name for node in model.graph.node if node.op_type == DEQUANTIZE for name in node.output}
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    return found | {node.output[0] for node in casts if node.input[0] in found}


def _by_node(kernels: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    found: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        for name in kernel.nodes:
            found.setdefault(name, []).append(kernel)
    return found
