"""Models whose outputs are known exactly: the first number of a sample's input says which row of a table comes out."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.sessions.onnxruntime import OnnxRuntimeSession


def ran(tables, rows, size):
    """The outputs of a model in ONNX Runtime for samples that ask for these rows of the tables, by output name."""
    images = np.zeros((len(rows), 3, *size), np.float32)
    images[:, 0, 0, 0] = rows
    with OnnxRuntimeSession(model(tables, size)) as session:
        return session.run({"image": images})


def model(tables, size, batch="N"):
    """Of one input (N, 3, rows, columns) and an output by table, of the table's shape and type."""
    nodes = [
        helper.make_node("Slice", ["image", "starts", "ends"], ["corner"]),
        helper.make_node("Reshape", ["corner", "flat"], ["number"]),
        helper.make_node("Cast", ["number"], ["row"], to=TensorProto.INT64),
    ]
    constants = {
        "starts": np.array([0, 0, 0, 0]),
        "ends": np.array([2**31 - 1, 1, 1, 1]),
        "flat": np.array([-1]),
    }
    outputs = []
    for name, table in tables.items():
        constants[f"{name}_table"] = table
        nodes.append(helper.make_node("Gather", [f"{name}_table", "row"], [name], axis=0))
        kind = helper.np_dtype_to_tensor_dtype(table.dtype)
        outputs.append(helper.make_tensor_value_info(name, kind, [batch, *table.shape[1:]]))
    graph = helper.make_graph(
        nodes,
        "exact",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, *size])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def rows_of(found):
    """What was found as (score, class, left, top, right, bottom), sorted, for comparison whatever the order of ties."""
    return sorted(
        (float(score), int(number), *map(float, box))
        for score, number, box in zip(found.scores, found.classes, found.boxes, strict=True)
    )


def same(found, expected):
    """Asserts that boxes are equal to 0.01 pixel, scores to 1e-6 and classes exactly."""
    found, expected = rows_of(found), sorted(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one[1] == other[1]
        assert abs(one[0] - other[0]) < 1e-6
        assert max(abs(a - b) for a, b in zip(one[2:], other[2:], strict=True)) < 0.01
