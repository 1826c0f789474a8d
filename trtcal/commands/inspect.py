"""`trtcal inspect`: what an engine really runs, and how an ONNX model is quantized."""

from pathlib import Path
from typing import Annotated

import typer

from calibrators.errors import BuildError
from trtcal.commands import options
from trtcal.tables import console


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="ENGINE|ONNX", help="An engine that trtcal built, or an ONNX model.", show_default=False
        ),
    ],
    *,
    kernels: Annotated[bool, typer.Option("--kernels", help="List every kernel of the engine.")] = False,
    json: options.Json = False,
) -> None:
    """Show in which precision an engine runs each layer, or an ONNX model's Q/DQ nodes; and what is wrong with them.

    Of an engine: how many kernels run in each precision, findings, and every operator that has weights; with
    --kernels every kernel instead, the Q/DQ nodes it takes in left out. N is a size that is free. An engine is
    described by its side-car, ENGINE.json, which trtcal build writes: no GPU is needed.

    In a narrow terminal long names are cut in the middle; a pipe or --json has them whole.
    """
    if file.suffix.lower() == ".onnx":
        if kernels:
            raise BuildError(f"--kernels is for engines, and {file} is an ONNX model: leave it out, or build the model")
        _inspect_model(file, json=json)
    else:
        _inspect_engine(file, kernels=kernels, json=json)


def _inspect_engine(path: Path, *, kernels: bool, json: bool) -> None:
    from engines.inspection.engine_record import Engine
    from trtcal.tables.engine import as_dict, show

    record = Engine.load(path).record
    if json:
        console.emit_json(as_dict(path, record))
    else:
        show(path, record, kernels=kernels)


def _inspect_model(path: Path, *, json: bool) -> None:
    from engines.graph.model import load_model
    from engines.structure.lint import structure_of
    from trtcal.tables.structure import as_dict, show

    structure = structure_of(load_model(path))
    if json:
        console.emit_json(as_dict(path, structure))
    else:
        show(path, structure)
