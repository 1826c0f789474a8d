"""Which tensors of a traced model are quantized outside of its layers: operands of additions and matrix products.

The rule for additions is that of `engines.qdq.placement`: of a residual addition the skip input, so that the addition
fuses into the convolution of the other.
"""

import operator
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812

from trtcal.qat.tracing import OWNER, VALUE

ADDITIONS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
PRODUCTS = frozenset({operator.matmul, torch.matmul, torch.bmm, torch.mm, "matmul", "bmm", "mm"})
"""Functions, and methods by name; the second operand may be constant: a weight of shape (in, out)."""

WEIGHTED: Mapping[Any, int] = {
    F.linear: 0,
    F.conv1d: 0,
    F.conv2d: 0,
    F.conv3d: 0,
    torch.conv1d: 0,
    torch.conv2d: 0,
    torch.conv3d: 0,
    F.conv_transpose1d: 1,
    F.conv_transpose2d: 1,
    F.conv_transpose3d: 1,
    torch.conv_transpose1d: 1,
    torch.conv_transpose2d: 1,
    torch.conv_transpose3d: 1,
}
"""Functions of an activation and a weight -> the weight's output channels."""

LEFT: Mapping[Any, str] = {
    torch.einsum: "einsum is not quantized: write it with matmul",
    torch.addmm: "addmm is not quantized: write it with linear, or matmul and an addition",
    torch.baddbmm: "baddbmm is not quantized: write it with matmul and an addition",
    F.scaled_dot_product_attention: "its matrix products cannot be reached: write the attention with matmul",
}
"""Functions that hold a product which stays in float."""

MOVES = frozenset(
    {operator.getitem, torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze}
) | frozenset({"view", "reshape", "flatten", "transpose", "permute", "contiguous", "squeeze", "unsqueeze"})
"""Functions and methods whose result holds values of their first argument and no others."""

MOVING_MODULES = (
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
)
PASSING_MODULES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Nothing is left of them in an exported model."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, slots=True)
class FunctionSite:
    """A function some of whose arguments are quantized.

    Attributes:
        name: Path of the module in whose forward it is, and what it is: "layer1.0.add".
        type: The function's name.
        node: The function.
        inputs: For each activation, the node that reads it, and which argument it is there. (That of a residual
            addition may be read earlier, where only moves lie in between.)
        weight: Which argument is a weight; None where there is none.
        axis: Its output channels.
        constant: The weight.
        refusal: Why it stays in float; empty where it need not.
        partner: Of a residual addition: the convolution that it is fused into.
    """

    name: str
    type: str
    node: fx.Node
    inputs: tuple[tuple[fx.Node, int], ...]
    weight: int | None = None
    axis: int | None = None
    constant: Tensor | None = None
    refusal: str = ""
    partner: fx.Node | None = None


def function_sites(model: nn.Module, graph: fx.Graph) -> tuple[FunctionSite, ...]:
    """The residual additions and the products of a graph, in order."""
    live, modules = _live(graph), dict(model.named_modules())
    fusible = {
        node
        for node in graph.nodes
        if (node.op == "call_module" and isinstance(modules[str(node.target)], CONVOLUTIONS))
        or (node.target in WEIGHTED and node.target is not F.linear)
    }
    names = _Names(model)
    sites: list[FunctionSite] = []
    for node in graph.nodes:
        if node.op not in ("call_function", "call_method") or not any(each in live for each in node.all_input_nodes):
            continue
        if node.target in ADDITIONS:
            skip, partner = _skip(node, live, fusible, modules)
            if skip is not None:
                sites.append(FunctionSite(names.of(node), "add", node, (skip,), partner=partner))
        elif node.target in PRODUCTS or node.target in WEIGHTED:
            sites.append(_product(names, node, live, model))
        elif node.op == "call_function" and node.target in LEFT:
            sites.append(_refused(names, node, LEFT[node.target]))
    return tuple(sites)


