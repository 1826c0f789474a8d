"""ONNX's own node tests through `quantize`: each is done, or refused in one line, and none comes out wrong."""

import os
import warnings
from collections import Counter

import pytest

from tests.nodes.cases import PRODUCT, SMALLEST, Case, cases
from tests.nodes.trial import outcome

SWITCH = "TRTCAL_NODES"
"""Set, it has all of them tried, which takes minutes; else a few."""

FEW = ("test_relu", "test_conv_with_strides", "test_maxpool_2d_default", "test_layer_normalization_4d_axis2")
"""Words of names: elementwise, weighted, pooling with a commuting scale, and one of several operators when expanded."""


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """Without what ONNX's own tests say of divisions by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tried(folder, *words):
    found = [outcome(case, folder) for word in words for case in cases(word)]
    return Counter(each.kind for each in found), [str(each) for each in found if each.kind == "wrong"]


@pytest.mark.slow
@pytest.mark.skipif(SWITCH not in os.environ, reason=f"takes minutes: set {SWITCH}=1 (tests/nodes/README.md)")
def test_none_is_wrong(tmp_path):
    counts, wrong = tried(tmp_path, "")
    print(dict(counts))  # noqa: T201 - the counts are what is asked for
    assert wrong == []
    assert counts["done"] > counts["refused"]


def test_of_a_few_none_is_wrong(tmp_path):
    counts, wrong = tried(tmp_path, *FEW)
    assert wrong == []
    assert counts["done"] >= 2 * len(FEW)


def test_a_product_of_enough_rows_and_columns_is_behind_each():
    (case,) = (each for each in cases("test_conv_with_strides_padding") if each.name.endswith("(stored)"))
    assert isinstance(case, Case)
    (product,) = (node for node in case.model.graph.node if node.name == PRODUCT)
    (matrix,) = (tensor for tensor in case.model.graph.initializer if tensor.name == product.input[1])
    assert min(matrix.dims) >= SMALLEST
    assert case.product in [value.name for value in case.model.graph.output]


def test_a_changed_function_is_found(tmp_path, monkeypatch):
    """As if the writer had lost an operator: a trial that cannot fail tells nothing."""
    import trtcal
    from trtcal.pipeline import quantize

    def losing(model, cache, *, output):
        made = quantize(model, cache)
        for node in made.model.graph.node:
            if node.op_type == "Abs":
                node.op_type = "Neg"
        output.write_bytes(made.model.SerializeToString())
        return made

    monkeypatch.setattr(trtcal, "quantize", losing)
    (case,) = cases("test_abs")
    found = outcome(case, tmp_path)
    assert found.kind == "wrong"
    assert "is not what it was" in found.why
    assert "dB" in found.why
