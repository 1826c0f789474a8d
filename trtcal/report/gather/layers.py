"""The section "layers": the graph from input to output, with what each layer computes in, and why."""

import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import onnx

from engines.graph.model import loaded
from engines.graph.operators import WEIGHTED, label
from engines.simulation.costs import inferred_shapes

SHOWN_SHAPES = 2
"""Outputs of a layer whose shapes are told."""


def layers_section(
    model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    precisions: Mapping[str, str],
    scales: Mapping[str, float] | None = None,
    errors: Mapping[str, float] | None = None,
    macs: Mapping[str, int] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Nodes with their places, and edges.

    Args:
        model: The float model.
        precisions: Of its layers, by label: int8, fp16, fp32.
        scales: Of what quantized layers read, by label.
        errors: SQNR of what layers give, in dB, by label.
        macs: Multiply-accumulates, by label.
        reasons: Why layers stay in float, by label.

    Returns:
        As `report.json` has it. `level` is the number of nodes on the longest way from an input, `lane` tells apart the
        nodes of a level; in time linear in the graph's size.
    """
    graph = loaded(model).graph
    constants = {each.name for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    maker = {name: place for place, node in enumerate(nodes) for name in node.output}
    shapes = inferred_shapes(loaded(model))
    levels, lanes, edges = list[int](), list[int](), list[list[int]]()
    taken: defaultdict[int, set[int]] = defaultdict(set)
    for place, node in enumerate(nodes):
        before = sorted({maker[name] for name in node.input if name in maker and name not in constants})
        edges += [[one, place] for one in before]
        level = 1 + max((levels[one] for one in before if one < len(levels)), default=-1)
        wanted = lanes[before[0]] if before else 0
        while wanted in taken[level]:
            wanted += 1
        taken[level].add(wanted)
        levels.append(level)
        lanes.append(wanted)
    rows = []
    for place, node in enumerate(nodes):
        name = label(node)
        default = "fp32" if node.op_type in WEIGHTED else "none"
        rows.append(
            {
                "name": name,
                "operator": node.op_type,
                "precision": precisions.get(name, default),
                "error_db": (errors or {}).get(name),
                "macs": (macs or {}).get(name),
                "shapes": " ".join(_shape(shapes.get(output)) for output in node.output[:SHOWN_SHAPES]),
                "scale": (scales or {}).get(name),
                "reason": (reasons or {}).get(name, ""),
                "level": levels[place],
                "lane": lanes[place],
            }
        )
    return {"nodes": rows, "edges": edges}


def _shape(sizes: Any) -> str:
    return "?" if sizes is None else "x".join("?" if size is None or size < 0 else str(size) for size in sizes)