def constants(model: nn.Module, graph: fx.Graph, names: Collection[str]) -> dict[str, Tensor]:
    """What modules of a graph are given, as the parameters are now: name -> tensor, where that is constant."""
    given = {str(node.target): _argument(node, 0) for node in graph.nodes if node.op == "call_module"}
    found = {name: _constant(model, given[name]) for name in names if isinstance(given.get(name), fx.Node)}
    return {name: each for name, each in found.items() if each is not None}


def kind_of(node: fx.Node) -> str:
    """A function's name: "add" for all forms of addition, "matmul" for those of products."""
    if node.target in ADDITIONS:
        return "add"
    if node.target in PRODUCTS:
        return "matmul"
    return str(getattr(node.target, "__name__", node.target))


class _Names:
    """Names of functions, by the module in whose forward they are; each its own, and none that of something else."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._taken, self._known = model, set[str](), dict[fx.Node, str]()

    def of(self, node: fx.Node) -> str:
        """A node's name."""
        if node not in self._known:
            owner = str(node.meta.get(OWNER, ""))
            module, kind = self._model.get_submodule(owner), kind_of(node)
            tried, number = kind, 0
            while hasattr(module, tried) or f"{owner}.{tried}" in self._taken:
                number += 1
                tried = f"{kind}_{number}"
            self._taken.add(f"{owner}.{tried}")
            self._known[node] = f"{owner}.{tried}".lstrip(".")
        return self._known[node]


