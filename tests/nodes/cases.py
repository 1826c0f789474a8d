"""ONNX's own node tests, each with a matrix product behind an output, in up to three forms.

1. `given`: all that a test feeds are inputs of the model, as ONNX has it.
2. `samples`: only those are that have as many samples, on the first axis, as the first input of floats.
3. `stored`: only that first one is. In both, the others are constants, as weights and settings are in real models.

Behind the first output that holds numbers stand SequenceAt (of a sequence), Cast (of other types than FP32), Reshape to
the rows of the test's first axis, Tile where a row has fewer than `SMALLEST` numbers, and a MatMul with a constant
matrix. The outputs of the test stay outputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

SMALLEST = 16
"""Rows and columns of a matrix from which on TensorRT gains by INT8."""

PRODUCT = "behind/MatMul"
"""What the product is called."""

OPSET = 21
"""Of tests whose operators are of another domain alone."""

LISTS_NO_INITIALIZERS = 4
"""The IR version from which on initializers need not be inputs."""

HOPELESS = {
    "test_attention_4d_softcap_neginf_mask_poison_expanded (stored)": "its constant has 1000 beside 1, on purpose"
}
"""What INT8 cannot hold, whoever quantizes it, and why."""

Form = Literal["given", "samples", "stored"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A node test.

    Attributes:
        name: ONNX's name of it, and the form.
        model: With the product behind it.
        feed: The test's data, by input: arrays, or lists of them for sequences, or None.
        product: The name of the product's output.
    """

    name: str
    model: onnx.ModelProto
    feed: dict[str, Any]
    product: str


@dataclass(frozen=True, slots=True)
class Apart:
    """A node test that says nothing of quantization, and why."""

    name: str
    why: str


def cases(word: str = "") -> Iterator[Case | Apart]:
    """The tests whose names hold `word`, by name, in each form that differs from the ones before."""
    for test in sorted(collect_testcases(None), key=lambda test: test.name):
        if word in test.name:
            values = [_value(each) for each in test.data_sets[0][0]]
            inputs = dict(zip((value.name for value in test.model.graph.input), values, strict=True))
            for form, kept in _forms(inputs).items():
                yield _case(test, f"{test.name} ({form})", inputs, kept)


def _value(value: Any) -> Any:
    """What a test feeds or expects, as an array where it is a tensor."""
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _forms(inputs: dict[str, Any]) -> dict[Form, list[str]]:
    """The names of the inputs that stay inputs."""
    forms: dict[Form, list[str]] = {"given": list(inputs)}
    arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    first = next((name for name, array in arrays.items() if array.dtype.kind == "f" and array.size), None)
    if first is not None and len(arrays) == len(inputs):
        size = arrays[first].shape[:1]
        alike = [name for name, array in arrays.items() if array.shape[:1] == size and array.ndim > 0]
        others: tuple[tuple[Form, list[str]], ...] = (("samples", alike), ("stored", [first]))
        forms.update((form, kept) for form, kept in others if kept and kept not in forms.values())
    return forms


def _case(test: Any, name: str, inputs: dict[str, Any], kept: list[str]) -> Case | Apart:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    model.ir_version = max(model.ir_version, LISTS_NO_INITIALIZERS)
    if not any(entry.domain == "" for entry in model.opset_import):
        model.opset_import.add(domain="", version=OPSET)
    graph = model.graph
    for value in [value for value in graph.input if value.name not in kept]:
        graph.input.remove(value)
        graph.initializer.append(numpy_helper.from_array(inputs[value.name], value.name))
    expected = zip(graph.output, map(_value, test.data_sets[0][1]), strict=True)
    numbers = next(((value.name, example) for value, example in expected if _is_numbers(example)), None)
    if numbers is None or name in HOPELESS:
        return Apart(name, HOPELESS.get(name, "it gives no numbers"))
    product = _add_product(graph, *numbers)
    return Case(name, model, {name: inputs[name] for name in kept}, product)


def _is_numbers(example: Any) -> bool:
    if isinstance(example, list):
        return bool(example) and _is_numbers(example[0])
    return isinstance(example, np.ndarray) and example.size > 0 and example.dtype.kind not in "OSUc"


def _add_product(graph: onnx.GraphProto, name: str, example: Any) -> str:
    """Put a product behind the output `name`, which holds values such as `example`; its name."""

    def node(operator: str, *inputs: str, **attributes: Any) -> str:
        made = f"behind_{operator}"
        graph.node.append(helper.make_node(operator, list(inputs), [made], name=f"behind/{operator}", **attributes))
        return made

    def constant(array: Array) -> str:
        graph.initializer.append(numpy_helper.from_array(array, f"behind_constant_{len(graph.initializer)}"))
        return graph.initializer[-1].name

    if isinstance(example, list):
        name, example = node("SequenceAt", name, constant(np.asarray(0))), np.asarray(example[0])
    if example.dtype != np.float32:
        name = node("Cast", name, to=TensorProto.FLOAT)
    rows = example.shape[0] if example.ndim > 1 else 1
    width = example.size // rows
    name = node("Reshape", name, constant(np.asarray([rows, width])))
    if width < SMALLEST:
        times = -(-SMALLEST // width)
        name, width = node("Tile", name, constant(np.asarray([1, times]))), width * times
    matrix = np.random.default_rng(0).standard_normal((width, SMALLEST)) / np.sqrt(width)
    name = node("MatMul", name, constant(matrix.astype(np.float32)))
    assert graph.node[-1].name == PRODUCT
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (rows, SMALLEST)))
    return name
