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
    from engines.inspection.engine_record import Engine
    from engines.inspection.file import inspect as inspected
    from engines.inspection.file import is_model
    from trtcal.tables.inspection import engine, structure

    if kernels and is_model(file):
        raise BuildError(f"--kernels is for engines, and {file} is an ONNX model: leave it out, or build the model")
    found = inspected(file)
    if isinstance(found, Engine):
        if json:
            console.emit_json(engine.as_dict(file, found.record))
        else:
            engine.show(file, found.record, kernels=kernels)
    elif json:
        console.emit_json(structure.as_dict(file, found))
    else:
        structure.show(file, found)