def _live(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on an input's values, not only on its shape."""
    live: set[fx.Node] = set()
    for node in graph.nodes:
        shape = (node.op == "call_method" and node.target in ("size", "dim", "numel")) or (
            node.target is getattr and node.args[1] in ("shape", "device", "dtype", "ndim")
        )
        if node.op == "placeholder" or (not shape and any(each in live for each in node.all_input_nodes)):
            live.add(node)
    return live


def _argument(node: fx.Node, place: int) -> Any:
    """A positional argument; None where it was given by name, or not at all."""
    return node.args[place] if place < len(node.args) else None


def _product(names: _Names, node: fx.Node, live: Collection[fx.Node], model: nn.Module) -> FunctionSite:
    """A product of what depends on an input."""
    first, second = _argument(node, 0), _argument(node, 1)
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return _refused(names, node, "its operands are given by name: give them by position")
    if first not in live:
        return _refused(names, node, "its first operand is the constant one")
    if second in live and node.target in PRODUCTS:
        return FunctionSite(names.of(node), "matmul", node, ((node, 0), (node, 1)))
    constant = None if second in live else _constant(model, second)
    if constant is None:
        return _refused(names, node, "its weights are computed at run time")
    if node.target in PRODUCTS and constant.dim() != 2:
        return _refused(names, node, f"its constant operand has {constant.dim()} dimensions, not 2")
    axis = WEIGHTED.get(node.target, 1)
    return FunctionSite(names.of(node), kind_of(node), node, ((node, 0),), weight=1, axis=axis, constant=constant)


def _refused(names: _Names, node: fx.Node, why: str) -> FunctionSite:
    return FunctionSite(names.of(node), kind_of(node), node, (), refusal=why)


def _constant(model: nn.Module, node: fx.Node) -> Tensor | None:
    """The tensor that a node without an input's values gives; None where it depends on an input's shape."""

    def value(given: fx.Node) -> Any:
        if given.op == "placeholder":
            raise LookupError(given.name)
        if VALUE in given.meta:
            return given.meta[VALUE]
        if given.op == "get_attr":
            found: Any = model
            for part in str(given.target).split("."):
                found = getattr(found, part)
            return found
        args, kwargs = fx.node.map_arg((given.args, given.kwargs), value)
        if given.op == "call_module":
            return model.get_submodule(str(given.target))(*args, **kwargs)
        if given.op == "call_method":
            return getattr(args[0], str(given.target))(*args[1:], **kwargs)
        assert callable(given.target)
        return given.target(*args, **kwargs)

    try:
        with torch.no_grad():
            found = value(node)
    except LookupError:
        return None
    return found if isinstance(found, Tensor) else None


Skip = tuple[tuple[fx.Node, int], fx.Node] | tuple[None, None]


def _skip(
    node: fx.Node, live: Collection[fx.Node], fusible: Collection[fx.Node], modules: Mapping[str, nn.Module]
) -> Skip:
    """The argument of a residual addition to quantize: who reads it, and where; the convolution that it goes with."""
    first, second = _argument(node, 0), _argument(node, 1)
    scaled = node.kwargs.get("alpha", 1) != 1
    if scaled or not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second:
        return None, None
    fused = [_fused(value, fusible, modules) for value in (first, second)]
    if first not in live or second not in live or not any(fused):
        return None, None
    place = _nearer(first, second, modules) if all(fused) else fused.index(None)
    partner = fused[1 - place]
    assert partner is not None
    return _before_moves(node, place, modules), partner


def _fused(value: fx.Node, fusible: Collection[fx.Node], modules: Mapping[str, nn.Module]) -> fx.Node | None:
    """The convolution (with batch normalization or not) that gives a value, where nothing else reads it."""
    if len(value.users) != 1:
        return None
    if _is_module(value, (*NORMS, *PASSING_MODULES), modules) or value.target in (F.batch_norm, F.dropout):
        source = _argument(value, 0)
        return _fused(source, fusible, modules) if isinstance(source, fx.Node) else None
    return value if value in fusible else None


def _before_moves(node: fx.Node, place: int, modules: Mapping[str, nn.Module]) -> tuple[fx.Node, int]:
    """An argument, moved back before what only moves or pads its values for no other reader."""
    value = _argument(node, place)
    if not isinstance(value, fx.Node) or len(value.users) != 1 or not isinstance(_argument(value, 0), fx.Node):
        return node, place
    source = _argument(value, 0)
    alone = len(value.all_input_nodes) == 1 and source.target not in (torch.split, torch.chunk, "split", "chunk")
    moves = value.target in MOVES or _pads_with_zero(value)
    if alone and (moves or _is_module(value, (*MOVING_MODULES, *PASSING_MODULES), modules)):
        return _before_moves(value, 0, modules)
    return node, place


def _pads_with_zero(node: fx.Node) -> bool:
    if node.target not in (F.pad, torch.nn.functional.pad):
        return False
    mode = _argument(node, 2) or node.kwargs.get("mode", "constant")
    value = _argument(node, 3) or node.kwargs.get("value", 0)
    return mode == "constant" and not value


def _is_module(node: fx.Node, kinds: tuple[type, ...], modules: Mapping[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], kinds)


def _nearer(first: fx.Node, second: fx.Node, modules: Mapping[str, nn.Module]) -> int:
    """Which of two values has the shorter path back to where they part; the second where both are as near."""
    near, far = _distances(first, modules), _distances(second, modules)
    common = near.keys() & far.keys()
    if not common:
        return 1
    origin = min(common, key=lambda value: (near[value] + far[value], value.name))
    return 0 if near[origin] < far[origin] else 1


def _distances(value: fx.Node, modules: Mapping[str, nn.Module]) -> dict[fx.Node, int]:
    """Operators between a value and each value it comes from; those that an exported model keeps count."""
    distances, waiting = {value: 0}, deque([value])
    while waiting:
        current = waiting.popleft()
        step = 0 if _is_module(current, (*NORMS, *PASSING_MODULES), modules) else 1
        for origin in _origins(current):
            if origin not in distances or distances[origin] > distances[current] + step:
                distances[origin] = distances[current] + step
                waiting.append(origin)
    return distances


def _origins(node: fx.Node) -> Iterator[fx.Node]:
    return (each for each in node.all_input_nodes if each.op != "get_attr")
