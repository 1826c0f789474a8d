"""Where additions and products are quantized: at the sites that `engines.qdq.placement` finds in the exported model."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn
from torch.nn import functional

from engines.passes.prepare import prepared
from engines.qdq.placement import planned
from tests.trtcal.qat.networks import (
    IMAGES,
    Attention,
    Functions,
    Inverted,
    Residual,
    Segmenter,
    exported,
    images,
    settled,
)
from trtcal.qat.functions import function_sites
from trtcal.qat.tracing import traced

OPERATORS = {"Conv": "conv", "ConvTranspose": "conv", "Gemm": "linear", "MatMul": "linear"}
CLASSES = {nn.Conv2d: "conv", nn.ConvTranspose2d: "conv", nn.Linear: "linear"}


def sites(model):
    trace = traced(model, leaves=(), modes=(False,))
    return function_sites(model, trace.graph), trace.graph


def named(model):
    return [site.name for site in sites(model)[0]]


@pytest.mark.parametrize(
    "model, shape",
    [
        (Residual(), IMAGES),
        (Residual(padded=True), IMAGES),
        (Inverted(), IMAGES),
        (Segmenter(), IMAGES),
        (Functions(), IMAGES),
    ],
    ids=["residual", "padded", "inverted", "segmenter", "functions"],
)
def test_the_sites_are_those_of_the_exported_model(model, shape, tmp_path):
    """In order: of layers and products what they are, of additions which operator reads what is quantized."""
    model = settled(model, *shape)
    path = exported(model, images(2, *shape[1:]), tmp_path / "model.onnx")
    expected = []
    for site in planned(prepared(path)).sites:
        producer = site.node.inputs[site.activation].producer()
        source = None if producer is None else producer.op_type
        expected.append((OPERATORS.get(site.node.op_type, "skip"), source if site.weight is None else None))
    functions, graph = sites(model)
    modules = dict(model.named_modules())
    found = {node: ("skip", None) for site in functions for node, _ in site.inputs}
    for site in functions:
        if site.weight is not None:
            found[site.node] = ({"conv2d": "conv"}.get(site.type, "linear"), None)
        else:
            reader, place = site.inputs[0]
            source = reader.args[place]
            kind = type(modules.get(str(source.target))).__name__ if source.op == "call_module" else source.name
            found[reader] = ("skip", {"ReLU": "Relu", "ReLU6": "Clip", "BatchNorm2d": "Conv"}.get(kind, "Relu"))
    order = []
    for node in graph.nodes:
        if node in found:
            order.append(found[node])
        elif node.op == "call_module" and type(modules[str(node.target)]) in CLASSES:
            order.append((CLASSES[type(modules[str(node.target)])], None))
    assert order == expected


def test_a_product_of_two_activations_has_both_of_them_quantized():
    functions, _ = sites(Attention())
    assert [(site.name, site.type, len(site.inputs)) for site in functions] == [
        ("matmul", "matmul", 2),
        ("matmul_1", "matmul", 2),
    ]


def test_weights_of_functions_are_found_with_their_output_channels():
    functions, _ = sites(Functions())
    assert [(site.name, site.weight, site.axis, tuple(site.constant.shape)) for site in functions] == [
        ("conv2d", 1, 0, (6, 3, 3, 3)),
        ("linear", 1, 0, (5, 6)),
        ("matmul", 1, 1, (5, 4)),
    ]


class One(nn.Module):
    """A convolution, another one, and whatever is done with both."""

    def __init__(self, join):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.weight, self.join = nn.Parameter(torch.randn(3, 3)), join

    def forward(self, x):
        return self.join(self, x)


@pytest.mark.parametrize(
    "join, source",
    [
        (lambda m, x: torch.add(m.first(x), x), "x"),
        (lambda m, x: x + m.first(x), "x"),
        (lambda m, x: m.first(x).add(x), "x"),
        (lambda m, x: m.first(x).add_(x), "x"),
        (lambda m, x: m.first(x) + m.second(torch.relu(m.first(x))), "first"),
        (lambda m, x: m.second(torch.relu(m.first(x))) + m.first(x), "first_1"),
        (lambda m, x: functional.dropout(m.first(x), 0.1) + torch.relu(x), "relu"),
        (lambda m, x: m.first(x) + torch.relu(x).transpose(2, 3), "relu"),
        (lambda m, x: functional.conv2d(x, m.weight[:, :, None, None]) + x, "x"),
    ],
)
def test_the_skip_input_of_an_addition_is_quantized(join, source):
    functions, _ = sites(One(join))
    (add,) = [site for site in functions if site.type == "add"]
    (reader, place) = add.inputs[0]
    assert str(reader.args[place]) == source


@pytest.mark.parametrize(
    "join",
    [
        lambda m, x: m.first(x) + 1,
        lambda m, x: m.first(x) + m.weight,
        lambda m, x: torch.add(m.first(x), x, alpha=2),
        lambda m, x: torch.relu(m.first(x)) + x,
        lambda m, x: (y := m.first(x)) + y,
        lambda m, x: (y := m.first(x)) + x * y,
        lambda m, x: x.shape[0] + m.first(x),
        lambda m, x: m.first(x) - x,
    ],
)
def test_other_additions_stay_in_float(join):
    assert not sites(One(join))[0]


@pytest.mark.parametrize(
    "join, reason",
    [
        (lambda m, x: torch.einsum("nchw,cd->ndhw", m.first(x), m.weight), "einsum is not quantized"),
        (lambda m, x: torch.matmul(m.weight, x.flatten(2)), "its first operand is the constant one"),
        (lambda m, x: functional.conv2d(x, x.mean((0, 2, 3))[None, :, None, None]), "computed at run time"),
        (lambda m, x: functional.linear(x.mean((2, 3)), weight=m.weight), "given by name: give them by position"),
        (lambda m, x: x.flatten(2).transpose(1, 2) @ m.weight[None], "has 3 dimensions, not 2"),
        (lambda m, x: functional.scaled_dot_product_attention(x, x, x), "write the attention with matmul"),
    ],
)
def test_products_that_stay_in_float_are_named_with_the_reason(join, reason):
    functions, _ = sites(One(join))
    (site,) = functions
    assert reason in site.refusal and not site.inputs


def test_names_are_of_the_module_and_never_those_of_something_else():
    model = One(lambda m, x: (x.flatten(2).transpose(1, 2) @ m.weight) @ m.weight)
    model.matmul = nn.Identity()
    assert named(model) == ["matmul_1", "matmul_2"]
    assert named(nn.Sequential(nn.Sequential(model))) == ["0.0.matmul_1", "0.0.matmul_2"]


def test_products_of_constants_are_none_of_ours():
    model = One(lambda m, x: x.mean((2, 3)) @ (m.weight @ m.weight))
    functions, _ = sites(model)
    assert [site.name for site in functions] == ["matmul"]
    torch.testing.assert_close(functions[0].constant, model.weight @ model.weight)
