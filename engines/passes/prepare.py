"""The form of a model that quantization starts from."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.errors import ModelError, TrtcalError, one_line
from engines.graph.model import ModelSource, as_stored, load_model, loaded
from engines.graph.operators import label
from engines.passes.fold import fold
from engines.passes.opset import IR_VERSION_OF_21, LOWEST_OPSET, lower, raised
from engines.passes.parts import name_parts, parts_taken
from engines.passes.proof import proved
from engines.passes.single import as_single, narrow_type

WIDENED = "trtcal.widened"
"""Of a prepared model: FP16 or bfloat16, where it computed in that and now does in float32."""

WIDENED_NOTE = (
    "the model computes in {}: what is written does in float32 where it is not INT8, and its inputs and outputs are "
    "float32, too; what computes in FP16 is chosen when the engine is built"
)

UNPROVED = "trtcal.unproved"
"""Of a prepared model: why it was not proved to compute what the original does, in words; empty where it was."""

_NUMBERED_SPLITS = 18
"""The opset that gave Split its ``num_outputs``."""

LOWEST_IR_VERSION = 8
"""Before version 4, initializers had to be inputs too; 8 goes with opset 15 and is read by every runtime of
interest."""


def prepared(model: ModelSource, *, opset: int = LOWEST_OPSET, light: bool = False) -> ir.Model:
    """The model with functions inlined, constants and batch normalization folded, in float32, and its opset raised.

    That it computes what the model did is proved on a sample (`engines.passes.proof`), unless weights are left in the
    file. Why that was not possible stands in ``meta`` of what is returned, under `UNPROVED`.

    The tensors that remain keep their names: a convolution with a folded batch normalization gives the latter's output.
    Operators keep theirs, and those without one are named as `engines.graph.operators.label` has it.

    Args:
        model: A path, or a model in memory.
        opset: What its opset is at least.
        light: Leave large weights in the file, and do not have the model checked.

    Raises:
        ModelError: The model cannot be read, its opset cannot be raised, or it would compute something else.
    """
    from onnxscript.optimizer import fold_constants

    with quiet(), _told():
        graph = _read_light(model) if light and not isinstance(model, onnx.ModelProto) else _read(model)
        common.InlinePass()(graph)
        common.RemoveInitializersFromInputsPass()(graph)
        for node in graph.graph:  # before a pass numbers those without a name
            node.name = label(node)
        if narrow := narrow_type(graph):
            as_single(graph)
            graph.meta[WIDENED] = narrow
        graph = raised(graph, opset)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        _infer_types(graph)
        lower(graph, opset)
        taken = parts_taken(graph.graph)
        fold_constants(graph, onnx_shape_inference=False)
        name_parts(graph.graph, taken)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)  # what it found: shapes
        _plain_splits(graph)
        fold(graph)
        _fold_batch_normalization(graph)
        common.RemoveUnusedNodesPass()(graph)
        common.RemoveUnusedOpsetsPass()(graph)
    graph.ir_version = max(graph.ir_version, LOWEST_IR_VERSION if opset <= LOWEST_OPSET else IR_VERSION_OF_21)
    if not light:  # else whoever reads the weights proves it
        with _told():
            graph.meta[UNPROVED] = proved(model, graph)
    return graph


def widening_notes(graph: ir.Model) -> tuple[str, ...]:
    """What is to be said of a prepared model that computed in another type."""
    return (WIDENED_NOTE.format(graph.meta[WIDENED]),) if WIDENED in graph.meta else ()


def _read(model: ModelSource) -> ir.Model:
    if isinstance(model, onnx.ModelProto):
        return ir.from_proto(loaded(model))
    load_model(model, weights=False)
    if as_stored(model):
        return ir.load(os.fspath(model))  # weights stay in their file until they are asked for
    return ir.from_proto(load_model(model, check=False))


def _read_light(path: str | os.PathLike[str]) -> ir.Model:
    model = ir.from_proto(loaded(path))
    ir.external_data.set_base_dir(model.graph, Path(path).absolute().parent)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries log of shapes they cannot infer and nodes they cannot fold, tracebacks and all."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"):  # log 0 in a mask, say, is what the model has, too
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _told() -> Iterator[None]:
    """Make a `ModelError` of whatever the libraries raise at a model that the ONNX checker passes all the same."""
    try:
        yield
    except (TrtcalError, MemoryError):
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelError(
            f"the model is damaged, or has what cannot be prepared for quantization ({one_line(cause)}): "
            "export it again"
        ) from error


def _infer_types(graph: ir.Model) -> None:
    """Infer types and shapes; those of sequences and optional values stay as they were, unknown for most.

    onnx_ir (1.1) has the type of their elements for theirs, and ONNX Runtime refuses that.
    """
    values = [value for node in ir.traversal.RecursiveGraphIterator(graph.graph) for value in node.outputs]
    values += [*graph.graph.inputs, *(value for node in graph.graph for value in _of_branches(node))]
    untyped = [value for value in values if value.type is None and _may_be_no_tensor(value)]
    others = {value: (value.type, value.shape) for value in values if value.type and not _is_tensor(value.type)}
    common.ShapeInferencePass()(graph)
    if any("Sequence" in node.op_type or "Optional" in node.op_type for node in graph.graph.all_nodes()):
        for value in untyped:
            value.type = value.shape = None
        for value, (kind, shape) in others.items():
            value.type, value.shape = kind, shape


def _of_branches(node: ir.Node) -> Iterator[ir.Value]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from attribute.as_graph().inputs


def _is_tensor(kind: ir.TypeProtocol) -> bool:
    return isinstance(kind, ir.TensorType | ir.SparseTensorType)


def _may_be_no_tensor(value: ir.Value) -> bool:
    producer = value.producer()
    operator = "" if producer is None else producer.op_type
    return "Sequence" in operator or "Optional" in operator or operator in ("Identity", "If", "Loop", "Scan")


def _plain_splits(graph: ir.Model) -> None:
    """Take out an attribute that onnxscript's folding (0.7) writes whatever the opset: before 18, parts are equal."""
    if graph.opset_imports.get("", 0) < _NUMBERED_SPLITS:
        for node in graph.graph.all_nodes():
            if node.op_type == "Split":
                node.attributes.pop("num_outputs", None)


def _fold_batch_normalization(graph: ir.Model) -> None:
    """Fold it into a convolution or Gemm before it, where no other node takes that one's output or weights.

    A grouped ConvTranspose keeps its own: its weights hold the output channels of all groups on one axis.
    """
    from onnxscript.rewriter import RewriteRuleSet
    from onnxscript.rewriter.rules import common as rules

    if any(
        node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", 0) for node in graph.graph
    ):
        return  # it takes mean and variance from the batch; the rules do not ask
    chosen = [rules.fuse_batchnorm_into_conv_rule, rules.fuse_batchnorm_into_gemm_rule]
    grouped = any(node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) != 1 for node in graph.graph)
    if not grouped:
        chosen.append(rules.fuse_batchnorm_into_conv_transpose_rule)
    names: dict[str | None, str | None] = {}  # of the operator that each normalization may be folded into
    for node in graph.graph:
        if node.op_type == "BatchNormalization" and node.inputs[0] and (producer := node.inputs[0].producer()):
            names[node.outputs[0].name] = names.get(producer.outputs[0].name, producer.name)
    RewriteRuleSet(chosen).apply_to_model(graph)
    for node in graph.graph:
        if node.op_type != "BatchNormalization" and names.get(node.outputs[0].name):
            node.name = names[node.outputs[0].name]
