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
from engines.graph.model import ModelSource, load_model, loaded
from engines.graph.operators import label
from engines.passes.fold import fold
from engines.passes.opset import IR_VERSION_OF_21, LOWEST_OPSET, with_opset
from engines.passes.proof import proved

UNPROVED = "trtcal.unproved"
"""Of a prepared model: why it was not proved to compute what the original does, in words; empty where it was."""

LOWEST_IR_VERSION = 8
"""Before version 4, initializers had to be inputs too; 8 goes with opset 15 and is read by every runtime of
interest."""


def prepared(model: ModelSource, *, opset: int = LOWEST_OPSET, light: bool = False) -> ir.Model:
    """The model with functions inlined, constants and batch normalization folded, and its opset raised.

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
        graph = with_opset(graph, opset)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        common.ShapeInferencePass()(graph)
        fold_constants(graph, onnx_shape_inference=False)
        fold(graph)
        _fold_batch_normalization(graph)
        common.RemoveUnusedNodesPass()(graph)
        common.RemoveUnusedOpsetsPass()(graph)
    graph.ir_version = max(graph.ir_version, LOWEST_IR_VERSION if opset <= LOWEST_OPSET else IR_VERSION_OF_21)
    if not light:  # else whoever reads the weights proves it
        graph.meta[UNPROVED] = proved(model, graph)
    return graph


def _read(model: ModelSource) -> ir.Model:
    if isinstance(model, onnx.ModelProto):
        return ir.from_proto(loaded(model))
    load_model(model, weights=False)
    read = ir.load(os.fspath(model))  # weights stay in their file until they are asked for
    return ir.from_proto(load_model(model, check=False)) if read.functions else read


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


def _fold_batch_normalization(graph: ir.Model) -> None:
    """Fold it into a convolution or Gemm before it, where no other node takes that one's output or weights.

    A grouped ConvTranspose keeps its own: its weights hold the output channels of all groups on one axis.
    """
    from onnxscript.rewriter import RewriteRuleSet
    from onnxscript.rewriter.rules import common as rules

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
