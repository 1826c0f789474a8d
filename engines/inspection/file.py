"""What a file runs: an engine, by its side-car, or an ONNX model, by its Q/DQ nodes."""

import os
from pathlib import Path

from calibrators.batches import TensorSpec
from engines.graph.model import input_specs, load_model
from engines.inspection.engine_record import Engine
from engines.structure.lint import Structure, structure_of


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether a file is taken for an ONNX model, by its name."""
    return Path(path).suffix.lower() == ".onnx"


def inspect(path: str | os.PathLike[str]) -> Engine | Structure:
    """Tell in which precision an engine runs each layer, or how an ONNX model is quantized; and what is wrong with it.

    Args:
        path: An engine that trtcal built, which is described by its side-car: no GPU is needed. Or an ONNX model.

    Returns:
        Of an engine, itself: `record` has its operators, kernels and findings. Of a model, its weighted operators with
        the Q/DQ nodes on their inputs, and findings.

    Raises:
        BuildError: The engine or its side-car is missing, or they do not belong together.
        ModelError: The model cannot be read.
    """
    return structure_of(load_model(path)) if is_model(path) else Engine.load(path)


def inputs_of(path: str | os.PathLike[str]) -> tuple[TensorSpec, ...]:
    """What an ONNX model takes, or an engine, by its side-car.

    Raises:
        BuildError: As `inspect`.
        ModelError: Likewise.
    """
    return input_specs(load_model(path, weights=False)) if is_model(path) else Engine.load(path).inputs
